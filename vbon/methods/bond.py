"""J-BOND: best-of-2 of an anchor that follows the policy, again and again."""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float64
from torch import Tensor

from vbon.batches import Scored
from vbon.methods.base import Anchored
from vbon.methods.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class Bond(Anchored):
    r"""Approach best-of-2 of an anchor :math:`\bar\pi`, which follows, by both KL divergences.

    With :math:`\beta` for ``backward_weight`` and :math:`\gamma` for ``regularisation``, minimise
    :math:`-(1 - \beta)\, E[\log \pi_\theta(y^*)] - \beta\, E[r_J(y)] +
    (\beta + \gamma)\, KL(\pi_\theta \| \bar\pi)`, :math:`y^*` the better of two draws of the
    anchor. Best-of-2 of best-of-n is best-of-2n, so the number of ``updates`` replaces n. Needs no
    log F and no stored draws; draws three responses where other methods draw one.
    """

    label = "J-BOND"

    paper = "Sessa et al. (2024), arXiv:2407.14622v1, algorithm 2"
    optimum = None
    rank_based = True

    regularisation: float = 0.0
    """Further penalty for leaving the anchor, gamma in the paper, at least 0."""
    kl_coef: float = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_number("regularisation", 0)
        object.__setattr__(self, "kl_coef", self.backward_weight + self.regularisation)

    def reward(self, scored: Scored) -> Float64[Tensor, " batch"]:
        r"""The weighted :math:`\beta\, r_J`: -log 16 for a response below both of the anchor's."""
        if scored.anchor_rewards is None:
            raise TypeError("bond compares with draws of the anchor; `anchor_rewards` is missing")
        below = scored.reward < scored.anchor_rewards.amin(1)
        return torch.where(below, -self.backward_weight * math.log(16), 0.0).to(scored.reward)

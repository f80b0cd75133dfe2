"""KL-regularised RL with the win rate over the reference as the reward."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float64
from torch import Tensor

from vbon.batches import Scored
from vbon.methods.base import Online
from vbon.methods.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class WinRate(Online):
    r"""Maximise :math:`E[u(y)] - \beta\, KL(\pi_\theta \| \pi_\mathrm{ref})`.

    The win rate :math:`u = F + q/2` of a response over the reference counts ties, of probability
    q, half. No policy of the same KL divergence has a larger mean of it than the optimum.
    """

    label = "win-rate RL"

    paper = "Balashankar et al. (2024), arXiv:2412.19792, CTRL with the transform identity"
    needs = ("logf",)
    optimum = "win_rate"
    rank_based = True
    example: ClassVar = {"kl_coef": 0.25}

    kl_coef: float
    """Coefficient of the KL divergence, above 0."""

    def __post_init__(self) -> None:
        self._check_number("kl_coef", 0, strict=True)

    def reward(self, scored: Scored) -> Float64[Tensor, " batch"]:
        """Win rate of the response over the reference, from 0 to 1."""
        return scored.log_below.exp() + scored.log_level.exp() / 2

"""vBoN: fit the best-of-n distribution by minimising the reverse KL divergence to it."""

import math
from dataclasses import dataclass, field

from jaxtyping import Float64
from torch import Tensor

from vbon.batches import Scored
from vbon.methods.base import Online
from vbon.methods.registry import register
from vbon.objectives.best_of_n import log_bon_ratio


@register
@dataclass(frozen=True, kw_only=True)
class VBoN(Online):
    r"""Maximise :math:`(n-1)^{-1}\{E[S(y)] - KL(\pi_\theta \| \pi_\mathrm{ref})\}`.

    :math:`S = \log \pi_\mathrm{bon} - \log \pi_\mathrm{ref}`, so this is the negative KL
    divergence to best-of-n. The factor does not move the optimum and scales rewards and
    ``kl_coef`` like those of PPO.
    """

    label = "vBoN"
    colour = "#0072b2"
    dark_colour = "#3d9be9"
    marker = "o"
    order = 6

    paper = "Amini et al. (2025), arXiv:2407.06057v3, equation 5"
    needs = ("logf",)
    optimum = "best_of_n"
    rank_based = True

    n: float
    """Draws of the best-of-n that is fitted, any number from 1; at 1 it is the reference."""
    kl_coef: float = field(init=False)

    def __post_init__(self) -> None:
        self._check_number("n", 1)
        object.__setattr__(self, "kl_coef", 1 / (self.n - 1) if self.n > 1 else math.inf)

    @property
    def is_reference(self) -> bool:
        """Best of one draw is the draw."""
        return self.n == 1

    def reward(self, scored: Scored) -> Float64[Tensor, " batch"]:
        """The scaled log-ratio S / (n - 1)."""
        return self.kl_coef * log_bon_ratio(scored.log_below, scored.log_level, self.n)

"""vBoN's bound L: the logarithm of the reward's distribution function as the reward."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor

from vbon.batches import Scored
from vbon.errors import ConfigError
from vbon.methods.base import Online
from vbon.methods.registry import register
from vbon.objectives.best_of_n import floored


@register
@dataclass(frozen=True, kw_only=True)
class VBoNL(Online):
    r"""Maximise :math:`E[\log F(y)] - (n-1)^{-1} KL(\pi_\theta \| \pi_\mathrm{ref})`.

    This is the lower bound L of theorem 2, divided by n - 1. Give ``n``, or ``kl_coef`` = 1/(n-1).
    """

    label = "vBoN (L bound)"
    colour = "#56b4e9"
    dark_colour = "#9ad7fb"
    marker = "X"
    dashes = (0, (3, 2))
    order = 7

    paper = "Amini et al. (2025), arXiv:2407.06057v3, theorem 2"
    needs = ("logf",)
    optimum = "lower_bound"
    rank_based = True
    example: ClassVar = {"n": 3}

    n: float | None = None
    """Draws of the best-of-n that is approached, any number from 1."""
    kl_coef: float | None = None
    """Coefficient of the KL divergence, above 0."""

    def __post_init__(self) -> None:
        if (self.n is None) == (self.kl_coef is None):
            raise ConfigError(
                f"methods.vbon_l: give exactly one of n and kl_coef, got n = {self.n} and "
                f"kl_coef = {self.kl_coef}"
            )
        if self.n is None:
            self._check_number("kl_coef", 0, strict=True)
            object.__setattr__(self, "n", 1 + 1 / self.kl_coef)
        else:
            self._check_number("n", 1)
            object.__setattr__(self, "kl_coef", 1 / (self.n - 1) if self.n > 1 else math.inf)

    @property
    def is_reference(self) -> bool:
        """Best of one draw is the draw."""
        return self.n == 1

    def reward(self, scored: Scored) -> Float64[Tensor, " batch"]:
        """Log F of the response's reward, finite also where the exact F is 0."""
        return finite_log_below(scored.log_below)


def finite_log_below(log_below: Float64[Tensor, " batch"]) -> Float64[Tensor, " batch"]:
    """Log F with a floor where F = 0: one string always has the lowest reward of all.

    Estimates from a pool are finite and are returned unchanged.
    """
    return torch.where(log_below.isneginf(), floored(log_below), log_below)

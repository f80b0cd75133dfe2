"""vBoN's bound L1: looser than L, and degenerate; for languages that can be enumerated."""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from vbon.batches import Scored
from vbon.methods.base import Online
from vbon.methods.registry import register
from vbon.methods.vbon_l import finite_log_below
from vbon.objectives.bounds import l1_coefficients


@register
@dataclass(frozen=True, kw_only=True)
class VBoNL1(Online):
    r"""Maximise :math:`E[\log F + (\beta \log \pi_\mathrm{ref} - \log \pi_\theta) / \gamma]`.

    This is the lower bound L1 of theorem 3 divided by :math:`\gamma = n(n-1)/2`, with
    :math:`\beta = n(n+1)/2`. Its optimum sharpens the reference until one string remains.
    """

    label = "vBoN (L1 bound)"
    colour = "#332288"
    dark_colour = "#a495f5"
    marker = "p"
    order = 8

    paper = "Amini et al. (2025), arXiv:2407.06057v3, theorem 3"
    needs = ("logf",)
    optimum = "lower_bound_l1"
    rank_based = True

    n: float
    """Draws of the best-of-n that is approached, any number from 1."""
    kl_coef: float = field(init=False)

    def __post_init__(self) -> None:
        self._check_number("n", 1)
        gamma = l1_coefficients(self.n)[2]
        object.__setattr__(self, "kl_coef", 1 / gamma if self.n > 1 else math.inf)

    @property
    def is_reference(self) -> bool:
        """With one draw only the divergence to the reference remains."""
        return self.n == 1

    def reward(self, scored: Scored) -> Float64[Tensor, " batch"]:
        """Log F of the response's reward, finite also where the exact F is 0."""
        return finite_log_below(scored.log_below)

    def log_tilt(self, scored: Scored) -> Float64[Tensor, " batch"]:
        """The optimum is proportional to F^gamma times the reference to the power beta."""
        _, beta, gamma = l1_coefficients(self.n)
        return gamma * self.reward(scored) + (beta - 1) * scored.log_prob_ref

    def token_rewards(
        self,
        token_log_probs: Float[Tensor, "batch tokens"],
        token_log_probs_ref: Float[Tensor, "batch tokens"],
        mask: Bool[Tensor, "batch tokens"],
    ) -> Float[Tensor, "batch tokens"]:
        """Beta / gamma times the reference's log-prob, minus the policy's over gamma."""
        _, beta, _ = l1_coefficients(self.n)
        rewards = self.kl_coef * (beta * token_log_probs_ref - token_log_probs)
        return torch.where(mask, rewards, 0.0)

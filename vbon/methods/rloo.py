"""RLOO: PPO's objective with the prompt's other responses as baseline."""

from dataclasses import dataclass

from vbon.methods.ppo import PPO
from vbon.methods.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class RLOO(PPO):
    r"""Maximise :math:`E[r(y)] - \beta\, KL(\pi_\theta \| \pi_\mathrm{ref})` without a value head.

    The penalty for leaving the reference is part of a response's return, and all its tokens share
    one advantage. Needs ``draws_per_prompt`` of at least 2.
    """

    label = "RLOO"

    paper = "Ahmadian et al. (2024), arXiv:2402.14740v2, equation 8"
    leave_one_out = True

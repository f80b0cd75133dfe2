"""PPO on the KL-regularised reward: the usual reinforcement learning from a reward model."""

from dataclasses import dataclass

from jaxtyping import Float64
from torch import Tensor

from vbon.batches import Scored
from vbon.methods.base import Online
from vbon.methods.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class PPO(Online):
    r"""Maximise :math:`E[r(y)] - \beta\, KL(\pi_\theta \| \pi_\mathrm{ref})`."""

    label = "PPO"
    colour = "#d55e00"
    dark_colour = "#f2792b"
    marker = "s"
    order = 3

    paper = "Schulman et al. (2017), arXiv:1707.06347v2; arXiv:2407.06057v3, equation 1"
    optimum = "kl_rl"

    kl_coef: float
    """Coefficient of the KL divergence, above 0."""

    def __post_init__(self) -> None:
        self._check_number("kl_coef", 0, strict=True)

    def reward(self, scored: Scored) -> Float64[Tensor, " batch"]:
        """The reward model's score."""
        return scored.reward

"""QRPO with the quantile itself as the reward: the win-rate frontier by regression."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float64
from torch import Tensor

from vbon.batches import Ranks
from vbon.methods.base import Regression
from vbon.methods.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class QRPOIdentity(Regression):
    r"""Regress the log-ratio of every stored draw on that of the win-rate frontier.

    .. math:: \min_\theta\; E_{y \sim \pi_\mathrm{ref}}\left[\left(u(y) - \beta \log Z
        - \beta \log \frac{\pi_\theta(y)}{\pi_\mathrm{ref}(y)}\right)^2\right]

    The win rate u of a draw is over the prompt's other draws, ties half, and Z the mean of
    :math:`e^{u/\beta}` over all of them, which is :math:`\beta (e^{1/\beta} - 1)` for many
    distinct rewards. The minimum has the largest win rate of all policies at its KL divergence.
    """

    label = "QRPO (identity)"

    paper = "Matrenok et al. (2025), arXiv:2507.08068, its loss with the transform identity"
    optimum = "win_rate"
    example: ClassVar = {"kl_coef": 0.25, "num_draws": 2}

    kl_coef: float
    """Coefficient of the log-ratio, above 0."""

    def __post_init__(self) -> None:
        self._check_number("kl_coef", 0, strict=True)
        self._check_whole("num_draws", 2)

    def log_tilt(self, ranks: Ranks) -> Float64[Tensor, " draws"]:
        """Win rate over beta."""
        return ranks.win_rate / self.kl_coef

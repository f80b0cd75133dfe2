"""IPO: squared loss on pairs of stored draws, whose optimum is the win-rate frontier."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vbon.batches import OfflineBatch
from vbon.methods.base import Offline
from vbon.methods.registry import register
from vbon.objectives.preference import ipo_loss
from vbon.pool.pairs import Pairing


@register
@dataclass(frozen=True, kw_only=True)
class IPO(Offline):
    r"""Minimise :math:`(h - 1/2\beta)^2`, :math:`h` the difference of summed log-ratios.

    Pairs are all pairs of independent draws with different rewards. The sign with which a pair
    counts for a response averages :math:`2u - 1`, u its win rate, so the minimiser is the
    reference times :math:`e^{u / \beta}`: finite, unlike DPO's.
    """

    label = "IPO"

    paper = "Azar et al. (2023), arXiv:2310.12036, equation 17"
    optimum = "win_rate"
    example: ClassVar = {"kl_coef": 0.25, "num_draws": 2}

    kl_coef: float
    """IPO's tau, above 0: the coefficient of the KL divergence."""
    num_draws: int = 6
    """Draws per prompt, of which all pairs are used, at least 2."""

    def __post_init__(self) -> None:
        self._check_number("kl_coef", 0, strict=True)
        self._check_whole("num_draws", 2)

    @property
    def pairing(self) -> Pairing:
        """All pairs of draws."""
        draws = int(self.num_draws)
        return Pairing(draws=draws, pairs=draws * (draws - 1) // 2)

    def batch_loss(self, batch: OfflineBatch) -> Float[Tensor, ""]:
        """Squared difference of the margin and its target, in squared nats."""
        return ipo_loss(*batch.log_ratios(), self.kl_coef).mean()

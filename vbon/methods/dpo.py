"""DPO: direct preference optimisation on pairs of stored draws."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from vbon.batches import OfflineBatch
from vbon.errors import ConfigError
from vbon.methods.base import Offline
from vbon.methods.registry import register
from vbon.objectives.preference import dpo_loss
from vbon.pool.pairs import Pairing


@register
@dataclass(frozen=True, kw_only=True)
class DPO(Offline):
    r"""Minimise :math:`-\log \sigma(\beta h)`, :math:`h` the difference of summed log-ratios.

    Labels follow the order of rewards and never disagree, so for every :math:`\beta` the loss falls
    without limit as :math:`h` grows. It has no finite minimiser; only the end of training stops it.
    """

    label = "DPO"
    colour = "#e69f00"
    marker = "^"
    dashes = (0, (5, 1.5))
    order = 4

    paper = "Rafailov et al. (2023), arXiv:2305.18290, equation 7"
    optimum = None

    kl_coef: float
    """DPO's beta, above 0."""
    num_draws: int = 6
    """Draws per prompt of which pairs are made, at least 2."""
    num_pairs: int = 12
    """Pairs per prompt, at random among those of different rewards."""

    def __post_init__(self) -> None:
        self._check_number("kl_coef", 0, strict=True)
        self._check_whole("num_draws", 2)
        self._check_whole("num_pairs", 1)
        most = int(self.num_draws * (self.num_draws - 1) // 2)
        if self.num_pairs > most:
            raise ConfigError(
                f"methods.dpo.num_pairs: {self.num_pairs} is not allowed; num_draws = "
                f"{self.num_draws} draws have {most} pairs"
            )

    @property
    def pairing(self) -> Pairing:
        """Pairs of draws at random."""
        return Pairing(draws=int(self.num_draws), pairs=int(self.num_pairs))

    def batch_loss(self, batch: OfflineBatch) -> Float[Tensor, ""]:
        """Logistic loss of the difference of log-ratios."""
        return dpo_loss(*batch.log_ratios(), self.kl_coef).mean()

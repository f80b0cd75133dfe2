"""QRPO with the log of the reward's quantile: best-of-n by regression on stored draws."""

from dataclasses import dataclass, field
from typing import ClassVar

from jaxtyping import Float64
from torch import Tensor

from vbon.batches import Ranks
from vbon.methods.base import Regression
from vbon.methods.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class QRPO(Regression):
    r"""Regress the log-ratio of every stored draw on that of vBoN's bound L.

    .. math:: \min_\theta\; E_{y \sim \pi_\mathrm{ref}}\left[\left(\log F(y) - \beta \log Z
        - \beta \log \frac{\pi_\theta(y)}{\pi_\mathrm{ref}(y)}\right)^2\right], \qquad
        \beta = \frac{1}{n-1}

    F is the rank of a draw among the prompt's other draws, and Z the mean of
    :math:`F^{1/\beta} = F^{n-1}` over all of them, which is 1/n for many distinct rewards.
    """

    label = "QRPO (log)"

    paper = "Matrenok et al. (2025), arXiv:2507.08068, its loss with the transform log"
    optimum = "lower_bound"
    example: ClassVar = {"n": 3, "num_draws": 2}

    n: float
    """Draws of the best-of-n that is approached, any number from 1."""
    kl_coef: float = field(init=False)

    def __post_init__(self) -> None:
        self._check_number("n", 1)
        self._check_whole("num_draws", 2)
        object.__setattr__(self, "kl_coef", 1 / (self.n - 1) if self.n > 1 else float("inf"))

    @property
    def is_reference(self) -> bool:
        """Best of one draw is the draw."""
        return self.n == 1

    def log_tilt(self, ranks: Ranks) -> Float64[Tensor, " draws"]:
        """The log-ratio of the bound L, up to a constant."""
        return (self.n - 1) * ranks.log_below

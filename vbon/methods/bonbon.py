"""BoNBoN: likelihood of the best of n draws, and its margin over the worst."""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from vbon.batches import OfflineBatch
from vbon.methods.base import Offline
from vbon.methods.registry import register
from vbon.objectives.preference import BONBON_LOSSES, bonbon_alpha, bonbon_loss
from vbon.pool.pairs import Pairing

ALPHAS = ("balanced", "fixed")


@register
@dataclass(frozen=True, kw_only=True)
class BoNBoN(Offline):
    r"""Minimise :math:`-\alpha \log \pi_\theta(y_{best}) + (1 - \alpha) \ell` on best and worst.

    The pair loss :math:`\ell` is IPO's, :math:`(h - 1/2\beta^*_n)^2` with the margin that best-of-n
    has, or the logistic one of the authors' released code. All log-probabilities are sums over
    tokens.
    """

    label = "BoNBoN"
    colour = "#009e73"
    dark_colour = "#1fc496"
    marker = "v"
    dashes = (0, (6, 1.5, 1, 1.5))
    order = 5

    paper = "Gui et al. (2024), arXiv:2406.00832"
    optimum = "bonbon"

    n: float
    """Draws of which best and worst are used, a whole number of at least 1."""
    loss: str = "ipo"
    """The pair term: ``ipo`` of the paper, or ``sigmoid`` of its code."""
    alpha: str = "balanced"
    """``balanced`` makes both terms equal in weight at the start; ``fixed`` uses the next."""
    fixed_alpha: float = 0.005
    """Weight of the likelihood term where ``alpha`` is ``fixed``, above 0 and at most 1."""

    def __post_init__(self) -> None:
        self._check_whole("n", 1)
        self._check_choice("loss", BONBON_LOSSES)
        self._check_choice("alpha", ALPHAS)
        self._check_number("fixed_alpha", 0, 1, strict=True)

    @property
    def is_reference(self) -> bool:
        """The best and the worst of one draw are the same, and their margin is 0."""
        return self.n == 1

    @property
    def pairing(self) -> Pairing:
        """Best and worst of ``n`` draws."""
        return Pairing(draws=int(self.n))

    def weight(self, mean_nll: float) -> float:
        """Weight of the likelihood term: alpha of the paper, fixed before training."""
        return self.fixed_alpha if self.alpha == "fixed" else bonbon_alpha(self.n, mean_nll)

    def optimum_settings(self, mean_nll: float = math.nan) -> dict[str, float | str]:
        """Draws, weight and pair term."""
        return {"n": self.n, "alpha": self.weight(mean_nll), "loss": self.loss}

    def batch_loss(self, batch: OfflineBatch) -> Float[Tensor, ""]:
        """Likelihood and margin, in nats and squared nats."""
        best, worst = batch.log_ratios()
        alpha = self.weight(batch.mean_nll)
        return bonbon_loss(batch.log_prob_chosen, best, worst, self.n, alpha, self.loss).mean()

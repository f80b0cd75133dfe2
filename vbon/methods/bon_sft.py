"""BoN-SFT: supervised fine-tuning on the best of n stored draws."""

from dataclasses import dataclass

from vbon.methods.base import Likelihood
from vbon.methods.registry import register
from vbon.pool.pairs import Pairing


@register
@dataclass(frozen=True, kw_only=True)
class BoNSFT(Likelihood):
    r"""Maximise the likelihood of the best of ``n`` draws: the forward KL to best-of-n.

    .. math:: \min_\theta\; E_{y \sim \pi_\mathrm{bon}}[-\log \pi_\theta(y)]

    The loss is the mean of :math:`-\log \pi_\theta` over the response tokens of a batch; prompt
    tokens do not count.
    """

    label = "BoN-SFT"
    colour = "#cc79a7"
    dark_colour = "#df95bf"
    marker = "P"
    dashes = (0, (1, 1))
    order = 2

    paper = "Amini et al. (2025), arXiv:2407.06057v3, section 6 and appendix F"
    optimum = "best_of_n"

    n: float
    """Draws of which the best is used, a whole number of at least 1."""

    def __post_init__(self) -> None:
        self._check_whole("n", 1)

    @property
    def is_reference(self) -> bool:
        """The best of one draw is a draw of the reference."""
        return self.n == 1

    @property
    def pairing(self) -> Pairing:
        """Best and worst of ``n`` draws, of which only the best is used."""
        return Pairing(draws=int(self.n))

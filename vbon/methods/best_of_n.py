"""Best-of-n: draw n responses, return the one with the highest reward."""

from dataclasses import dataclass

from jaxtyping import Float64, Int
from torch import Tensor

from vbon.methods.base import Selection
from vbon.methods.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class BestOfN(Selection):
    r"""Return the response with the highest reward among ``n`` reference draws.

    .. math:: \pi_\mathrm{bon}(y) = \pi_\mathrm{ref}(y)\, \frac{(F + q)^n - F^n}{q}

    with :math:`F` and :math:`q` the reference's probability of a lower and of an equal reward.
    """

    label = "BoN"
    colour = "#4d4d4d"
    dark_colour = "#c9c9c9"
    marker = "D"
    hollow = True
    order = 1

    paper = "Amini et al. (2025), arXiv:2407.06057v3, section 3, proposition 1"
    optimum = "best_of_n"
    rank_based = True

    n: float
    """Responses drawn per returned response, a whole number of at least 1."""

    def __post_init__(self) -> None:
        self._check_whole("n", 1)

    def choose(
        self, rewards: Float64[Tensor, "prompts draws"], num_responses: int, seed: int = 0
    ) -> Int[Tensor, "prompts chosen"]:
        """The best of each disjoint block of ``n`` draws; the first of equals."""
        prompts, draws = rewards.shape
        n, blocks = self.block, self.blocks(draws, num_responses)
        best = rewards[:, : blocks * n].view(prompts, blocks, n).argmax(2)
        return best + n * best.new_tensor(range(blocks))

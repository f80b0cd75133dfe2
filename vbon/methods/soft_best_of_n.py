"""Soft best-of-n: one of n draws by chance, those of high rewards more often."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float64, Int
from torch import Tensor

from vbon.methods.base import Selection
from vbon.methods.registry import register
from vbon.objectives import soft
from vbon.seeding import derive_seed


@register
@dataclass(frozen=True, kw_only=True)
class SoftBestOfN(Selection):
    r"""Return draw i of ``n`` with probability :math:`e^{\lambda u_i} / \sum_j e^{\lambda u_j}`.

    u is the win rate of a draw over the prompt's other fresh draws, ties half, and
    :math:`\lambda` the ``tilt``.
    """

    label = "soft best-of-n"

    paper = "Verdun et al. (2025), arXiv:2505.03156, on quantiles as in arXiv:2506.19248"
    optimum = "soft_best_of_n"
    rank_based = True
    by_chance = True
    example: ClassVar = {"n": 3, "tilt": 4.0}

    n: float
    """Responses drawn per returned response, a whole number of at least 1."""
    tilt: float
    """Exponent of win rates, from 0, the reference, to 100."""

    def __post_init__(self) -> None:
        self._check_whole("n", 1)
        self._check_number("tilt", 0, 100)

    def optimum_settings(self, mean_nll: float = np.nan) -> dict[str, float | str]:
        """Draws and tilt."""
        return {"n": self.n, "tilt": self.tilt}

    def choose(
        self, rewards: Float64[Tensor, "prompts draws"], num_responses: int, seed: int = 0
    ) -> Int[Tensor, "prompts chosen"]:
        """One of each disjoint block of ``n`` draws: the largest exponent with Gumbel noise."""
        prompts, draws = rewards.shape
        n, blocks = self.block, self.blocks(draws, num_responses)
        ranked, values = rewards.sort(1).values, rewards[:, : blocks * n].contiguous()
        below, upto = (torch.searchsorted(ranked, values, side=side) for side in ("left", "right"))
        win_rates = (below + upto - 1) / (2 * max(draws - 1, 1))
        generator = np.random.default_rng(derive_seed(seed, self.name))
        noise = torch.from_numpy(generator.gumbel(size=tuple(values.shape)))
        best = (self.tilt * win_rates + noise).view(prompts, blocks, n).argmax(2)
        return best + n * torch.arange(blocks)

    def kl(
        self, pools: Float64[np.ndarray, "rows draws"] | None = None
    ) -> float | Float64[np.ndarray, " rows"]:
        """Its integral, or with ties the sum over each pool."""
        settings = (self.n, self.tilt)
        return soft.kl(*settings) if pools is None else soft.kl_with_ties(pools, *settings)

    def log_ratio(
        self, log_below: Float64[np.ndarray, " rows"], log_level: Float64[np.ndarray, " rows"]
    ) -> Float64[np.ndarray, " rows"]:
        """That of continuous rewards."""
        return soft.log_ratio(np.exp(log_below) + np.exp(log_level) / 2, self.n, self.tilt)

"""Best-of-Poisson: best-of-n with a random number of draws, close to the win-rate frontier."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int
from scipy.special import pdtrik
from torch import Tensor

from vbon.methods.base import Selection
from vbon.methods.registry import register
from vbon.objectives import poisson
from vbon.seeding import derive_seed

_BEYOND = 1e-12  # probability of more draws than a block has, which are then left out


@register
@dataclass(frozen=True, kw_only=True)
class BestOfPoisson(Selection):
    r"""Return the best of :math:`1 + K` reference draws, K a Poisson number of mean :math:`n - 1`.

    The quantile of its reward has the density :math:`(1 + \mu u)\, e^{-\mu (1 - u)}` with
    :math:`\mu = n - 1`, nearly the exponential tilt of the win-rate frontier.
    """

    label = "best-of-Poisson"

    paper = "Khalaf et al. (2025), arXiv:2506.19248, section 4"
    optimum = "best_of_poisson"
    rank_based = True
    by_chance = True

    n: float
    """Mean number of responses drawn per returned response, any number from 1."""

    def __post_init__(self) -> None:
        self._check_number("n", 1)

    @property
    def block(self) -> int:
        """Draws that are enough but for a chance of 1e-12."""
        return 1 if self.n == 1 else 1 + int(np.ceil(pdtrik(1 - _BEYOND, self.n - 1)))

    def choose(
        self, rewards: Float64[Tensor, "prompts draws"], num_responses: int, seed: int = 0
    ) -> Int[Tensor, "prompts chosen"]:
        """The best of the first draws of each disjoint block, as many as chance says."""
        prompts, draws = rewards.shape
        size, blocks = self.block, self.blocks(draws, num_responses)
        generator = np.random.default_rng(derive_seed(seed, self.name))
        counts = torch.from_numpy(1 + generator.poisson(self.n - 1, (prompts, blocks, 1)))
        parts = rewards[:, : blocks * size].view(prompts, blocks, size)
        best = parts.masked_fill(torch.arange(size) >= counts, -torch.inf).argmax(2)
        return best + size * torch.arange(blocks)

    def kl(
        self, pools: Float64[np.ndarray, "rows draws"] | None = None
    ) -> float | Float64[np.ndarray, " rows"]:
        """Its closed form, or with ties the sum over the levels of each pool."""
        return poisson.kl(self.n) if pools is None else poisson.kl_with_ties(pools, self.n)

    def log_ratio(
        self, log_below: Float64[np.ndarray, " rows"], log_level: Float64[np.ndarray, " rows"]
    ) -> Float64[np.ndarray, " rows"]:
        """Its closed form."""
        return poisson.log_ratio(log_below, log_level, self.n)

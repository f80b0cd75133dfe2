"""The reference's reward distribution, for the training rewards of rank-based methods."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float64, Int
from torch import Tensor

from vbon.errors import DataError
from vbon.objectives.best_of_n import cap_log_below
from vbon.pool import logf
from vbon.pool.shared import SharedCDF
from vbon.seeding import derive_seed

Index, Batch = Int[Tensor, " batch"], Float64[Tensor, " batch"]
LogMasses = tuple[Batch, Batch]
"""log P(r' < r) and log P(r' = r) under the reference, for each reward of a batch."""


@runtime_checkable
class RewardCDF(Protocol):
    """Log-masses below and at rewards of responses, under the reference for their prompts."""

    def __call__(self, prompt_index: Index, rewards: Batch, log_prob_ref: Batch) -> LogMasses: ...


@dataclass(frozen=True)
class EstimatedCDF:
    """Estimates from a pool of reference rewards.

    Attributes:
        sorted_rewards: Each prompt's pool, ascending.
        fitted: Each prompt's ``(a, b)`` of the exponential fit, NaN where there is none.
        estimator: A name in :mod:`vbon.pool.logf`.
        pooled_ties: True where distinct responses can share a reward. The mass at a response's
            reward is its exact probability under the reference; with pooled ties it is the share
            of the pool at that reward, if larger.
        prior: The fit to all prompts, for ``"shared"``.
    """

    sorted_rewards: Float64[Tensor, "prompts draws"]
    fitted: Float64[Tensor, "prompts two"]
    estimator: str = "add1"
    pooled_ties: bool = False
    prior: SharedCDF | None = None

    def __call__(self, prompt_index: Index, rewards: Batch, log_prob_ref: Batch) -> LogMasses:
        """Estimated log F, capped such that F and the mass at the reward sum to at most 1."""
        pools = self.sorted_rewards[prompt_index]
        log_level = log_prob_ref
        if self.pooled_ties:
            _, level = logf.counts(rewards, pools)
            log_level = torch.maximum(log_level, (level.double() / pools.shape[1]).log())
        fitted = tuple(self.fitted[prompt_index].unbind(1))
        prior = None
        if self.prior is not None:
            share = self.prior.share_below(prompt_index.numpy(), rewards.numpy())
            prior = share, self.prior.worth
        log_below = logf.estimate(rewards, pools, self.estimator, fitted, prior)
        return cap_log_below(log_below, log_level), log_level


@dataclass
class SampledCDF:
    """Estimates by inverse binomial sampling: fresh reference draws instead of a pool.

    Attributes:
        draw: Rewards of fresh reference draws, ``[batch, count]``, and their number of tokens,
            from rows of prompts, draws per prompt and a seed.
        max_draws: Draws after which the search for a lower reward stops.
        seed: Seed of all draws.
        sampled_tokens: Tokens drawn so far.
    """

    draw: Callable[[Index, int, int], tuple[Float64[Tensor, "batch count"], int]]
    max_draws: int
    seed: int
    sampled_tokens: int = field(default=0, init=False)
    _calls: int = field(default=0, init=False)

    def __call__(self, prompt_index: Index, rewards: Batch, log_prob_ref: Batch) -> LogMasses:
        """Log F, unbiased except for rewards without a lower one among ``max_draws``."""
        count = 1

        def fresh(active: np.ndarray) -> Tensor:
            nonlocal count
            self._calls += 1
            rows = prompt_index[torch.from_numpy(active).to(prompt_index.device)]
            drawn, tokens = self.draw(rows, count, derive_seed(self.seed, "ibs", self._calls))
            self.sampled_tokens += tokens
            count = min(2 * count, self.max_draws)  # the few rewards left are low
            return drawn

        log_below = logf.ibs(rewards, fresh, self.max_draws, truncated=True)
        return cap_log_below(log_below, log_prob_ref), log_prob_ref


@dataclass(frozen=True)
class ExactCDF:
    """Exact values for an enumerable language.

    Attributes:
        levels: Each prompt's distinct rewards, ascending; rows padded with +inf.
        log_below: log P(r' < level).
        log_level: log P(r' = level).
    """

    levels: Float64[Tensor, "prompts levels"]
    log_below: Float64[Tensor, "prompts levels"]
    log_level: Float64[Tensor, "prompts levels"]

    def __call__(self, prompt_index: Index, rewards: Batch, log_prob_ref: Batch) -> LogMasses:
        """Exact log F and log mass of each reward.

        Raises:
            DataError: If a reward is not one of its prompt's levels.
        """
        levels = self.levels[prompt_index]
        row = torch.searchsorted(levels, rewards[:, None]).clamp_max(levels.shape[1] - 1)
        unknown = levels.gather(1, row).squeeze(1) != rewards
        if unknown.any():
            raise DataError(
                f"reward: {rewards[unknown][0].item()} is no reward of this enumerable language; "
                "its log F table is of another reward model or rewards.transform"
            )
        masses = self.log_below[prompt_index], self.log_level[prompt_index]
        return tuple(mass.gather(1, row).squeeze(1) for mass in masses)

"""The reference's reward distribution, as the training reward of rank-based methods needs it."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from vbon import logf
from vbon.errors import DataError
from vbon.objectives.best_of_n import cap_log_below


@runtime_checkable
class RewardCDF(Protocol):
    """Looks up log P(r' < r) and log P(r' = r) under the reference, prompt by prompt."""

    def __call__(
        self,
        prompt_index: Int[Tensor, " batch"],
        rewards: Float64[Tensor, " batch"],
        log_prob_ref: Float64[Tensor, " batch"],
    ) -> tuple[Float64[Tensor, " batch"], Float64[Tensor, " batch"]]: ...


@dataclass(frozen=True)
class EstimatedCDF:
    """Estimates from a pool of reference rewards.

    Attributes:
        sorted_rewards: Each prompt's pool, ascending.
        fitted: Each prompt's ``(a, b)`` of the exponential fit, NaN where there is none.
        estimator: A name in :mod:`vbon.logf`.
        pooled_ties: Whether distinct responses can share a reward. If not, the mass at a
            response's reward is its own probability, which the reference gives exactly; if so, it
            is the share of the pool at that reward, when that is larger.
    """

    sorted_rewards: Float64[Tensor, "prompts draws"]
    fitted: Float64[Tensor, "prompts two"]
    estimator: str = "add1"
    pooled_ties: bool = False

    def __call__(
        self,
        prompt_index: Int[Tensor, " batch"],
        rewards: Float64[Tensor, " batch"],
        log_prob_ref: Float64[Tensor, " batch"],
    ) -> tuple[Float64[Tensor, " batch"], Float64[Tensor, " batch"]]:
        """Estimated log F, kept so that F and the mass at the reward sum to at most 1."""
        pools = self.sorted_rewards[prompt_index]
        log_level = log_prob_ref
        if self.pooled_ties:
            _, level = logf.counts(rewards, pools)
            log_level = torch.maximum(log_level, (level.double() / pools.shape[1]).log())
        fitted = tuple(self.fitted[prompt_index].unbind(1))
        log_below = logf.estimate(rewards, pools, self.estimator, fitted)
        return cap_log_below(log_below, log_level), log_level


@dataclass(frozen=True)
class ExactCDF:
    """Exact values of an enumerable language.

    Attributes:
        levels: Each prompt's distinct rewards, ascending; rows padded with +inf.
        log_below: log P(r' < level).
        log_level: log P(r' = level).
    """

    levels: Float64[Tensor, "prompts levels"]
    log_below: Float64[Tensor, "prompts levels"]
    log_level: Float64[Tensor, "prompts levels"]

    def __call__(
        self,
        prompt_index: Int[Tensor, " batch"],
        rewards: Float64[Tensor, " batch"],
        log_prob_ref: Float64[Tensor, " batch"],
    ) -> tuple[Float64[Tensor, " batch"], Float64[Tensor, " batch"]]:
        """Exact log F and log mass of each reward.

        Raises:
            DataError: If a reward is none of its prompt's.
        """
        levels = self.levels[prompt_index]
        row = torch.searchsorted(levels, rewards[:, None]).clamp_max(levels.shape[1] - 1)
        strange = levels.gather(1, row).squeeze(1) != rewards
        if strange.any():
            raise DataError(
                f"reward: {rewards[strange][0].item()} is no reward of this enumerable language; "
                "its log F table was made with another reward model or rewards.transform"
            )
        return (
            self.log_below[prompt_index].gather(1, row).squeeze(1),
            self.log_level[prompt_index].gather(1, row).squeeze(1),
        )

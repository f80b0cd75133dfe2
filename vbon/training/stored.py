"""The reference's stored draws, and the weights that make them draws of a method's optimum."""

import math
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float64, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vbon.batches import Prompts, Scored
from vbon.errors import ArtifactError
from vbon.methods.base import Online
from vbon.pool.cdf import RewardCDF
from vbon.seeding import derive_seed

_ROWS = 8192  # draws that are compared with their pools at once


@dataclass(frozen=True)
class StoredDraws:
    """Draws of the reference for the training prompts, equally many per prompt, with their scores.

    Attributes:
        prompt_index: Row of each draw's prompt in the training prompts; draws are in its order.
        response_ids: Token ids, padded on the right.
        lengths: Tokens of each draw.
        scored: Scores; log F and log mass are NaN for methods without a distribution.
        draws: Draws per prompt.
    """

    prompt_index: Int[Tensor, " responses"]
    response_ids: Int[Tensor, "responses tokens"]
    lengths: Int[Tensor, " responses"]
    scored: Scored
    draws: int

    @classmethod
    def from_tables(
        cls,
        samples: pd.DataFrame,
        rewards: pd.DataFrame,
        prompts: Prompts,
        draws: int,
        cdf: RewardCDF | None,
    ) -> "StoredDraws":
        """The first draws of every prompt, in the order of the prompts.

        Args:
            samples: Rows of schema "samples" (columns prompt_id, draw, response_ids, log_prob).
            rewards: Rows of schema "rewards" (columns prompt_id, draw, reward).
            prompts: Training prompts.
            draws: Draws per prompt.
            cdf: The reference's reward distribution, for the methods that need it.

        Raises:
            ArtifactError: If a prompt lacks a draw or its reward.
        """
        wanted = pd.MultiIndex.from_product(
            [prompts.prompt_id, range(draws)], names=["prompt_id", "draw"]
        )
        keys = ["prompt_id", "draw"]
        table = samples.set_index(keys).join(rewards.set_index(keys)).reindex(wanted)
        missing = table[table[["log_prob", "reward"]].isna().any(axis=1)]
        if len(missing):
            prompt, draw = missing.index[0]
            raise ArtifactError(
                f"samples: draw {draw} of prompt {prompt} or its reward is missing; samples, "
                "rewards and prompts are not of one reference"
            )
        ids = [torch.as_tensor(list(row), dtype=torch.long) for row in table["response_ids"]]
        index = torch.arange(len(prompts)).repeat_interleave(draws)
        reward, log_prob = (
            torch.from_numpy(table[name].to_numpy(copy=True)) for name in ("reward", "log_prob")
        )
        log_below = log_level = torch.full_like(reward, torch.nan)
        if cdf is not None:
            parts = (index.split(_ROWS), reward.split(_ROWS), log_prob.split(_ROWS))
            masses = [cdf(*rows) for rows in zip(*parts, strict=True)]
            log_below, log_level = (torch.cat(mass) for mass in zip(*masses, strict=True))
        scored = Scored(reward, log_below, log_level, log_prob)
        lengths = torch.tensor([len(row) for row in ids])
        return cls(index, pad_sequence(ids, batch_first=True), lengths, scored, draws)

    def log_weights(self, method: Online) -> Float64[Tensor, "prompts draws"]:
        r"""Log of the weights that make a prompt's draws a sample of the method's optimum.

        .. math:: w_i \propto \pi^*(y_i) / \pi_\mathrm{ref}(y_i), \qquad \sum_i w_i = 1

        The sum over a prompt's draws stands for the normalisation constant.
        """
        return torch.log_softmax(method.log_tilt(self.scored).view(-1, self.draws), dim=1)

    def log_normaliser(self, method: Online) -> Float64[Tensor, " prompts"]:
        """Log of the mean of each prompt's exponentiated log-tilts.

        It estimates the constant that :meth:`vbon.methods.base.Online.log_tilt` lacks.
        """
        tilts = method.log_tilt(self.scored).view(-1, self.draws)
        return torch.logsumexp(tilts, dim=1) - math.log(self.draws)

    def choose(
        self, log_weights: Float64[Tensor, "prompts draws"], count: int, seed: int
    ) -> Int[Tensor, " chosen"]:
        """Rows of ``count`` draws per prompt, each as often as its weight says on average.

        Systematic sampling: a draw of weight w is chosen w * count times, rounded up or down at
        random, which spreads less than independent choices.

        Args:
            log_weights: Weights of each prompt's draws, as of :meth:`log_weights`.
            count: Draws to choose per prompt, at least 1.
            seed: Seed of the choice.
        """
        below = log_weights.exp().cumsum(1)
        generator = torch.Generator().manual_seed(derive_seed(seed, "stored draws"))
        start = torch.rand(len(below), 1, generator=generator, dtype=torch.float64)
        steps = (torch.arange(count) + start) / count * below[:, -1:]
        columns = torch.searchsorted(below, steps).clamp_max(self.draws - 1)
        return (columns + self.draws * torch.arange(len(below))[:, None]).flatten()

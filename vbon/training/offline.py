"""The loop of all offline methods: BoN-SFT, DPO, BoNBoN, QRPO.

Responses are stored draws of the reference with their sampled token ids, so no text is tokenised
again and no end-of-sequence token is added. Methods differ in pairs and loss alone. Reward and KL
are measured during training on the policy's responses, which are not trained on.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from vbon.batches import OfflineBatch, Prompts, Ranks
from vbon.errors import ArtifactError
from vbon.methods.base import Offline, Regression
from vbon.models.language_model import response_logits
from vbon.seeding import derive_seed
from vbon.training.compute import PLAIN, Compute
from vbon.training.trainer import Environment, Trainer


@dataclass(frozen=True, kw_only=True)
class OfflineSettings:
    """Settings of the loop; the schema of the config describes each key."""

    epochs: int
    updates: int | None
    batch_size: int
    learning_rate: float
    schedule: str
    warmup: float
    adam_beta2: float
    weight_decay: float
    max_grad_norm: float | None
    blocks: int
    monitors: int
    monitor_rollouts: int

    def rate(self, update: int, total: int) -> float:
        """Share of the learning rate at update number ``update`` from 0.

        Example:
            >>> from types import SimpleNamespace
            >>> settings = SimpleNamespace(schedule="linear", warmup=0.5)
            >>> [OfflineSettings.rate(settings, update, total=4) for update in range(4)]
            [0.5, 1.0, 1.0, 0.5]
        """
        rising = int(self.warmup * total)
        if update < rising:
            return (update + 1) / rising
        return (total - update) / (total - rising) if self.schedule == "linear" else 1.0


@dataclass(frozen=True)
class Examples:
    """Stored responses, and training pairs as rows of them.

    Attributes:
        prompt_index: Row of each response's prompt in the training prompts.
        response_ids: Token ids, padded on the right.
        lengths: Tokens of each response.
        log_prob_ref: Log-prob of each response under the reference, in nats.
        chosen: Preferred response of each pair.
        rejected: The other one.
        ranks: Ranks of the preferred responses, if the pairs have them.
    """

    prompt_index: Int[Tensor, " responses"]
    response_ids: Int[Tensor, "responses tokens"]
    lengths: Int[Tensor, " responses"]
    log_prob_ref: Float64[Tensor, " responses"]
    chosen: Int[Tensor, " pairs"]
    rejected: Int[Tensor, " pairs"]
    ranks: Ranks | None = None

    @classmethod
    def from_tables(
        cls, pairs: pd.DataFrame, samples: pd.DataFrame, prompts: Prompts
    ) -> "Examples":
        """Look up the responses of all pairs by prompt and draw.

        Args:
            pairs: Rows of schema "pairs".
            samples: Rows of schema "samples" (columns prompt_id, draw, response_ids, log_prob).
            prompts: Training prompts.

        Raises:
            ArtifactError: If a prompt or a draw is missing, or there is no pair.
        """
        if not len(pairs):
            raise ArtifactError("pairs: no pair to train on; every prompt's rewards are equal")
        sides = [
            pairs[["prompt_id", side]].set_axis(["prompt_id", "draw"], axis=1)
            for side in ("chosen", "rejected")
        ]
        wanted = pd.concat(sides, ignore_index=True).drop_duplicates(ignore_index=True)
        stored = wanted.merge(samples, "left", on=["prompt_id", "draw"], validate="one_to_one")
        position = {name: row for row, name in enumerate(prompts.prompt_id)}
        missing = stored[stored["log_prob"].isna() | ~stored["prompt_id"].isin(position)]
        if len(missing):
            row = missing.iloc[0]
            raise ArtifactError(
                f"samples: draw {row['draw']} of prompt {row['prompt_id']} is missing, or its "
                "prompt is; pairs, samples and prompts are not of one reference"
            )
        ids = [torch.as_tensor(list(row), dtype=torch.long) for row in stored["response_ids"]]
        keys = pd.MultiIndex.from_frame(stored[["prompt_id", "draw"]])
        rows = [torch.from_numpy(keys.get_indexer(pd.MultiIndex.from_frame(s))) for s in sides]
        return cls(
            torch.tensor([position[name] for name in stored["prompt_id"]]),
            pad_sequence(ids, batch_first=True),
            torch.tensor([len(row) for row in ids]),
            torch.from_numpy(stored["log_prob"].to_numpy(copy=True)),
            *rows,
            _ranks(pairs),
        )

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.chosen)

    @property
    def mean_nll(self) -> float:
        """Mean of minus the reference's log-prob of the preferred responses, in nats."""
        return -self.log_prob_ref[self.chosen].mean().item()

    def log_ratio_targets(
        self, log_tilt: Callable[[Ranks], Float64[Tensor, " pairs"]]
    ) -> Float64[Tensor, " pairs"]:
        """Log-ratios of ranked draws under the reference tilted by a function of their ranks.

        Args:
            log_tilt: Log of the tilt, up to a constant per prompt.

        Returns:
            Log-tilts minus the log of the mean of the exponentiated ones of the same prompt.
        """
        if self.ranks is None:
            raise ArtifactError("pairs: columns num_below and num_level are missing")
        tilts = log_tilt(self.ranks).view(-1, self.ranks.num_others + 1)
        means = tilts.logsumexp(1, keepdim=True) - math.log(tilts.shape[1])
        return (tilts - means).flatten()

    def order(self, count: int, seed: int) -> Int[Tensor, " examples"]:
        """The first ``count`` pairs of an endless pass over all, reshuffled in each round."""
        generator = torch.Generator().manual_seed(derive_seed(seed, "order"))
        passes = range(math.ceil(count / len(self)))
        return torch.cat([torch.randperm(len(self), generator=generator) for _ in passes])[:count]


def _ranks(pairs: pd.DataFrame) -> Ranks | None:
    """Ranks of the preferred responses, equally many of each prompt; None if there are none."""
    if "num_below" not in pairs:
        return None
    below, level = (torch.tensor(pairs[name].to_numpy()) for name in ("num_below", "num_level"))
    return Ranks(below, level, len(pairs) // pairs["prompt_id"].nunique() - 1)


class OfflineTrainer(Trainer):
    """Train a policy on stored pairs, with measurements of its own responses in between.

    Args:
        policy: Starts as a copy of the reference; its parameters are updated in place.
        method: Defines the loss.
        environment: Training prompts; reference and rewards for the measurements.
        examples: Training pairs.
        settings: Settings of the loop.
        seed: Seed of the order of examples and of the measured responses.
        compute: Computation of an update.

    Example:
        ``for row in OfflineTrainer(policy, method, environment, examples, settings, seed=0): ...``
    """

    def __init__(
        self,
        policy: PreTrainedModel,
        method: Offline,
        environment: Environment,
        examples: Examples,
        settings: OfflineSettings,
        seed: int,
        compute: Compute = PLAIN,
    ) -> None:
        super().__init__(policy, method, environment, settings, seed, compute)
        self._start(policy)
        self.examples = examples
        count = settings.epochs * len(examples)
        if settings.updates is not None:
            count = settings.updates * settings.batch_size
        self.order = examples.order(count, seed)
        self.total = math.ceil(len(self.order) / settings.batch_size)
        self._mean_nll = examples.mean_nll
        self._targets = None
        if isinstance(method, Regression):
            self._targets = examples.log_ratio_targets(method.log_tilt)

    def __iter__(self) -> Iterator[dict[str, float]]:
        """Train to the end and yield a row of the history for each measurement.

        ``objective`` is minus the mean loss since the last row and ``clip_fraction`` the share of
        updates whose gradient was scaled down; ``reward`` and ``kl`` are of the policy's own
        responses after them, ``episodes`` counts the pairs trained on.

        Raises:
            Diverged: If a loss or a gradient is not finite.
        """
        started = time.perf_counter()
        batches = self.order.split(self.settings.batch_size)
        done = 0
        # Equal parts, the last at the end.
        parts = min(self.settings.monitors, self.total)
        for step in range(parts):
            end = round(self.total * (step + 1) / parts)
            row = self._update(batches[done:end])
            done = end
            row |= {"step": step, "episodes": self.episodes, "learning_rate": self.learning_rate}
            yield row | self._measure() | {"seconds": time.perf_counter() - started}

    def train(self) -> None:
        """Train to the end without measurements."""
        self._update(self.order.split(self.settings.batch_size))

    def _update(self, batches: Sequence[Tensor]) -> dict[str, float]:
        """Take an optimiser step per batch; return their mean statistics."""
        with self._timed("update"):
            statistics = [self._step(index) for index in batches]
        means = torch.stack(statistics).mean(0).tolist()
        return dict(zip(("objective", "grad_norm", "clip_fraction"), means, strict=True))

    def _step(self, index: Int[Tensor, " batch"]) -> Float64[Tensor, " numbers"]:
        """One optimiser step on some pairs."""
        rate = self.settings.rate(self.updates, self.total)
        loss, norm = self._take_step(rate, lambda: self._add_gradients(index))
        self.episodes += len(index)
        return torch.stack([x.detach().double() for x in (-loss, norm, norm > self._limit)])

    def _add_gradients(self, index: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
        """Add gradients of this process's share of the pairs' mean loss by pass; return it."""
        weights = self.method.pair_weights(self.examples.lengths[self.examples.chosen[index]])
        total = 0.0
        for rows, share in self.compute.passes(weights):
            with self.compute.forward(self.policy.device):
                batch = self.batch(index[rows])
            loss = self.method.batch_loss(batch)
            (loss * share).backward()
            total = total + loss.detach() * share
        return total

    def batch(self, index: Int[Tensor, " batch"]) -> OfflineBatch:
        """Log-probs of some pairs, all responses in one forward pass cut to the longest."""
        examples, chosen = self.examples, self.examples.chosen[index]
        rows = torch.cat((chosen, examples.rejected[index])) if self.method.contrastive else chosen
        lengths = examples.lengths[rows]
        longest = int(lengths.max())
        ids = examples.response_ids[rows, :longest]
        mask = torch.arange(longest) < lengths[:, None]
        prompts = self.environment.prompts.select(examples.prompt_index[rows])
        where = self.policy.device
        prompts, ids, mask = prompts.to(where), ids.to(where), mask.to(where)
        temperature = self.environment.temperature
        logits, _ = response_logits(self.policy, prompts, ids, mask, temperature)
        tokens = -F.cross_entropy(logits, ids[mask], reduction="none")
        log_probs = tokens.new_zeros(ids.shape).masked_scatter(mask, tokens).sum(1)
        log_probs_ref, lengths = examples.log_prob_ref[rows].to(log_probs), lengths.to(where)
        if not self.method.contrastive:
            target = None if self._targets is None else self._targets[index].to(log_probs)
            return OfflineBatch(
                log_probs, log_probs_ref, lengths, self._mean_nll, log_ratio_target=target
            )
        (ours, other), (theirs, other_ref) = log_probs.chunk(2), log_probs_ref.chunk(2)
        return OfflineBatch(ours, theirs, lengths.chunk(2)[0], self._mean_nll, other, other_ref)

    @torch.no_grad()
    def _measure(self) -> dict[str, float]:
        """Reward and KL of the policy, from the same prompts and uniform numbers each time."""
        env, monitored = self.environment, self._monitored
        draws = max(1, self.settings.monitor_rollouts // len(monitored))
        with self._timed("sample"):
            rollouts = env.sample(self.policy, monitored, draws, derive_seed(self.seed, "monitor"))
        prompts = monitored.select(rollouts.prompt_index)
        with self._timed("score"):
            reward = env.rewards(prompts, rollouts)
            log_probs_ref = env.log_probs_under(env.reference, prompts, rollouts)
        log_ratio = rollouts.log_prob - log_probs_ref.double().sum(1)
        return {
            "reward": reward.mean().item(),
            "kl": log_ratio.mean().item(),
            "eos_rate": rollouts.finished.double().mean().item(),
            "response_length": rollouts.response_mask.sum(1).double().mean().item(),
            **env.evaluated(prompts, rollouts),
        }

    @property
    def _monitored(self) -> Prompts:
        """Training prompts of the measurements."""
        prompts = self.environment.prompts
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "monitor prompts"))
        count = min(self.settings.monitor_rollouts, len(prompts))
        return prompts.select(torch.randperm(len(prompts), generator=generator)[:count])

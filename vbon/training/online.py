"""The one policy-gradient loop of all online methods: PPO, vBoN and its bounds.

Token ids are kept from sampling to loss; the reference is a frozen model of its own; only a
sampled end-of-sequence token ends a response. A method enters through its reward and token
rewards alone.
"""

import functools
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from vbon.batches import Prompts, Rollouts, Scored
from vbon.methods.base import Online
from vbon.models.language_model import response_logits, token_log_probs, token_values
from vbon.objectives.policy_gradient import (
    clipped_policy_loss,
    masked_mean,
    whiten,
)
from vbon.pool.cdf import RewardCDF
from vbon.sampling import sample
from vbon.seeding import derive_seed
from vbon.training.advantages import make_baseline
from vbon.training.compute import PLAIN, Compute
from vbon.training.parallel import add_gradients, by_prompts, by_rows, summed

Score = Callable[[Prompts, Rollouts], Float64[Tensor, " batch"]]


@dataclass(frozen=True)
class Environment:
    """What a policy is trained in: prompts, reference, reward and limits of a response.

    Attributes:
        prompts: Training prompts.
        reference: The frozen reference model.
        score: Rewards of rollouts, on the training scale; gets the prompt of each rollout.
        cdf: The reference's reward distribution, for the methods that need it.
        eos_token_id: The token that ends a response.
        max_new_tokens: Length limit of a response.
        temperature: Of sampling and of every log-prob.
        evaluator: Rewards of rollouts by the held-out evaluator, for the history alone.
        monitored: How many rollouts of a row of the history the evaluator is asked about.
    """

    prompts: Prompts
    reference: PreTrainedModel
    score: Score
    cdf: RewardCDF | None
    eos_token_id: int
    max_new_tokens: int
    temperature: float = 1.0
    evaluator: Score | None = None
    monitored: int = 0

    def evaluated(self, prompts: Prompts, rollouts: Rollouts) -> dict[str, float]:
        """What the evaluator says of the first rollouts; nothing is learnt from it."""
        if self.evaluator is None:
            return {}
        first = torch.arange(min(self.monitored, len(rollouts)))
        rewards = by_rows(self.evaluator, prompts.select(first), rollouts.select(first))
        return {"evaluator_reward": rewards.mean().item()}

    def rewards(self, prompts: Prompts, rollouts: Rollouts) -> Float64[Tensor, " batch"]:
        """Rewards of rollouts, on the training scale."""
        return by_rows(self.score, prompts, rollouts)

    def sample(
        self,
        model: PreTrainedModel,
        asked: Prompts,
        draws: int,
        seed: int,
        value_head: nn.Module | None = None,
    ) -> Rollouts:
        """Responses of a model to some prompts, within the environment's limits."""
        draw = functools.partial(
            sample,
            model,
            draws=draws,
            max_new_tokens=self.max_new_tokens,
            eos_token_id=self.eos_token_id,
            seed=seed,
            temperature=self.temperature,
            value_head=value_head,
        )
        return by_prompts(draw, asked)

    def log_probs_under(
        self, model: PreTrainedModel, prompts: Prompts, rollouts: Rollouts
    ) -> Float[Tensor, "batch tokens"]:
        """Log-probs of the tokens of rollouts under a model."""

        def found(prompts: Prompts, rollouts: Rollouts) -> Tensor:
            ids, mask = rollouts.response_ids, rollouts.response_mask
            return token_log_probs(model, prompts, ids, mask, self.temperature)

        return by_rows(found, prompts, rollouts)


@dataclass(frozen=True, kw_only=True)
class OnlineSettings:
    """Settings of the loop; the schema of the config describes each."""

    iterations: int
    rollouts: int
    draws_per_prompt: int
    epochs: int
    minibatch: int
    learning_rate: float
    schedule: str
    adam_beta2: float
    weight_decay: float
    gamma: float
    lam: float
    clip_policy: float
    clip_value: float | None
    clip_reward: float | None
    value_target: str
    value_model: str
    value_trains_trunk: bool
    value_coef: float
    max_grad_norm: float | None
    whiten: str


class Diverged(RuntimeError):
    """Training met a loss that is not finite; what was trained so far is no result."""


@dataclass
class _Batch:
    """One iteration's rollouts with everything the updates need."""

    prompts: Prompts
    rollouts: Rollouts
    advantages: Float[Tensor, "batch tokens"]
    values: Float[Tensor, "batch tokens"]
    targets: Float[Tensor, "batch tokens"]

    def to(self, device: torch.device) -> "_Batch":
        """The same on a device."""
        return type(self)(**{name: part.to(device) for name, part in vars(self).items()})

    def rows(self, index: Int[Tensor, " minibatch"]) -> tuple[Prompts, Tensor, Tensor]:
        """Prompts, response ids and mask of some rows, cut to the longest response."""
        mask = self.rollouts.response_mask[index]
        longest = int(mask.sum(1).max())
        ids = self.rollouts.response_ids[index, :longest]
        return self.prompts.select(index), ids, mask[:, :longest]


class OnlineTrainer:
    """Train a policy in an environment, one iteration at a time.

    Args:
        policy: Starts as a copy of the reference; its parameters are updated in place.
        method: Gives rewards and the KL coefficient.
        environment: Where it is trained.
        settings: Of the loop.
        seed: Seeds the value head, the order of prompts, the rollouts and the minibatches.
        compute: How an update is computed.

    Example:
        ``for row in OnlineTrainer(policy, method, environment, settings, seed=0): print(row)``
    """

    def __init__(
        self,
        policy: PreTrainedModel,
        method: Online,
        environment: Environment,
        settings: OnlineSettings,
        seed: int,
        compute: Compute = PLAIN,
    ) -> None:
        self.policy, self.method, self.environment = policy, method, environment
        self.settings, self.seed, self.compute = settings, seed, compute
        self.baseline = make_baseline(
            environment.reference,
            method.leave_one_out,
            settings.draws_per_prompt,
            derive_seed(seed, "value_head"),
            whole_response=settings.value_target == "response",
            gamma=settings.gamma,
            lam=settings.lam,
            clip_value=settings.clip_value,
            trains_trunk=settings.value_trains_trunk,
            separate=settings.value_model == "separate",
        )
        self._models = [policy, *([] if self.baseline.model is None else [self.baseline.model])]
        for model in self._models:
            compute.start(model)
        parts = [*self._models, *([] if self.baseline.head is None else [self.baseline.head])]
        trained = itertools.chain.from_iterable(part.parameters() for part in parts)
        self._parameters = [parameter for parameter in trained if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(
            self._parameters,
            lr=settings.learning_rate,
            betas=(0.9, settings.adam_beta2),
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self._generator = torch.Generator().manual_seed(derive_seed(seed, "order"))
        self._queue: Tensor = torch.empty(0, dtype=torch.long)
        self.episodes = self.sampled_tokens = self.updates = 0
        self.seconds = dict.fromkeys(("sample", "score", "lookup", "update"), 0.0)

    def __iter__(self) -> Iterator[dict[str, float]]:
        """Run all iterations, yielding one row of the history for each.

        Raises:
            Diverged: If a loss or a gradient is not finite.
        """
        started = time.perf_counter()
        for step in range(self.settings.iterations):
            self._set_learning_rate(step)
            batch, row = self._collect(step)
            row |= self._update(batch)
            row |= {"step": step, "episodes": self.episodes, "learning_rate": self._learning_rate}
            yield row | {"seconds": time.perf_counter() - started}

    @property
    def _learning_rate(self) -> float:
        return self._optimizer.param_groups[0]["lr"]

    def _set_learning_rate(self, step: int) -> None:
        left = 1 - step / self.settings.iterations if self.settings.schedule == "linear" else 1.0
        self._optimizer.param_groups[0]["lr"] = self.settings.learning_rate * left

    def _next_prompts(self, count: int) -> Int[Tensor, " count"]:
        """The next prompts of an endless pass over all of them, shuffled anew each time."""
        while len(self._queue) < count:
            order = torch.randperm(len(self.environment.prompts), generator=self._generator)
            self._queue = torch.cat((self._queue, order))
        chosen, self._queue = self._queue[:count], self._queue[count:]
        return chosen

    def _collect(self, step: int) -> tuple[_Batch, dict[str, float]]:
        """Sample, score and turn into advantages one batch of rollouts."""
        env, draws, clock = self.environment, self.settings.draws_per_prompt, _Clock(self.seconds)
        index = self._next_prompts(self.settings.rollouts // draws)
        asked = env.prompts.select(index)
        with clock("sample"):
            seed = derive_seed(self.seed, "rollouts", step)
            rollouts = self._drawn_by_policy(asked, draws, seed)
        prompts = asked.select(rollouts.prompt_index)
        with clock("score"):
            reward = env.rewards(prompts, rollouts)
            log_probs_ref = self._log_probs_under(env.reference, prompts, rollouts)
        with clock("lookup"):
            scored = self._look_up(index[rollouts.prompt_index], reward, log_probs_ref)
        batch, row = self._advantages(prompts, rollouts, scored, log_probs_ref)
        row |= env.evaluated(prompts, rollouts)
        self.episodes += len(rollouts)
        self.sampled_tokens += int(rollouts.response_mask.sum())
        return batch, row

    def _drawn(self, model: PreTrainedModel, asked: Prompts, *how: Any) -> Rollouts:
        """Responses, with log-probs in the precision in which they will be trained on."""
        with self.compute.forward(model.device):
            rollouts = self.environment.sample(model, asked, *how)
        if self.compute.precision != "bf16":
            return rollouts
        # Decoding rounds otherwise than a whole pass, by more than an update moves.
        prompts = asked.select(rollouts.prompt_index)
        found = self._log_probs_under(model, prompts, rollouts)
        return replace(rollouts, token_log_probs=found)

    def _drawn_by_policy(self, asked: Prompts, draws: int, seed: int) -> Rollouts:
        """Responses of the policy, with the values that the baseline needs."""
        head, model = self.baseline.head, self.baseline.model
        if model is None:
            return self._drawn(self.policy, asked, draws, seed, head)
        rollouts = self._drawn(self.policy, asked, draws, seed)
        return replace(rollouts, values=self._values(asked.select(rollouts.prompt_index), rollouts))

    @torch.no_grad()
    def _values(self, prompts: Prompts, rollouts: Rollouts) -> Float[Tensor, "batch tokens"]:
        """What a value model of its own says of rollouts."""
        head, model = self.baseline.head, self.baseline.model

        def found(prompts: Prompts, rollouts: Rollouts) -> Tensor:
            return token_values(model, head, prompts, rollouts.response_ids, rollouts.response_mask)

        with self.compute.forward(model.device):
            values = by_rows(found, prompts, rollouts)
        return values.to(rollouts.token_log_probs.dtype)

    @torch.no_grad()
    def _log_probs_under(
        self, model: PreTrainedModel, prompts: Prompts, rollouts: Rollouts
    ) -> Float[Tensor, "batch tokens"]:
        """Log-probs of the tokens of rollouts under a frozen model."""
        with self.compute.forward(model.device):
            return self.environment.log_probs_under(model, prompts, rollouts)

    def _look_up(self, prompt_index: Tensor, reward: Tensor, log_probs_ref: Tensor) -> Scored:
        """Place each reward in the reference's reward distribution, where the method needs it."""
        log_prob_ref = log_probs_ref.double().sum(1)
        log_below = log_level = torch.full_like(reward, torch.nan)
        if self.environment.cdf is not None:
            log_below, log_level = self.environment.cdf(prompt_index, reward, log_prob_ref)
        return Scored(reward, log_below, log_level, log_prob_ref)

    def _advantages(
        self,
        prompts: Prompts,
        rollouts: Rollouts,
        scored: Scored,
        log_probs_ref: Tensor,
        log_probs_home: Tensor | None = None,
    ) -> tuple[_Batch, dict[str, float]]:
        """Token rewards and advantages; also what the history reports of the rollouts.

        Tokens pay for leaving ``log_probs_home``, which is the reference unless it is given.
        """
        mask, settings = rollouts.response_mask, self.settings
        home = log_probs_ref if log_probs_home is None else log_probs_home
        terminal = self.method.reward(scored)
        limit = settings.clip_reward
        clipped = terminal if limit is None else terminal.clamp(-limit, limit)
        rewards = self.method.token_rewards(rollouts.token_log_probs, home, mask)
        last = mask.sum(1, keepdim=True) - 1
        rewards = rewards.scatter_add(1, last, clipped[:, None].to(rewards.dtype))
        advantages, targets = self.baseline.advantages(rewards, rollouts)
        residual = masked_mean(advantages**2, mask)
        spread = masked_mean((targets - masked_mean(targets, mask)) ** 2, mask)
        if settings.whiten == "batch":
            advantages = whiten(advantages, mask)
        log_ratio = (rollouts.token_log_probs - log_probs_ref).double()
        row = {
            "objective": rewards.double().sum(1).mean().item(),
            "reward": scored.reward.mean().item(),
            "kl": log_ratio.sum(1).mean().item(),
            "log_below": scored.log_below.mean().item(),
            "win_rate": scored.log_below.exp().mean().item(),  # NaN where no F is known
            "reward_clipped": (terminal != clipped).double().mean().item(),
            "eos_rate": rollouts.finished.double().mean().item(),
            "response_length": mask.sum(1).double().mean().item(),
            "explained_variance": (1 - residual / spread).item(),
        }
        values = torch.zeros_like(targets) if rollouts.values is None else rollouts.values
        return _Batch(prompts, rollouts, advantages, values, targets), row

    def _update(self, batch: _Batch) -> dict[str, float]:
        """Take the optimiser steps of one iteration; return their mean statistics."""
        clock, total = _Clock(self.seconds), len(batch.rollouts)
        batch, statistics = batch.to(self.policy.device), []
        with clock("update"):
            for _ in range(self.settings.epochs):
                order = torch.randperm(total, generator=self._generator)
                for index in order.split(self.settings.minibatch):
                    statistics.append(self._step(batch, index))
        self.updates += len(statistics)
        means = torch.stack(statistics).double().mean(0).tolist()
        names = ("policy_loss", "value_loss", "clip_fraction", "grad_norm")
        return dict(zip(names, means, strict=True))

    def _step(self, batch: _Batch, index: Int[Tensor, " minibatch"]) -> Float[Tensor, " numbers"]:
        """One optimiser step on some rows of the batch."""
        settings = self.settings
        self._optimizer.zero_grad(set_to_none=True)
        with self.compute.update(*self._models):
            losses = summed(self._add_gradients(batch, index))
        add_gradients(self._parameters)
        limit = settings.max_grad_norm
        if limit is None:
            gradients = [p.grad for p in self._parameters if p.grad is not None]
            grad_norm = nn.utils.get_total_norm(gradients, foreach=True)
        else:
            grad_norm = nn.utils.clip_grad_norm_(self._parameters, limit, foreach=True)
        if not torch.isfinite(grad_norm):
            raise Diverged(f"gradient norm is {grad_norm.item()} after {self.updates} updates")
        self._optimizer.step()
        return torch.cat((losses, grad_norm[None])).detach()

    def _add_gradients(
        self, batch: _Batch, index: Int[Tensor, " minibatch"]
    ) -> Float[Tensor, " losses"]:
        """Gradients of the minibatch's mean losses, a pass at a time; gives these losses.

        Of several processes each adds its share, of gradients and of losses.
        """
        _, _, mask = batch.rows(index)
        advantages, tokens = batch.advantages[index, : mask.shape[1]], mask.sum(1)
        if self.settings.whiten == "minibatch":
            advantages = whiten(advantages, mask)
        total = 0.0
        for rows, share in self.compute.passes(tokens):
            with self.compute.forward(self.policy.device):
                losses = self._losses(batch, index[rows], advantages[rows])
            ((losses[0] + self.settings.value_coef * losses[1]) * share).backward()
            total = total + torch.stack(losses).detach() * share
        return total

    def _losses(
        self,
        batch: _Batch,
        index: Int[Tensor, " rows"],
        advantages: Float[Tensor, "rows tokens"],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, ""]]:
        """Losses of policy and baseline, token means over some rows, and the share clipped."""
        settings = self.settings
        prompts, ids, mask = batch.rows(index)
        longest = ids.shape[1]
        temperature = self.environment.temperature
        logits, hidden = response_logits(self.policy, prompts, ids, mask, temperature)
        new = -F.cross_entropy(logits, ids[mask], reduction="none")
        policy_losses, clip_fraction = clipped_policy_loss(
            new - batch.rollouts.token_log_probs[index, :longest][mask],
            advantages[:, :longest][mask],
            settings.clip_policy,
        )
        value_loss = self.baseline.loss(
            self.baseline.states(hidden, prompts, ids, mask),
            batch.values[index, :longest][mask],
            batch.targets[index, :longest][mask],
        )
        return policy_losses.mean(), value_loss, clip_fraction


class _Clock:
    """Adds the wall time of named blocks to a dictionary."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds, self._name = seconds, ""

    def __call__(self, name: str) -> "_Clock":
        self._name = name
        return self

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._name] += time.perf_counter() - self._started


def is_finite(row: dict[str, float]) -> bool:
    """Whether every number of a history row is finite."""
    return bool(np.isfinite(list(row.values())).all())

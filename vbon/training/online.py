"""The policy-gradient loop of all online methods: PPO, vBoN and its bounds.

Token ids are kept from sampling to loss; the reference is a separate frozen model; only a sampled
end-of-sequence token ends a response. Methods differ in reward and token rewards alone.
"""

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int
from torch import Tensor
from transformers import PreTrainedModel

from vbon.batches import Prompts, Rollouts, Scored
from vbon.methods.base import Online
from vbon.models.language_model import make_value_head, response_logits, token_values
from vbon.objectives.policy_gradient import clipped_policy_loss, masked_mean, whiten
from vbon.rewards.unequal import Inequality
from vbon.seeding import derive_seed
from vbon.training.advantages import LeaveOneOut, ValueBaseline
from vbon.training.compute import PLAIN, Compute
from vbon.training.parallel import by_rows
from vbon.training.trainer import Environment, Trainer
from vbon.training.warm_start import fitted_to_optimum


@dataclass(frozen=True, kw_only=True)
class OnlineSettings:
    """Settings of the loop; the schema of the config describes each key."""

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
    warm_start: int
    warm_start_batch: int
    warm_start_rate: float
    tilt_floor: float | None
    prompt_scale: float
    reward_tail: float


@dataclass
class Batch:
    """Rollouts of one iteration and all inputs of its updates."""

    prompts: Prompts
    rollouts: Rollouts
    advantages: Float[Tensor, "batch tokens"]
    values: Float[Tensor, "batch tokens"]
    targets: Float[Tensor, "batch tokens"]

    def to(self, device: torch.device) -> "Batch":
        """This batch on a device."""
        return type(self)(**{name: part.to(device) for name, part in vars(self).items()})

    def rows(self, index: Int[Tensor, " minibatch"]) -> tuple[Prompts, Tensor, Tensor]:
        """Prompts, response ids and mask of some rows, cut to the longest response."""
        mask = self.rollouts.response_mask[index]
        longest = int(mask.sum(1).max())
        ids = self.rollouts.response_ids[index, :longest]
        return self.prompts.select(index), ids, mask[:, :longest]


class OnlineTrainer(Trainer):
    """Train a policy in an environment, one iteration at a time.

    Args:
        policy: Starts as a copy of the reference; its parameters are updated in place.
        method: Defines rewards and the KL coefficient.
        environment: Prompts, reference and rewards.
        settings: Settings of the loop.
        seed: Seed of the value head, the order of prompts, the rollouts and the minibatches.
        compute: Computation of an update.

    Example:
        ``for row in OnlineTrainer(policy, method, environment, settings, seed=0): print(row)``
    """

    phases = ("warm_start", "sample", "score", "lookup", "update")

    def __init__(
        self,
        policy: PreTrainedModel,
        method: Online,
        environment: Environment,
        settings: OnlineSettings,
        seed: int,
        compute: Compute = PLAIN,
    ) -> None:
        self._unequal = Inequality(settings.prompt_scale, settings.reward_tail)
        if self._unequal and environment.stored is not None:
            scored, index = environment.stored.scored, environment.stored.prompt_index
            reward = self._mapped(environment.prompts, scored.reward, index)
            stored = replace(environment.stored, scored=replace(scored, reward=reward))
            environment = replace(environment, stored=stored)
        super().__init__(policy, method, environment, settings, seed, compute)
        self.baseline = self._make_baseline()
        self._start(policy, self.baseline.model, self.baseline.head)
        self._generator = torch.Generator().manual_seed(derive_seed(seed, "order"))
        self._queue: Tensor = torch.empty(0, dtype=torch.long)
        self._rate = 1.0
        self._log_normaliser: Tensor | None = None
        if settings.tilt_floor is not None:
            self._log_normaliser = environment.stored.log_normaliser(method)

    def __iter__(self) -> Iterator[dict[str, float]]:
        """Run all iterations and yield a row of the history for each.

        Raises:
            Diverged: If a loss or a gradient is not finite.
        """
        started, total = time.perf_counter(), self.settings.iterations
        if self.settings.warm_start:
            self._warm_start()
        for step in range(total):
            self._rate = 1 - step / total if self.settings.schedule == "linear" else 1.0
            batch, row = self._collect(step)
            row |= self._update(batch)
            row |= {"step": step, "episodes": self.episodes, "learning_rate": self.learning_rate}
            yield row | {"seconds": time.perf_counter() - started}

    def _warm_start(self) -> None:
        """Fit the policy to the method's optimum on stored draws."""
        with self._timed("warm_start"):
            parts = self.policy, self.method, self.environment, self.settings
            self.updates += fitted_to_optimum(*parts, self.seed, self.compute).updates

    def _make_baseline(self) -> ValueBaseline | LeaveOneOut:
        """The method's baseline, with an untrained head and the reference as value model."""
        settings, reference = self.settings, self.environment.reference
        if self.method.leave_one_out:
            return LeaveOneOut(settings.draws_per_prompt)
        separate = settings.value_model == "separate"
        return ValueBaseline(
            make_value_head(reference, derive_seed(self.seed, "value_head")),
            settings.value_target == "response",
            settings.gamma,
            settings.lam,
            settings.clip_value,
            settings.value_trains_trunk,
            copy.deepcopy(reference).requires_grad_(True) if separate else None,
        )

    def _next_prompts(self, count: int) -> Int[Tensor, " count"]:
        """The next prompts of an endless pass over all, reshuffled in each round."""
        while len(self._queue) < count:
            order = torch.randperm(len(self.environment.prompts), generator=self._generator)
            self._queue = torch.cat((self._queue, order))
        index, self._queue = self._queue[:count], self._queue[count:]
        return index

    def _collect(self, step: int) -> tuple[Batch, dict[str, float]]:
        """Sample and score a batch of rollouts, and compute its advantages."""
        index, prompts, rollouts = self._sample(step)
        with self._timed("score"):
            reward = self.environment.rewards(prompts.select(rollouts.prompt_index), rollouts)
        return self._finish(index, prompts, rollouts, reward)

    def _sample(self, step: int) -> tuple[Int[Tensor, " count"], Prompts, Rollouts]:
        """Rows of the next prompts, these prompts, and the policy's responses with values."""
        draws = self.settings.draws_per_prompt
        index = self._next_prompts(self.settings.rollouts // draws)
        prompts = self.environment.prompts.select(index)
        with self._timed("sample"):
            seed, model = derive_seed(self.seed, "rollouts", step), self.baseline.model
            head = self.baseline.head if model is None else None
            rollouts = self._draw(self.policy, prompts, draws, seed, head)
            if model is not None:
                values = self._values(prompts.select(rollouts.prompt_index), rollouts)
                rollouts = replace(rollouts, values=values)
        self.episodes += len(rollouts)
        self.sampled_tokens += int(rollouts.response_mask.sum())
        return index, prompts, rollouts

    def _finish(
        self,
        index: Int[Tensor, " count"],
        prompts: Prompts,
        rollouts: Rollouts,
        reward: Float64[Tensor, " batch"],
        anchor: PreTrainedModel | None = None,
        anchor_rewards: Float64[Tensor, "batch draws"] | None = None,
    ) -> tuple[Batch, dict[str, float]]:
        """Advantages, with tokens that pay for leaving reference or anchor, and history's row."""
        env, prompts = self.environment, prompts.select(rollouts.prompt_index)
        with self._timed("score"):
            log_probs_ref = home = self._log_probs_under(env.reference, prompts, rollouts)
            if anchor is not None:
                home = self._log_probs_under(anchor, prompts, rollouts)
        with self._timed("lookup"):
            scored = self._look_up(index[rollouts.prompt_index], reward, log_probs_ref)
        scored = replace(scored, anchor_rewards=anchor_rewards)
        terminal = self._terminal_rewards(index[rollouts.prompt_index], scored)
        batch, row = self._advantages(prompts, rollouts, scored, terminal, log_probs_ref, home)
        row |= env.evaluated(prompts, rollouts)
        if anchor is not None:
            row["kl_anchor"] = (rollouts.token_log_probs - home).double().sum(1).mean().item()
        return batch, row

    def _draw(self, model: PreTrainedModel, prompts: Prompts, *options: Any) -> Rollouts:
        """Responses, with log-probs in the precision of the training's forward passes."""
        with self.compute.forward(model.device):
            rollouts = self.environment.sample(model, prompts, *options)
        if self.compute.precision != "bf16":
            return rollouts
        # In bf16 decoding and a full pass differ by more than one update, so recompute.
        prompts = prompts.select(rollouts.prompt_index)
        log_probs = self._log_probs_under(model, prompts, rollouts)
        return replace(rollouts, token_log_probs=log_probs)

    @torch.no_grad()
    def _values(self, prompts: Prompts, rollouts: Rollouts) -> Float[Tensor, "batch tokens"]:
        """Values of rollouts by a separate value model."""
        head, model = self.baseline.head, self.baseline.model

        def compute(prompts: Prompts, rollouts: Rollouts) -> Tensor:
            return token_values(model, head, prompts, rollouts.response_ids, rollouts.response_mask)

        with self.compute.forward(model.device):
            values = by_rows(compute, prompts, rollouts)
        return values.to(rollouts.token_log_probs.dtype)

    @torch.no_grad()
    def _log_probs_under(
        self, model: PreTrainedModel, prompts: Prompts, rollouts: Rollouts
    ) -> Float[Tensor, "batch tokens"]:
        """Log-probs of the tokens of rollouts under a model, without gradient."""
        with self.compute.forward(model.device):
            return self.environment.log_probs_under(model, prompts, rollouts)

    def _look_up(self, prompt_index: Tensor, reward: Tensor, log_probs_ref: Tensor) -> Scored:
        """Rewards with their log F and log mass under the reference, NaN without a distribution."""
        log_prob_ref = log_probs_ref.double().sum(1)
        log_below = log_level = torch.full_like(reward, torch.nan)
        if self.environment.cdf is not None:
            log_below, log_level = self.environment.cdf(prompt_index, reward, log_prob_ref)
        if self._unequal:
            reward = self._mapped(self.environment.prompts, reward, prompt_index)
        return Scored(reward, log_below, log_level, log_prob_ref)

    def _mapped(
        self, prompts: Prompts, reward: Float64[Tensor, " batch"], index: Int[Tensor, " batch"]
    ) -> Float64[Tensor, " batch"]:
        """Rewards made unequal; the distribution of the reference stays that of the others."""
        return torch.from_numpy(self._unequal(reward.numpy(), prompts.prompt_id, index.numpy()))

    def _terminal_rewards(
        self, prompt_index: Int[Tensor, " batch"], scored: Scored
    ) -> Float64[Tensor, " batch"]:
        """The method's rewards, raised to the floor and clipped."""
        rewards, limit = self.method.reward(scored), self.settings.clip_reward
        if self._log_normaliser is not None:
            log_ratio = self.method.log_tilt(scored) - self._log_normaliser[prompt_index]
            missing = (-self.settings.tilt_floor - log_ratio).clamp_min(0)
            rewards = rewards + self.method.kl_coef * missing
        return rewards if limit is None else rewards.clamp(-limit, limit)

    def _advantages(
        self,
        prompts: Prompts,
        rollouts: Rollouts,
        scored: Scored,
        terminal: Tensor,
        log_probs_ref: Tensor,
        home: Tensor,
    ) -> tuple[Batch, dict[str, float]]:
        """Advantages and history's row.

        Args:
            prompts: Prompt of each rollout.
            rollouts: The policy's responses.
            scored: Their scores.
            terminal: Reward given with their last tokens (:meth:`_terminal_rewards`).
            log_probs_ref: Log-probs of their tokens under the reference, in nats.
            home: Log-probs under the model that tokens pay for leaving: reference or anchor.
        """
        mask, settings = rollouts.response_mask, self.settings
        rewards = self.method.token_rewards(rollouts.token_log_probs, home, mask)
        last = mask.sum(1, keepdim=True) - 1
        rewards = rewards.scatter_add(1, last, terminal[:, None].to(rewards.dtype))
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
            "win_rate": scored.log_below.exp().mean().item(),  # NaN without F
            "reward_clipped": (self.method.reward(scored) != terminal).double().mean().item(),
            "eos_rate": rollouts.finished.double().mean().item(),
            "response_length": mask.sum(1).double().mean().item(),
            "explained_variance": (1 - residual / spread).item(),
        }
        values = torch.zeros_like(targets) if rollouts.values is None else rollouts.values
        return Batch(prompts, rollouts, advantages, values, targets), row

    def _update(self, batch: Batch) -> dict[str, float]:
        """Take the optimiser steps of one iteration; return their mean statistics."""
        total, statistics = len(batch.rollouts), []
        batch = batch.to(self.policy.device)
        with self._timed("update"):
            for _ in range(self.settings.epochs):
                order = torch.randperm(total, generator=self._generator)
                for index in order.split(self.settings.minibatch):
                    statistics.append(self._step(batch, index))
        means = torch.stack(statistics).double().mean(0).tolist()
        names = ("policy_loss", "value_loss", "clip_fraction", "grad_norm")
        return dict(zip(names, means, strict=True))

    def _step(self, batch: Batch, index: Int[Tensor, " minibatch"]) -> Float[Tensor, " numbers"]:
        """One optimiser step on some rows of the batch."""
        losses, norm = self._take_step(self._rate, lambda: self._add_gradients(batch, index))
        return torch.cat((losses, norm[None])).detach()

    def _add_gradients(
        self, batch: Batch, index: Int[Tensor, " minibatch"]
    ) -> Float[Tensor, " losses"]:
        """Add gradients of this process's share of the mean losses by pass; return that share."""
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
        self, batch: Batch, index: Int[Tensor, " rows"], advantages: Float[Tensor, "rows tokens"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, ""]]:
        """Losses of policy and baseline (means over tokens of some rows), and the clipped share."""
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

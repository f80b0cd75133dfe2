"""State and optimiser steps of all training loops, and the environment of a training."""

import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from transformers import PreTrainedModel

from vbon.batches import Prompts, Rollouts
from vbon.methods.base import Method
from vbon.models.language_model import token_log_probs
from vbon.pool.cdf import RewardCDF
from vbon.sampling import sample
from vbon.training.compute import Compute
from vbon.training.parallel import add_gradients, by_prompts, by_rows, summed
from vbon.training.stored import StoredDraws

Score = Callable[[Prompts, Rollouts], Float64[Tensor, " batch"]]


@dataclass(frozen=True)
class Environment:
    """Prompts, reference, rewards and limits of responses of a training.

    Attributes:
        prompts: Training prompts.
        reference: The frozen reference model.
        score: Rewards of rollouts on the training scale, from the prompt of each and the rollouts;
            None where the loop samples nothing.
        cdf: The reference's reward distribution, for the methods that need it.
        eos_token_id: Token that ends a response, or several such tokens.
        max_new_tokens: Length limit of responses.
        temperature: Temperature of sampling and of every log-prob.
        evaluator: Rewards of rollouts by the held-out evaluator, for the history alone.
        monitored: Number of rollouts that the evaluator scores for a row of the history.
        stored: The reference's draws for the training prompts; None where the loop uses none.
    """

    prompts: Prompts
    reference: PreTrainedModel
    score: Score | None
    cdf: RewardCDF | None
    eos_token_id: int | Sequence[int]
    max_new_tokens: int
    temperature: float = 1.0
    evaluator: Score | None = None
    monitored: int = 0
    stored: StoredDraws | None = None

    def evaluated(self, prompts: Prompts, rollouts: Rollouts) -> dict[str, float]:
        """The evaluator's mean reward of the first rollouts, which nothing is trained on."""
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
        prompts: Prompts,
        draws: int,
        seed: int,
        value_head: nn.Module | None = None,
    ) -> Rollouts:
        """Responses of a model to some prompts, within the environment's limits."""
        limits = {"max_new_tokens": self.max_new_tokens, "eos_token_id": self.eos_token_id}
        options = {"draws": draws, "seed": seed, "temperature": self.temperature, **limits}
        draw = functools.partial(sample, model, value_head=value_head, **options)
        return by_prompts(draw, prompts)

    def log_probs_under(
        self, model: PreTrainedModel, prompts: Prompts, rollouts: Rollouts
    ) -> Float[Tensor, "batch tokens"]:
        """Log-probs of the tokens of rollouts under a model."""

        def compute(prompts: Prompts, rollouts: Rollouts) -> Tensor:
            ids, mask = rollouts.response_ids, rollouts.response_mask
            return token_log_probs(model, prompts, ids, mask, self.temperature)

        return by_rows(compute, prompts, rollouts)


class Diverged(RuntimeError):
    """A loss or gradient is not finite; the policy is no result."""


class Trainer:
    """State of a training and its optimiser steps.

    Args:
        policy: Starts as a copy of the reference; its parameters are updated in place.
        method: The method to train with; None for a loop without one.
        environment: Prompts, reference and rewards.
        settings: Settings of the loop.
        seed: Seed of everything random.
        compute: Computation of an update.
    """

    phases = ("sample", "score", "update")
    """Keys of :attr:`seconds`, the wall time of each phase."""

    def __init__(
        self,
        policy: PreTrainedModel,
        method: Method | None,
        environment: Environment,
        settings: Any,
        seed: int,
        compute: Compute,
    ) -> None:
        self.policy, self.method, self.environment = policy, method, environment
        self.settings, self.seed, self.compute = settings, seed, compute
        self.episodes = self.sampled_tokens = self.updates = 0
        self.seconds = dict.fromkeys(self.phases, 0.0)

    def _start(self, *modules: nn.Module | None) -> None:
        """Prepare models, and heads on their states, for training."""
        present = [module for module in modules if module is not None]
        self._models = [module for module in present if isinstance(module, PreTrainedModel)]
        for model in self._models:
            self.compute.start(model)
        every = [part for module in present for part in module.parameters()]
        self._parameters = [parameter for parameter in every if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(
            self._parameters,
            betas=(0.9, self.settings.adam_beta2),
            weight_decay=self.settings.weight_decay,
            fused=True,
        )
        limit = self.settings.max_grad_norm
        self._limit = math.inf if limit is None else limit

    def _take_step(
        self, rate: float, gradients: Callable[[], Tensor]
    ) -> tuple[Tensor, Float[Tensor, ""]]:
        """One optimiser step.

        Args:
            rate: Share of the learning rate.
            gradients: Adds this process's share of the gradients; returns its share of the losses.

        Returns:
            The losses, and the gradient's norm before it is scaled down.

        Raises:
            Diverged: If a loss or the norm is not finite.
        """
        self.learning_rate = self.settings.learning_rate * rate
        self._optimizer.param_groups[0]["lr"] = self.learning_rate
        self._optimizer.zero_grad(set_to_none=True)
        with self.compute.update(*self._models):
            losses = summed(gradients())
        add_gradients(self._parameters)
        norm = nn.utils.clip_grad_norm_(self._parameters, self._limit, foreach=True)
        if not torch.isfinite(losses.sum() + norm):
            raise Diverged(
                f"loss is {losses.sum().item()}, gradient norm is {norm.item()} after "
                f"{self.updates} updates"
            )
        self._optimizer.step()
        self.updates += 1
        return losses, norm

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        """Add the wall time of a block to :attr:`seconds`."""
        started = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - started

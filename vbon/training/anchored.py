"""The loop of methods with an anchor: policy gradient, imitation and a moving average."""

import copy
import dataclasses
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from vbon.batches import Rollouts
from vbon.methods.base import Anchored, Online
from vbon.models.language_model import response_logits
from vbon.models.trainable import merged
from vbon.seeding import derive_seed
from vbon.training.online import Batch, OnlineSettings, OnlineTrainer
from vbon.training.trainer import Environment


@dataclasses.dataclass
class _AnchoredBatch(Batch):
    """Rollouts of the policy, and the anchor's best response for each."""

    best: Rollouts


class AnchoredTrainer(OnlineTrainer):
    """Train a policy against an anchor that starts as a copy of it and follows it.

    Except for the imitation, updates are policy gradients of the common loop with the anchor in
    place of the reference. Arguments as in :class:`OnlineTrainer`; the method overrides some
    settings: number of iterations, one update over all rollouts in each, no whitening.

    Raises:
        ConfigError: If a setting contradicts the method.
    """

    def __init__(
        self,
        policy: PreTrainedModel,
        method: Anchored,
        environment: Environment,
        settings: OnlineSettings,
        *others: Any,
    ) -> None:
        settings = OnlineSettings(**method.loop(dataclasses.asdict(settings)))
        super().__init__(policy, method, environment, settings, *others)
        # Low-rank updates are merged: a mean of two products is no product of two means.
        self.anchor = copy.deepcopy(merged(policy)).requires_grad_(False)

    def _collect(self, step: int) -> tuple[_AnchoredBatch, dict[str, float]]:
        """Sample from policy and anchor, score all rollouts together and compute advantages."""
        draws = self.method.anchor_draws
        index, prompts, rollouts = self._sample(step)
        with self._timed("sample"):
            seed = derive_seed(self.seed, "anchor", step)
            others = self._draw(self.anchor, prompts, self.settings.draws_per_prompt * draws, seed)
        self.sampled_tokens += int(others.response_mask.sum())
        with self._timed("score"):
            both = Rollouts.joined([rollouts, others])
            reward = self.environment.rewards(prompts.select(both.prompt_index), both)
        reward, theirs = reward[: len(rollouts)], reward[len(rollouts) :].view(-1, draws)
        batch, row = self._finish(index, prompts, rollouts, reward, self.anchor, theirs)
        # Of equal rewards the first draw is taken, which is random.
        best = torch.arange(len(rollouts)) * draws + theirs.argmax(1)
        return _AnchoredBatch(**vars(batch), best=_rows(others, best)), row

    def _losses(
        self,
        batch: _AnchoredBatch,
        index: Int[Tensor, " rows"],
        advantages: Float[Tensor, "rows tokens"],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, ""]]:
        """Losses of the common loop, with the imitation added to the policy's."""
        policy_loss, value_loss, clip_fraction = super()._losses(batch, index, advantages)
        best = _rows(batch.best, index)
        prompts, ids, mask = batch.prompts.select(index), best.response_ids, best.response_mask
        temperature = self.environment.temperature
        logits, _ = response_logits(self.policy, prompts, ids, mask, temperature)
        forward = F.cross_entropy(logits, ids[mask], reduction="sum")
        # The policy's loss is a mean over tokens. Sums over responses keep their proportions only
        # if both are divided by the same number.
        tokens = batch.rollouts.response_mask[index].sum()
        weight = 1 - self.method.backward_weight
        return policy_loss + weight * forward / tokens, value_loss, clip_fraction

    def _step(
        self, batch: _AnchoredBatch, index: Int[Tensor, " minibatch"]
    ) -> Float[Tensor, " numbers"]:
        """One optimiser step, followed by one of the anchor."""
        statistics = super()._step(batch, index)
        self._follow()
        return statistics

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the anchor part of the way to the policy."""
        ours = list(merged(self.policy).parameters())
        torch._foreach_lerp_(list(self.anchor.parameters()), ours, self.method.anchor_rate)


def make_online_trainer(policy: PreTrainedModel, method: Online, *others: Any) -> OnlineTrainer:
    """Trainer for the shape of an online method.

    Args:
        policy: Argument of :class:`OnlineTrainer`, as are all others.
        method: The method to train with.
        *others: Environment, settings, seed and computation.
    """
    kind = AnchoredTrainer if isinstance(method, Anchored) else OnlineTrainer
    return kind(policy, method, *others)


def _rows(rollouts: Rollouts, index: Int[Tensor, " rows"]) -> Rollouts:
    """Some rows of rollouts without values, cut to the longest response."""
    parts = vars(dataclasses.replace(rollouts, values=None).select(index))
    longest = int(parts["response_mask"].sum(1).max())
    cut = {k: v[:, :longest] for k, v in parts.items() if v is not None and v.ndim == 2}
    return Rollouts(**(parts | cut))

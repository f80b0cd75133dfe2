"""The loop of methods with an anchor: the policy-gradient loop, imitation and a moving average."""

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
    """Rollouts of the policy, and for each the best response of the anchor."""

    best: Rollouts


class AnchoredTrainer(OnlineTrainer):
    """Train a policy against an anchor that starts as a copy of it and follows it.

    With an anchor in the place of the reference, everything but the imitation is a policy gradient
    of the common loop. Arguments as in :class:`OnlineTrainer`; the method sets what it defines
    itself: the number of iterations, one update each over all rollouts, nothing whitened.

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
        """Sample from policy and anchor, score all together and turn them into advantages."""
        draws = self.method.anchor_draws
        index, asked, rollouts = self._sampled(step)
        with self._timed("sample"):
            seed = derive_seed(self.seed, "anchor", step)
            others = self._drawn(self.anchor, asked, self.settings.draws_per_prompt * draws, seed)
        self.sampled_tokens += int(others.response_mask.sum())
        with self._timed("score"):
            both = Rollouts.joined([rollouts, others])
            reward = self.environment.rewards(asked.select(both.prompt_index), both)
        reward, theirs = reward[: len(rollouts)], reward[len(rollouts) :].view(-1, draws)
        batch, row = self._compared(index, asked, rollouts, reward, self.anchor, theirs)
        # Of equal rewards the first draw is taken, which is random.
        best = torch.arange(len(rollouts)) * draws + theirs.argmax(1)
        return _AnchoredBatch(**vars(batch), best=_rows(others, best)), row

    def _losses(
        self,
        batch: _AnchoredBatch,
        index: Int[Tensor, " rows"],
        advantages: Float[Tensor, "rows tokens"],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Float[Tensor, ""]]:
        """Those of the common loop, the policy's with the imitation added."""
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
        """One optimiser step, after which the anchor follows."""
        statistics = super()._step(batch, index)
        self._follow()
        return statistics

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the anchor a part of the way to the policy."""
        ours = list(merged(self.policy).parameters())
        torch._foreach_lerp_(list(self.anchor.parameters()), ours, self.method.anchor_rate)


def make_online_trainer(policy: PreTrainedModel, method: Online, *others: Any) -> OnlineTrainer:
    """The loop for the shape of a method that is trained on its own rollouts.

    Args:
        policy: As in :class:`OnlineTrainer`, as are the others.
        method: The method.
        *others: Environment, settings, seed and how updates are computed.
    """
    kind = AnchoredTrainer if isinstance(method, Anchored) else OnlineTrainer
    return kind(policy, method, *others)


def _rows(rollouts: Rollouts, index: Int[Tensor, " rows"]) -> Rollouts:
    """Some rows of rollouts without values, cut to the longest response."""
    parts = vars(dataclasses.replace(rollouts, values=None).select(index))
    longest = int(parts["response_mask"].sum(1).max())
    cut = {k: v[:, :longest] for k, v in parts.items() if v is not None and v.ndim == 2}
    return Rollouts(**(parts | cut))

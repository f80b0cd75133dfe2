r"""A start of trainings: the reference with states that predict the rank of the reward.

A policy that leaves the reference must learn from few examples which prefixes lead to high rewards.
The stored draws show it: from the state before each token a linear head predicts the rank of the
whole response's reward among its prompt's draws. The head is discarded, and what a policy is
penalised for leaving remains the reference itself, whose distribution the start nearly keeps.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from vbon.models.language_model import response_logits
from vbon.models.paths import path_of
from vbon.seeding import derive_seed
from vbon.training.compute import PLAIN
from vbon.training.trainer import Environment, Trainer


@dataclass(frozen=True, kw_only=True)
class InformedSettings:
    """Settings of the fit; the schema of the config describes each key."""

    draws: int
    levels: int
    batch_size: int
    learning_rate: float
    warmup: float
    reference_weight: float
    adam_beta2: float
    weight_decay: float
    max_grad_norm: float | None


def rank_levels(
    rewards: Float64[Tensor, "prompts draws"], levels: int
) -> Int[Tensor, "prompts draws"]:
    """Level of each reward by its rank among its prompt's draws, from 0 (lowest) to levels - 1.

    Equal rewards have the level of the lowest of their ranks.

    Example:
        >>> rank_levels(torch.tensor([[3.0, 1.0, 2.0, 1.0]], dtype=torch.float64), levels=2)
        tensor([[1, 0, 1, 0]])
    """
    below = torch.searchsorted(rewards.sort(dim=1).values, rewards)
    return below * levels // rewards.shape[1]


class InformedTrainer(Trainer):
    r"""Train a copy of the reference to predict ranks, in one pass over the stored draws.

    .. math:: \min_{\theta, h}\; E_{y \sim \pi_\mathrm{ref}} \sum_t
        \{-\log h_\theta(\mathrm{level}(y) \mid y_{<t})
        + c\, KL(\pi_\mathrm{ref} \| \pi_\theta)(y_{<t})\}

    The divergence is summed over the vocabulary. Both terms are means over tokens.

    Args:
        policy: Starts as a copy of the reference; its parameters are updated in place.
        environment: Prompts, reference, temperature and stored draws.
        settings: Settings of the fit.
        seed: Seed of the head and of the order of draws.
    """

    phases = ("update",)

    def __init__(
        self,
        policy: PreTrainedModel,
        environment: Environment,
        settings: InformedSettings,
        seed: int,
    ) -> None:
        super().__init__(policy, None, environment, settings, seed, PLAIN)
        stored = environment.stored
        rewards = stored.scored.reward.view(-1, stored.draws)
        self._levels = rank_levels(rewards, settings.levels).flatten()
        width = path_of(policy).width
        generator = torch.Generator().manual_seed(derive_seed(seed, "rank_head"))
        self.head = nn.Linear(width, settings.levels)
        with torch.no_grad():
            nn.init.normal_(self.head.weight, std=width**-0.5, generator=generator)
            self.head.bias.zero_()
        self.head.to(policy.device)
        self._start(policy, self.head)

    def train(self) -> dict[str, float]:
        """Fit once; return means over the last tenth of the updates, in nats per token."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "order"))
        order = torch.randperm(len(self._levels), generator=generator)
        batches = order.split(self.settings.batch_size)
        rising = max(1, int(self.settings.warmup * len(batches)))
        losses = []
        with self._timed("update"):
            for update, rows in enumerate(batches):
                rate = min((update + 1) / rising, 1 - update / len(batches))
                losses.append(self._take_step(rate, lambda rows=rows: self._add_gradients(rows))[0])
        last = torch.stack(losses[-max(1, len(losses) // 10) :]).double().mean(0).tolist()
        return dict(zip(("rank_loss", "kl_from_reference"), last, strict=True))

    def _add_gradients(self, rows: Int[Tensor, " batch"]) -> Float[Tensor, " losses"]:
        """Add gradients of the loss of some draws; return its two terms."""
        ranks, divergence = self._losses(rows)
        (ranks + self.settings.reference_weight * divergence).backward()
        return torch.stack((ranks, divergence)).detach()

    def _losses(self, rows: Int[Tensor, " batch"]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Negative log-likelihood of the levels, and divergence from the reference."""
        env, stored, where = self.environment, self.environment.stored, self.policy.device
        lengths = stored.lengths[rows]
        longest = int(lengths.max())
        mask = (torch.arange(longest) < lengths[:, None]).to(where)
        ids = stored.response_ids[rows, :longest].to(where)
        parts = env.prompts.select(stored.prompt_index[rows]).to(where), ids, mask, env.temperature
        logits, states = response_logits(self.policy, *parts)
        with torch.no_grad():
            theirs, _ = response_logits(env.reference, *parts)
        levels = self._levels[rows].to(where)[:, None].expand(mask.shape)[mask]
        ours, theirs = F.log_softmax(logits, dim=1), F.log_softmax(theirs, dim=1)
        divergence = F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
        states = states[:, : self.head.in_features]  # logits may follow
        return F.cross_entropy(self.head(states), levels), divergence

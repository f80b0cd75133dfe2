"""What a response is compared with before its policy gradient: a value head, or its siblings."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from vbon.models.language_model import make_value_head
from vbon.objectives.policy_gradient import (
    clipped_value_loss,
    generalised_advantages,
    leave_one_out_advantages,
)
from vbon.types import Rollouts


@runtime_checkable
class Baseline(Protocol):
    """Turns token rewards into advantages, and may learn to do so better."""

    head: nn.Module | None
    """Gives values to the sampler; its parameters are trained along with the policy's."""

    def advantages(
        self, rewards: Float[Tensor, "batch tokens"], rollouts: Rollouts
    ) -> tuple[Float[Tensor, "batch tokens"], Float[Tensor, "batch tokens"]]:
        """Advantages, 0 where nothing counts, and what the baseline should have said."""
        ...

    def loss(self, hidden: Tensor, old_values: Tensor, targets: Tensor) -> Float[Tensor, ""]:
        """Loss of the head on tokens that count; a constant without one."""
        ...


@dataclass(frozen=True)
class ValueBaseline:
    """A value head and generalised advantages, as in PPO.

    Attributes:
        head: Value of the state before each token, from the policy's final hidden state.
        whole_response: Whether the head predicts the reward of the whole response, from which
            that of the tokens so far is subtracted, and not only the reward still to come. The
            expected gradient is the same. Near the optimum of a KL-regularised reward, reward
            minus price is nearly constant over responses: the former has little left to learn.
        gamma: Discount a token.
        lam: Lambda of the advantages.
        clip_value: Largest rewarded move of a value; None for no limit.
        trains_trunk: Whether the head's loss reaches the policy's own parameters.
    """

    head: nn.Module
    whole_response: bool
    gamma: float
    lam: float
    clip_value: float | None
    trains_trunk: bool = True

    def advantages(
        self, rewards: Float[Tensor, "batch tokens"], rollouts: Rollouts
    ) -> tuple[Float[Tensor, "batch tokens"], Float[Tensor, "batch tokens"]]:
        """Advantages and the returns that the head should predict."""
        so_far = rewards.cumsum(1) - rewards if self.whole_response else 0.0
        found = generalised_advantages(
            rewards, rollouts.values - so_far, rollouts.response_mask, self.gamma, self.lam
        )
        return found, found + rollouts.values

    def loss(self, hidden: Tensor, old_values: Tensor, targets: Tensor) -> Float[Tensor, ""]:
        """Squared error of the head."""
        seen = hidden if self.trains_trunk else hidden.detach()
        return clipped_value_loss(self.head(seen), old_values, targets, self.clip_value).mean()


@dataclass(frozen=True)
class LeaveOneOut:
    """The mean return of the other responses to the same prompt; nothing is learnt.

    Attributes:
        draws: Responses a prompt, at least 2.
    """

    draws: int
    head: None = None

    def advantages(
        self, rewards: Float[Tensor, "batch tokens"], rollouts: Rollouts
    ) -> tuple[Float[Tensor, "batch tokens"], Float[Tensor, "batch tokens"]]:
        """One advantage a response, for each of its tokens, and the response's return."""
        mask = rollouts.response_mask
        returns = torch.where(mask, rewards, 0.0).sum(1)
        found = leave_one_out_advantages(returns.view(-1, self.draws)).flatten()
        return found[:, None] * mask, returns[:, None] * mask

    def loss(self, hidden: Tensor, old_values: Tensor, targets: Tensor) -> Float[Tensor, ""]:
        """Nothing to learn."""
        return targets.new_zeros(())


def make_baseline(
    policy: PreTrainedModel,
    leave_one_out: bool,
    draws: int,
    seed: int,
    *,
    whole_response: bool,
    gamma: float,
    lam: float,
    clip_value: float | None,
    trains_trunk: bool,
) -> Baseline:
    """The baseline that a method asks for, its head untrained."""
    if leave_one_out:
        return LeaveOneOut(draws)
    head = make_value_head(policy, seed)
    return ValueBaseline(head, whole_response, gamma, lam, clip_value, trains_trunk)

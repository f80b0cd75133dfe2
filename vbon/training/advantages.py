"""What a response is compared with before its policy gradient: a value head, or its siblings."""

import copy
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from vbon.batches import Prompts, Rollouts
from vbon.models.language_model import make_value_head, response_states
from vbon.objectives.policy_gradient import (
    clipped_value_loss,
    generalised_advantages,
    leave_one_out_advantages,
)


@runtime_checkable
class Baseline(Protocol):
    """Turns token rewards into advantages, and may learn to do so better."""

    head: nn.Module | None
    """Gives values; its parameters are trained along with the policy's."""
    model: PreTrainedModel | None
    """Gives the head its states and is trained by it; None where these are the policy's."""

    def advantages(
        self, rewards: Float[Tensor, "batch tokens"], rollouts: Rollouts
    ) -> tuple[Float[Tensor, "batch tokens"], Float[Tensor, "batch tokens"]]:
        """Advantages, 0 where nothing counts, and what the baseline should have said."""
        ...

    def states(self, hidden: Tensor, prompts: Prompts, ids: Tensor, mask: Tensor) -> Tensor:
        """What the head sees of tokens that count; ``hidden`` are the policy's states."""
        ...

    def loss(self, states: Tensor, old_values: Tensor, targets: Tensor) -> Float[Tensor, ""]:
        """Loss of the head on tokens that count; a constant without one."""
        ...


@dataclass(frozen=True)
class ValueBaseline:
    """A value head and generalised advantages, as in PPO.

    Attributes:
        head: Value of the state before each token, from the final hidden state.
        whole_response: Whether the head predicts the reward of the whole response, from which
            that of the tokens so far is subtracted, and not only the reward still to come. The
            expected gradient is the same. Near the optimum of a KL-regularised reward, reward
            minus price is nearly constant over responses: the former has little left to learn.
        gamma: Discount a token.
        lam: Lambda of the advantages.
        clip_value: Largest rewarded move of a value; None for no limit.
        trains_trunk: Whether the head's loss reaches the policy's own parameters.
        model: A model of the head's own, whose states take the place of the policy's.
    """

    head: nn.Module
    whole_response: bool
    gamma: float
    lam: float
    clip_value: float | None
    trains_trunk: bool = True
    model: PreTrainedModel | None = None

    def advantages(
        self, rewards: Float[Tensor, "batch tokens"], rollouts: Rollouts
    ) -> tuple[Float[Tensor, "batch tokens"], Float[Tensor, "batch tokens"]]:
        """Advantages and the returns that the head should predict."""
        so_far = rewards.cumsum(1) - rewards if self.whole_response else 0.0
        found = generalised_advantages(
            rewards, rollouts.values - so_far, rollouts.response_mask, self.gamma, self.lam
        )
        return found, found + rollouts.values

    def states(self, hidden: Tensor, prompts: Prompts, ids: Tensor, mask: Tensor) -> Tensor:
        """The states of the head's own model, or the policy's, cut off if it is not trained."""
        if self.model is not None:
            return response_states(self.model, prompts, ids, mask)
        return hidden if self.trains_trunk else hidden.detach()

    def loss(self, states: Tensor, old_values: Tensor, targets: Tensor) -> Float[Tensor, ""]:
        """Squared error of the head."""
        return clipped_value_loss(self.head(states), old_values, targets, self.clip_value).mean()


@dataclass(frozen=True)
class LeaveOneOut:
    """The mean return of the other responses to the same prompt; nothing is learnt.

    Attributes:
        draws: Responses a prompt, at least 2.
    """

    draws: int
    head: None = None
    model: None = None

    def advantages(
        self, rewards: Float[Tensor, "batch tokens"], rollouts: Rollouts
    ) -> tuple[Float[Tensor, "batch tokens"], Float[Tensor, "batch tokens"]]:
        """One advantage a response, for each of its tokens, and the response's return."""
        mask = rollouts.response_mask
        returns = torch.where(mask, rewards, 0.0).sum(1)
        found = leave_one_out_advantages(returns.view(-1, self.draws)).flatten()
        return found[:, None] * mask, returns[:, None] * mask

    def states(self, hidden: Tensor, prompts: Prompts, ids: Tensor, mask: Tensor) -> Tensor:
        """Nothing is seen."""
        return hidden

    def loss(self, states: Tensor, old_values: Tensor, targets: Tensor) -> Float[Tensor, ""]:
        """Nothing to learn."""
        return targets.new_zeros(())


def make_baseline(
    reference: PreTrainedModel,
    leave_one_out: bool,
    draws: int,
    seed: int,
    *,
    whole_response: bool,
    gamma: float,
    lam: float,
    clip_value: float | None,
    trains_trunk: bool,
    separate: bool = False,
) -> Baseline:
    """The baseline that a method asks for, its head untrained.

    Args:
        reference: The model that the policy starts as, and a separate value model too.
        leave_one_out: Whether responses are compared with each other alone.
        draws: Responses a prompt.
        seed: Of the head.
        whole_response: These and the next three as in :class:`ValueBaseline`.
        gamma: Discount.
        lam: Lambda.
        clip_value: Limit.
        trains_trunk: Whether the policy is trained by the head's loss.
        separate: Whether the head gets a model of its own, all of it trained.
    """
    if leave_one_out:
        return LeaveOneOut(draws)
    head = make_value_head(reference, seed)
    model = copy.deepcopy(reference).requires_grad_(True) if separate else None
    return ValueBaseline(head, whole_response, gamma, lam, clip_value, trains_trunk, model)

"""Baselines of the policy gradient: a value head, or the other responses to the prompt."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from vbon.batches import Prompts, Rollouts
from vbon.models.language_model import response_states
from vbon.objectives.policy_gradient import (
    clipped_value_loss,
    generalised_advantages,
    leave_one_out_advantages,
)


@dataclass(frozen=True)
class ValueBaseline:
    """A value head and generalised advantages, as in PPO.

    Attributes:
        head: Value of the state before each token, from the final hidden state; it is trained
            along with the policy.
        whole_response: Whether the head predicts the reward of the whole response, from which
            that of the tokens so far is subtracted, and not only the reward still to come. The
            expected gradient is the same. Near the optimum of a KL-regularised reward, reward
            minus price is nearly constant over responses: the former has little left to learn.
        gamma: Discount per token.
        lam: Lambda of the advantages.
        clip_value: Largest rewarded move of a value; None for no limit.
        trains_trunk: Whether the head's loss reaches the policy's parameters.
        model: Gives the head its states and is trained by its loss; None for the policy itself.
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
        """Advantages, 0 where the mask is False, and the returns that the head should predict."""
        so_far = rewards.cumsum(1) - rewards if self.whole_response else 0.0
        advantages = generalised_advantages(
            rewards, rollouts.values - so_far, rollouts.response_mask, self.gamma, self.lam
        )
        return advantages, advantages + rollouts.values

    def states(self, hidden: Tensor, prompts: Prompts, ids: Tensor, mask: Tensor) -> Tensor:
        """Input of the head for tokens that count; ``hidden`` are the policy's states."""
        if self.model is not None:
            return response_states(self.model, prompts, ids, mask)
        return hidden if self.trains_trunk else hidden.detach()

    def loss(self, states: Tensor, old_values: Tensor, targets: Tensor) -> Float[Tensor, ""]:
        """Squared error of the head on tokens that count."""
        return clipped_value_loss(self.head(states), old_values, targets, self.clip_value).mean()


@dataclass(frozen=True)
class LeaveOneOut:
    """The mean return of the other responses to the same prompt; nothing is learnt.

    Attributes:
        draws: Responses per prompt, at least 2.
    """

    draws: int
    head: None = None
    model: None = None

    def advantages(
        self, rewards: Float[Tensor, "batch tokens"], rollouts: Rollouts
    ) -> tuple[Float[Tensor, "batch tokens"], Float[Tensor, "batch tokens"]]:
        """Advantage and return of each response, repeated for each of its tokens."""
        mask = rollouts.response_mask
        returns = torch.where(mask, rewards, 0.0).sum(1)
        advantages = leave_one_out_advantages(returns.view(-1, self.draws)).flatten()
        return advantages[:, None] * mask, returns[:, None] * mask

    def states(self, hidden: Tensor, prompts: Prompts, ids: Tensor, mask: Tensor) -> Tensor:
        """The policy's states, which :meth:`loss` ignores."""
        return hidden

    def loss(self, states: Tensor, old_values: Tensor, targets: Tensor) -> Float[Tensor, ""]:
        """0: there is nothing to learn."""
        return targets.new_zeros(())

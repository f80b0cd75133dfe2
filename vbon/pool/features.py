"""Features of prompts without responses, for distributions learned over prompts."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vbon.batches import Prompts
from vbon.models.language_model import hidden_states
from vbon.rewards import RewardModel, full_texts

_ROWS = 64  # prompts per forward pass


class PromptFeatures(NamedTuple):
    """Arguments of :func:`vbon.pool.shared.fit_shared` besides the pools.

    Attributes:
        prompt_rewards: Reward of each prompt's text without a response.
        prompt_lengths: Tokens of each prompt.
        states: The reference's last hidden state of each prompt.
    """

    prompt_rewards: Float64[np.ndarray, " prompts"]
    prompt_lengths: Float64[np.ndarray, " prompts"]
    states: Float64[np.ndarray, "prompts width"]


@torch.no_grad()
def prompt_features(
    prompts: Prompts,
    reference: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    reward_model: RewardModel,
) -> PromptFeatures:
    """Features of each prompt.

    Args:
        prompts: Prompts.
        reference: Model of the hidden states.
        tokenizer: Tokenizer of the reference.
        reward_model: Scores the prompts' bare text.
    """
    empty: list[list[int]] = [[] for _ in prompts.prompt_id]
    rewards = reward_model(full_texts(tokenizer, prompts.id_lists(), empty)).reward
    states = []
    for rows in torch.arange(len(prompts)).split(_ROWS):
        batch = prompts.select(rows)
        last = torch.arange(len(rows)) * batch.ids.shape[1] + batch.lengths - 1
        ids = batch.ids.to(reference.device)
        states.append(hidden_states(reference, ids, last.to(ids.device)).double().cpu())
    lengths = prompts.lengths.double().numpy()
    return PromptFeatures(rewards, lengths, torch.cat(states).numpy())

"""Rewards of the reference's draws, by reward model and held-out evaluator."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from vbon.batches import without_ends
from vbon.models.language_model import hidden_states, load_language_model, load_tokenizer
from vbon.models.paths import path_of
from vbon.pool.table import load_prompts, prompts_of
from vbon.rewards import Completions, load_reward_model, replace_unfinished

_ROWS = 64  # prompts per forward pass


def scorer(
    prompts: pd.DataFrame,
    reference: str,
    reward_model: str,
    evaluator: str,
    settings: Mapping[str, Any],
) -> Callable[[pd.DataFrame], tuple[pd.DataFrame, float]]:
    """A function that scores draws, with both models loaded once.

    Args:
        prompts: Rows of schema "prompts".
        reference: Model folder, for its tokenizer.
        reward_model: Model folder.
        evaluator: Model folder.
        settings: Section ``rewards`` of the configuration.

    Returns:
        A function of rows of schema "samples" that returns rows of schema "rewards" and the
        seconds that the reward model took, with the decoding of what it reads.
    """
    torch.set_num_threads(1)
    batch = prompts_of(prompts)
    row_of = {name: row for row, name in enumerate(batch.prompt_id)}
    tokenizer, size = load_tokenizer(reference), settings["batch_size"]
    training_reward = load_reward_model(reward_model, size, settings["transform"])
    held_out_reward = load_reward_model(evaluator, size)

    def score(samples: pd.DataFrame) -> tuple[pd.DataFrame, float]:
        index = [row_of[name] for name in samples["prompt_id"]]
        responses = without_ends(samples["response_ids"], samples["finished"])
        completions = Completions(tokenizer, batch, responses, index)
        frame = samples[["prompt_id", "draw"]].copy()
        started = time.perf_counter()
        scores = training_reward(completions)
        seconds = time.perf_counter() - started
        finished = samples["finished"].to_numpy()
        frame["reward"] = replace_unfinished(scores.reward, finished, settings)
        frame["reward_prob"] = scores.prob
        frame["evaluator_reward"] = held_out_reward(completions).reward
        return frame, seconds

    return score


@torch.no_grad()
def features_of(
    prompts: str, reference: str, reward_model: str, settings: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of a table's prompts in its order, without responses.

    Args:
        prompts: Table of schema "prompts".
        reference: Model folder.
        reward_model: Model folder.
        settings: Section ``rewards`` of the configuration.

    Returns:
        Arguments of :func:`vbon.pool.shared.fit_shared` besides the pools, float64: reward of each
        prompt's bare text ``[prompts]``, tokens of each prompt ``[prompts]``, and the reference's
        last hidden state ``[prompts, width]``.
    """
    torch.set_num_threads(1)
    table, size = load_prompts(prompts), settings["batch_size"]
    model, tokenizer = load_language_model(reference), load_tokenizer(reference)
    completions = Completions(tokenizer, table, [[] for _ in table.prompt_id])
    rewards = load_reward_model(reward_model, size, settings["transform"])(completions).reward
    states, width = [], path_of(model).width
    for rows in torch.arange(len(table)).split(_ROWS):
        batch = table.select(rows)
        last = torch.arange(len(rows)) * batch.ids.shape[1] + batch.lengths - 1
        ids = batch.ids.to(model.device)
        states.append(hidden_states(model, ids, last.to(ids.device))[:, :width].double().cpu())
    return rewards, table.lengths.double().numpy(), torch.cat(states).numpy()

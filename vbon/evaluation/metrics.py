"""Metrics of one policy's responses: means over prompts with their standard errors."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64
from numpy.typing import NDArray

from vbon.statistics import clustered_mean

Pools = Mapping[str, Float64[np.ndarray, " draws"]]


def win_rates(prompt_ids: pd.Series, rewards: NDArray, pools: Pools) -> tuple[NDArray, NDArray]:
    """Share of the prompt's pool that each response beats, ties half; and if it beats all of it.

    Args:
        prompt_ids: Prompt of each response.
        rewards: Reward of each response, float64.
        pools: Ascending reference rewards of each prompt.

    Returns:
        Shares (float64) and flags (bool), one each per response.

    Example:
        >>> pools = {"a": np.array([0.0, 1.0, 1.0, 2.0])}
        >>> [part.tolist() for part in win_rates(pd.Series(["a"]), np.array([1.0]), pools)]
        [[0.5], [False]]
    """
    wins, above = np.empty(len(rewards)), np.empty(len(rewards), dtype=bool)
    for name, rows in prompt_ids.groupby(prompt_ids, sort=False).indices.items():
        pool = pools[name]
        below = np.searchsorted(pool, rewards[rows], side="left")
        upto = np.searchsorted(pool, rewards[rows], side="right")
        wins[rows] = (below + upto) / (2 * len(pool))
        above[rows] = below == len(pool)
    return wins, above


def distinct_2(response_ids: pd.Series) -> float:
    """Distinct pairs of neighbouring tokens divided by all such pairs, over all responses.

    Example:
        >>> distinct_2(pd.Series([[1, 2, 1, 2]]))
        0.6666666666666666
    """
    pairs = [pair for ids in response_ids for pair in pairwise(ids)]
    return len(set(pairs)) / len(pairs) if pairs else float("nan")


def summarise(
    responses: pd.DataFrame,
    pools: Pools,
    evaluator_pools: Pools,
    first_rewards: Mapping[str, float],
) -> dict[str, Any]:
    """Measured columns of one row of ``points``.

    Args:
        responses: Responses of one policy, schema "responses".
        pools: Ascending reference rewards of each test prompt.
        evaluator_pools: The same for the held-out evaluator's rewards.
        first_rewards: Reward of the first pool draw of each prompt (for ``win_rate_single``).

    Returns:
        Means over prompts, standard errors over prompts (``*_se``), and counts.
    """
    prompt = responses["prompt_id"]
    reward, evaluated = responses["reward"].to_numpy(), responses["evaluator_reward"].to_numpy()
    wins, saturated = win_rates(prompt, reward, pools)
    evaluator_wins, _ = win_rates(prompt, evaluated, evaluator_pools)
    first = responses[responses["draw"] == responses["draw"].min()]
    single = first["reward"].to_numpy() > first["prompt_id"].map(first_rewards).to_numpy()
    point: dict[str, Any] = {
        "num_prompts": prompt.nunique(),
        "num_responses": len(responses),
        "kl_k1": (responses["log_prob"] - responses["log_prob_ref"]).mean(),
        "kl_k3": responses["kl_k3"].mean(),
        "win_rate_single": single.mean(),
        "reward_prob": responses["reward_prob"].mean(),
        "response_length": responses["response_ids"].map(len).mean(),
        "eos_rate": responses["finished"].mean(),
        "distinct_2": distinct_2(responses["response_ids"]),
        "saturation": saturated.mean(),
    }
    for name, values in {
        "kl": responses["kl"].to_numpy(),
        "win_rate": wins,
        "evaluator_win_rate": evaluator_wins,
        "reward": reward,
        "evaluator_reward": evaluated,
        "reward_prob": responses["reward_prob"].to_numpy(),
    }.items():
        if not np.isnan(values).all():  # all NaN for a reward model without probabilities
            point[name], point[f"{name}_se"] = clustered_mean(values, prompt.to_numpy())[:2]
    return point

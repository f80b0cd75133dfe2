"""The prompts whose draws show how an estimate of log F settles: figure 3 of arXiv:2407.06057."""

import numpy as np
import pandas as pd

from vbon.errors import DataError

SIZES = (10, 25, 50, 100, 200, 400, 600)
"""Numbers of draws that log F is estimated from; smaller samples are the first of larger ones."""

KINDS = {"adversarial": 0.0, "neutral": 0.5, "positive": 1.0}
"""Prompts shown: the quantiles of their mean reward."""


def shown_pools(rewards: pd.DataFrame, prompts: pd.DataFrame) -> pd.DataFrame:
    """Rewards of three prompts: those of the lowest, the median and the highest mean reward.

    Args:
        rewards: Columns prompt_id, draw, reward of the training prompts.
        prompts: Columns prompt_id, prompt.

    Returns:
        Columns ``kind, prompt_id, prompt, draw, reward``, as many draws a prompt as the largest of
        :data:`SIZES` that all prompts have.

    Raises:
        DataError: If no prompt has as many draws as the smallest sample.
    """
    pools = rewards.sort_values("draw").groupby("prompt_id", sort=True)["reward"].agg(np.array)
    most = int(pools.map(len).min())
    sizes = [m for m in SIZES if m <= most]
    if not sizes:
        raise DataError(f"rewards: {most} draws a prompt; figure 3 needs {SIZES[0]}")
    order = pools.map(np.mean).sort_values(kind="stable").index
    texts = prompts.set_index("prompt_id")["prompt"]
    parts = []
    for kind, quantile in KINDS.items():
        name = order[round(quantile * (len(order) - 1))]
        drawn = {"draw": range(sizes[-1]), "reward": pools[name][: sizes[-1]]}
        parts.append(
            pd.DataFrame({"kind": kind, "prompt_id": name, "prompt": texts[name], **drawn})
        )
    return pd.concat(parts, ignore_index=True)

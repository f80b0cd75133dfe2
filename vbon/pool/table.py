"""Rows of the pool's tables: prompts, draws and their first rewards."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from transformers import PreTrainedTokenizerBase

from vbon.artifacts import read_table
from vbon.batches import Prompts, Rollouts
from vbon.errors import ArtifactError
from vbon.pool.pairs import check_finite


def load_prompts(path: str | Path) -> Prompts:
    """Prompts of an artifact as padded token ids."""
    return prompts_of(read_table(path, "prompts"))


def prompts_of(table: pd.DataFrame) -> Prompts:
    """Rows of schema "prompts" as padded token ids, with their optional columns as details."""
    prompts = Prompts.from_lists(table["prompt_ids"].tolist(), table["prompt_id"].tolist())
    columns = [name for name in ("messages", "row") if name in table]
    details = table.set_index("prompt_id")[columns].to_dict("index") if columns else {}
    return replace(prompts, details=details)


def rollout_rows(
    rollouts: Rollouts, prompts: Prompts, tokenizer: PreTrainedTokenizerBase, first_draw: int = 0
) -> pd.DataFrame:
    """Rollouts as rows of schema "samples"."""
    ids = rollouts.response_lists()
    draws = np.arange(len(rollouts)) % (len(rollouts) // len(prompts)) + first_draw
    names = [prompts.prompt_id[index] for index in rollouts.prompt_index.tolist()]
    texts = tokenizer.batch_decode(rollouts.text_lists(), skip_special_tokens=True)
    columns = {"prompt_id": names, "draw": draws, "response": texts, "response_ids": ids}
    columns |= {"finished": rollouts.finished.numpy(), "log_prob": rollouts.log_prob.numpy()}
    return pd.DataFrame(columns)


def first_rewards(path: str, draws: int) -> pd.Series:
    """Each prompt's first rewards, ascending, by prompt_id in the table's order.

    Raises:
        ArtifactError: If a prompt has fewer draws.
        DataError: If a reward is not finite.
    """
    rewards = read_table(path, "rewards", ["prompt_id", "draw", "reward"])
    check_finite(rewards, f"{path}: ")
    kept = rewards[rewards["draw"] < draws]
    pools = kept.groupby("prompt_id", sort=False)["reward"].agg(np.sort)
    short = pools[pools.map(len) < draws]
    if len(short):
        raise ArtifactError(
            f"{path}: prompt {short.index[0]} has {len(short.iloc[0])} draws, "
            f"{draws} are needed (logf.m, sampling.test_draws)"
        )
    return pools

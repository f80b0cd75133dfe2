"""Reward models: functions from prompts and responses to rewards."""

from pathlib import Path

from vbon.rewards.base import (
    Completions,
    RewardModel,
    Rewards,
    full_texts,
    replace_unfinished,
)
from vbon.rewards.classifier import ClassifierReward
from vbon.rewards.function import NAME, FunctionReward
from vbon.rewards.table import TABLE, TableReward

__all__ = [
    "Completions", "RewardModel", "Rewards", "full_texts", "load_reward_model",
    "replace_unfinished",
]  # fmt: skip


def load_reward_model(
    path: str | Path, batch_size: int = 256, transform: str = "identity"
) -> RewardModel:
    """Load the reward model of a folder: a table, a Python function, or a classifier or scorer."""
    if (Path(path) / NAME).exists():
        return FunctionReward(path, batch_size, transform)
    if (Path(path) / TABLE).exists():
        return TableReward(path, transform)
    return ClassifierReward(path, batch_size, transform)

"""Reward models behind one call: texts in, rewards out."""

from pathlib import Path

from vbon.rewards.base import RewardModel, Rewards, replace_unfinished
from vbon.rewards.classifier import ClassifierReward, full_texts
from vbon.rewards.function import NAME, FunctionReward
from vbon.rewards.table import TABLE, TableReward

__all__ = ["RewardModel", "Rewards", "full_texts", "load_reward_model", "replace_unfinished"]


def load_reward_model(
    path: str | Path, batch_size: int = 256, transform: str = "identity"
) -> RewardModel:
    """Load what a folder holds: a table of texts, a Python function, a classifier or a scalar."""
    if (Path(path) / NAME).exists():
        return FunctionReward(path, batch_size, transform)
    if (Path(path) / TABLE).exists():
        return TableReward(path, transform)
    return ClassifierReward(path, batch_size, transform)

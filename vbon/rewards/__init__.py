"""Reward models: functions from prompts and responses to rewards."""

from pathlib import Path

from vbon.models.loading import pointer
from vbon.rewards.base import (
    Completions,
    RewardModel,
    Rewards,
    check_options,
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
    path: str | Path,
    batch_size: int = 256,
    transform: str = "identity",
    *,
    label: str | int | None = None,
    chat: bool | None = None,
) -> RewardModel:
    """Load the reward model of a folder: a table, a Python function, or a classifier or scorer.

    Args:
        path: Folder of the reward model, or of a pointer to one.
        batch_size: Texts per call or forward pass.
        transform: A name in :data:`vbon.rewards.base.TRANSFORMS`.
        label: Class of a classifier; by default the pointer's, or the positive one.
        chat: Score conversations in the model's chat template; by default as the pointer says.

    Raises:
        ArtifactError: If no reward model can be loaded from ``path``.
        ConfigError: If an option or the model cannot be used.
    """
    check_options(batch_size, transform)
    if (Path(path) / NAME).exists():
        return FunctionReward(path, batch_size, transform)
    if (Path(path) / TABLE).exists():
        return TableReward(path, transform)
    target = pointer(path)
    label = target.get("label") if label is None else label
    chat = target.get("chat", False) if chat is None else chat
    return ClassifierReward(path, batch_size, transform, label, chat)

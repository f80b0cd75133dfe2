"""Reward models that are tables of texts, for enumerable languages."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vbon.artifacts import read_table
from vbon.errors import DataError
from vbon.rewards.base import Rewards, transformed

TABLE = "rewards.parquet"


class TableReward:
    """Reward model that looks texts up in a table.

    Args:
        path: Folder with :data:`TABLE`.
        transform: A name in :data:`vbon.rewards.base.TRANSFORMS`.
    """

    def __init__(self, path: str | Path, transform: str = "identity") -> None:
        table = read_table(Path(path) / TABLE, "text_rewards")
        self._rewards = dict(zip(table["text"], table["reward"], strict=True))
        self._transform = transform

    def __call__(self, texts: Sequence[str]) -> Rewards:
        """Rewards of the texts; probabilities are NaN.

        Raises:
            DataError: If a text is not in the table, or a reward is not finite.
        """
        try:
            raw = np.array([self._rewards[text] for text in texts], dtype=np.float64)
        except KeyError as error:
            raise DataError(
                f"reward: text {error} is not in the reward table ({TABLE}), which has "
                f"{len(self._rewards)} texts; make the table again with the task's current config"
            ) from error
        return Rewards(transformed(raw, self._transform, texts), np.full(len(texts), np.nan))

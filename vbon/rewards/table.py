"""A reward model that is a table of texts, for languages that can be enumerated."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vbon.artifacts import read_table
from vbon.errors import DataError
from vbon.rewards.base import Rewards, transformed

TABLE = "rewards.parquet"


class TableReward:
    """Look texts up.

    Args:
        path: Folder that holds the table.
        transform: A name in :data:`vbon.rewards.base.TRANSFORMS`.
    """

    def __init__(self, path: str | Path, transform: str = "identity") -> None:
        table = read_table(Path(path) / TABLE, "text_rewards")
        self._rewards = dict(zip(table["text"], table["reward"], strict=True))
        self._transform = transform

    def __call__(self, texts: Sequence[str]) -> Rewards:
        """Rewards of the texts; there is no probability.

        Raises:
            DataError: For a text that is not in the table, or a reward that is not finite.
        """
        try:
            raw = np.array([self._rewards[text] for text in texts], dtype=np.float64)
        except KeyError as error:
            raise DataError(f"reward: text {error} is not in the reward table") from error
        return Rewards(transformed(raw, self._transform, texts), np.full(len(texts), np.nan))

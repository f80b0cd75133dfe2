"""Every figure by name: what the workflow can draw, and from which tables."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from vbon.figures.optimum import figure_optimum
from vbon.figures.tradeoff import figure2

Tables = Mapping[str, pd.DataFrame]


def _tradeoff(axis: str, title: str) -> Callable[[Tables, Path], pd.DataFrame]:
    def draw(tables: Tables, out_stem: Path) -> pd.DataFrame:
        return figure2(tables["points"], axis, out_stem, title=title)

    return draw


FIGURES: dict[str, Callable[[Tables, Path], pd.DataFrame]] = {
    "figure2a": _tradeoff("win_rate", "Sentiment: win rate"),
    "figure2b": _tradeoff("reward_prob", "Sentiment: mean probability of positive"),
    "optimum": lambda tables, stem: figure_optimum(tables["optimum"], tables["curves"], stem),
}
"""Functions of tables by name and an output path without suffix."""

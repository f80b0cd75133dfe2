"""All figures by name, each a function of the workflow's tables."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from vbon.figures.draws import figure4, figure_estimators
from vbon.figures.estimates import figure3
from vbon.figures.optimum import figure_optimum
from vbon.figures.temperature import figure5, overoptimisation
from vbon.figures.tradeoff import figure2, figure6

Tables = Mapping[str, pd.DataFrame]
Draw = Callable[[Tables, Path], pd.DataFrame]


def _tradeoff(axis: str, words: str, without: str = "") -> Draw:
    """Figure 2 or 7 of every method except the one in ``without``."""

    def draw(tables: Tables, out_stem: Path) -> pd.DataFrame:
        points, about = tables["points"], words
        methods = [name for name in points["method"].unique() if name != without]
        extra = {name: tables.get(name) for name in ("attainment", "pareto")}
        extra["exact"] = exact = tables.get("oracle_curves")
        if axis == "reward_prob" and points[axis].isna().all():
            # The reward has no probability (a function's, for example): draw the reward itself,
            # for which there are no bands and no shares.
            points = points.assign(reward_prob=points["reward"], reward_prob_se=points["reward_se"])
            if exact is not None:
                exact = exact.assign(reward_prob=exact["reward"])
            extra, about = {"label": "Mean reward", "exact": exact}, "mean reward"
        title = _titled(points, about)
        return figure2(points, axis, out_stem, title=title, methods=methods, **extra)

    return draw


def _exact_and_bound(tables: Tables, out_stem: Path) -> pd.DataFrame:
    """Figure 6."""
    extra = {name: tables.get(name) for name in ("attainment", "equivalence")}
    title = _titled(tables["points"], "vBoN and its L bound")
    return figure6(tables["points"], out_stem, title=title, **extra)


def _titled(points: pd.DataFrame, words: str) -> str:
    """Title with the name of the task, as "Sentiment: win rate"."""
    return f"{points['task'].iloc[0].replace('_', ' ').capitalize()}: {words}"


_WIN_RATE, _REWARD = "win rate", "mean probability of positive"

FIGURES: dict[str, Draw] = {
    "figure2a": _tradeoff("win_rate", _WIN_RATE, "bon_sft"),
    "figure2b": _tradeoff("reward_prob", _REWARD, "bon_sft"),
    "figure3": lambda tables, stem: figure3(tables["shown_pools"], stem),
    "figure4": lambda tables, stem: figure4(tables["points"], tables["costs"], stem),
    "figure5a": lambda tables, stem: figure5(tables["points"], "evaluator_win_rate", stem),
    "figure5b": lambda tables, stem: figure5(tables["points"], "evaluator_reward", stem),
    "overoptimisation": lambda tables, stem: overoptimisation(tables["monitored"], stem),
    "figure6": _exact_and_bound,
    "figure7a": _tradeoff("win_rate", f"{_WIN_RATE}, with BoN-SFT"),
    "figure7b": _tradeoff("reward_prob", f"{_REWARD}, with BoN-SFT"),
    "estimators": lambda tables, stem: figure_estimators(tables["estimators"], stem),
    "optimum": lambda tables, stem: figure_optimum(tables["optimum"], tables["curves"], stem),
}
"""Functions of the tables (by name) and of an output path without suffix."""

"""Headline numbers per method, to compare two states of the project."""

import math
from typing import Any

import pandas as pd

_MEANS = ("win_rate", "kl", "evaluator_win_rate")
_FRONT = ("share", "hypervolume")


def headline(points: pd.DataFrame, pareto: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Numbers of a task that ``dvc metrics`` shows.

    Args:
        points: Rows of schema "points" of one task.
        pareto: Rows of schema "pareto"; none if the task has no fronts.

    Returns:
        By method: numbers of ``runs`` and of those that ``diverged``; mean metrics of the setting
        with the largest mean win rate; share of the pooled front of win rates, and hypervolume.
        Missing numbers are omitted.

    Example:
        >>> points = pd.DataFrame({
        ...     "method": "ppo", "setting": ["a", "b", "b"], "seed": [0, 0, 1], "status": "ok",
        ...     "win_rate": [0.7, 0.75, 0.75], "kl": 1.0, "evaluator_win_rate": math.nan})
        >>> headline(points, pd.DataFrame(columns=["method", "front", "axes"]))["ppo"]
        {'runs': 3, 'diverged': 0, 'win_rate': 0.75, 'kl': 1.0}
    """
    front = pareto[(pareto["front"] == "paper") & (pareto["axes"] == "win_rate")]
    by_method: dict[str, dict[str, float]] = {}
    for method, part in points.groupby("method", sort=False):
        runs = part.drop_duplicates(["setting", "seed"])
        means = part[part["status"] == "ok"].groupby("setting")[list(_MEANS)].mean()
        best = means.sort_values("win_rate").iloc[-1] if len(means) else pd.Series(dtype=float)
        shares = front[front["method"] == method]
        numbers: dict[str, Any] = {
            **best,
            **(dict(shares.iloc[0][list(_FRONT)]) if len(shares) else {}),
        }
        by_method[str(method)] = {
            "runs": len(runs),
            "diverged": int((runs["status"] == "diverged").sum()),
            **{name: float(value) for name, value in numbers.items() if math.isfinite(value)},
        }
    return by_method

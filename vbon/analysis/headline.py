"""A few numbers a method, for comparing one state of the project with another."""

import math
from typing import Any

import pandas as pd

_MEANS = ("win_rate", "kl", "evaluator_win_rate")
_FRONT = ("share", "hypervolume")


def headline(points: pd.DataFrame, pareto: pd.DataFrame) -> dict[str, dict[str, float]]:
    """What ``dvc metrics`` shows of a task.

    Args:
        points: Rows of schema "points" of one task.
        pareto: Rows of schema "pareto", none where the task has no fronts.

    Returns:
        By method: ``runs`` and how many of them ``diverged``; the means of its setting with the
        largest mean win rate; its share of the pooled front of win rates and its hypervolume.
        Numbers that there are not are left out.

    Example:
        >>> points = pd.DataFrame({
        ...     "method": "ppo", "setting": ["a", "b", "b"], "seed": [0, 0, 1], "status": "ok",
        ...     "win_rate": [0.7, 0.75, 0.75], "kl": 1.0, "evaluator_win_rate": math.nan})
        >>> headline(points, pd.DataFrame(columns=["method", "front", "axes"]))["ppo"]
        {'runs': 3, 'diverged': 0, 'win_rate': 0.75, 'kl': 1.0}
    """
    front = pareto[(pareto["front"] == "paper") & (pareto["axes"] == "win_rate")]
    found: dict[str, dict[str, float]] = {}
    for method, part in points.groupby("method", sort=False):
        runs = part.drop_duplicates(["setting", "seed"])
        means = part[part["status"] == "ok"].groupby("setting")[list(_MEANS)].mean()
        best = means.sort_values("win_rate").iloc[-1] if len(means) else pd.Series(dtype=float)
        own = front[front["method"] == method]
        numbers: dict[str, Any] = {**best, **(dict(own.iloc[0][list(_FRONT)]) if len(own) else {})}
        found[str(method)] = {
            "runs": len(runs),
            "diverged": int((runs["status"] == "diverged").sum()),
            **{name: float(value) for name, value in numbers.items() if math.isfinite(value)},
        }
    return found

"""Trials of budgets: which one is best for each method within a common cost.

A budget moves KL and win rate of a setting together, so trials are compared by the win rates that
their settings attain within the same KL (:func:`vbon.analysis.attainment.attained`). With few
settings this depends on where they lie, by up to .01: it compares trials of one method, which have
the same settings, and not methods.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from vbon.analysis.attainment import Curve, attained

BUDGETS = (0.5, 1.0, 2.0)
"""KLs at which trials are compared, in nats."""
COLUMNS = [
    *("level", "method", "trial", "budget", "cost", "tokens"),
    *(f"win_rate_{budget:g}" for budget in BUDGETS),
    *("win_rate", "best"),
]


def trials_table(
    points: Mapping[str, pd.DataFrame], trained: Mapping[str, Mapping[str, Any]]
) -> pd.DataFrame:
    """Cost of each trial, the win rates that it attains, and the best of each method and level.

    A method's curve begins at the reference, which has a KL of 0 and a win rate of 1/2; a trial
    whose settings do not reach a KL keeps its last win rate there.

    Args:
        points: Rows of the points table of each trial.
        trained: What :func:`vbon.planning.trials.trained` returns for the same trials.

    Returns:
        Columns :data:`COLUMNS`. ``win_rate`` is the mean over :data:`BUDGETS`; ``best`` marks the
        largest of a method and level.

    Example:
        >>> runs = pd.DataFrame({"setting": ["n2", "n4"], "status": "ok", "kl": [0.5, 2.0],
        ...                      "win_rate": [0.6, 0.8]})
        >>> common = {"level": 1, "method": "vbon", "cost": 1.0, "tokens": 9, "budget": {}}
        >>> trained = {name: {**common, "trial": name} for name in "ab"}
        >>> better = runs.assign(win_rate=runs["win_rate"] + 0.1)
        >>> trials_table({"a": runs, "b": better}, trained)["best"].tolist()
        [False, True]
    """
    rows = []
    for study, runs in points.items():
        means = runs[runs["status"] == "ok"].groupby("setting")[["kl", "win_rate"]].mean()
        curve = Curve(np.append(0, means["kl"].clip(0)), np.append(0.5, means["win_rate"]))
        values = attained(curve, np.array(BUDGETS))
        budget = ", ".join(f"{k}: {v}" for k, v in trained[study]["budget"].items())
        row = {**trained[study], "budget": budget, "win_rate": values.mean(), "best": False}
        rows.append(row | dict(zip(COLUMNS[6:9], values, strict=True)))
    table = pd.DataFrame(rows, columns=COLUMNS)
    table.loc[table.groupby(["level", "method"])["win_rate"].idxmax(), "best"] = True
    return table

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

from vbon.analysis.attainment import Curve, attained, sweeps

BUDGETS = (0.5, 1.0, 2.0)
"""KLs at which trials are compared, in nats."""
COLUMNS = [
    *("level", "method", "trial", "budget", "cost", "tokens"),
    *(f"win_rate_{budget:g}" for budget in BUDGETS),
    *("win_rate", "behind", "behind_se", "reaches", "best"),
]


def trials_table(
    points: Mapping[str, pd.DataFrame],
    trained: Mapping[str, Mapping[str, Any]],
    seed: int,
    replicates: int,
) -> pd.DataFrame:
    """Cost of each trial, the win rates that it attains, and the best of each method and level.

    A method's curve begins at the reference, which has a KL of 0 and a win rate of 1/2; a trial
    whose settings do not reach a KL keeps its last win rate there.

    Args:
        points: Rows of the points table of each trial.
        trained: What :func:`vbon.planning.trials.trained` returns for the same trials.
        seed: Seed of the resamples (:func:`vbon.analysis.attainment.sweeps`).
        replicates: Number of resamples.

    Returns:
        Columns :data:`COLUMNS`. ``win_rate`` is the mean over :data:`BUDGETS`, ``behind`` the
        largest of the method and level minus this one, ``behind_se`` its standard error over
        training seeds and prompts, ``reaches`` the largest KL of a setting; ``best`` marks the
        largest.

    Example:
        >>> runs = pd.DataFrame({"setting": ["n2", "n4"], "status": "ok", "kl": [0.5, 2.0],
        ...                      "win_rate": [0.6, 0.8]})
        >>> common = {"level": 1, "method": "vbon", "cost": 1.0, "tokens": 9, "budget": {}}
        >>> trained = {name: {**common, "trial": name} for name in "ab"}
        >>> better = runs.assign(win_rate=runs["win_rate"] + 0.1)
        >>> table = trials_table({"a": runs, "b": better}, trained, seed=0, replicates=10)
        >>> table[["behind", "best"]].round(2).values.tolist()
        [[0.1, False], [0.0, True]]
    """
    together = pd.concat([runs.assign(method=trial) for trial, runs in points.items()])
    rows, resampled = [], []
    for trial, sweep in sweeps(together, "win_rate", seed, replicates).items():
        curve, drawn = (_from_the_reference(part) for part in sweep)
        values = attained(curve, np.array(BUDGETS))
        resampled.append(attained(drawn, np.array(BUDGETS)).mean(axis=1))
        budget = ", ".join(f"{key}: {value}" for key, value in trained[trial]["budget"].items())
        row = {**trained[trial], "budget": budget, "win_rate": values.mean()}
        row |= {"reaches": curve.kl.max(), "best": False}
        rows.append(row | dict(zip(COLUMNS[6:9], values, strict=True)))
    table = pd.DataFrame(rows, columns=COLUMNS)
    group = table.groupby(["level", "method"])["win_rate"]
    best = group.transform("idxmax")
    table["behind"] = group.transform("max") - table["win_rate"]
    table["behind_se"] = np.std(np.array(resampled)[best] - resampled, axis=1, ddof=1)
    table.loc[best.unique(), "best"] = True
    return table


def _from_the_reference(curve: Curve) -> Curve:
    """The curve, shape (..., settings), with the reference as one more setting."""
    kl, metric = curve
    one = (*kl.shape[:-1], 1)
    return Curve(
        np.append(np.zeros(one), kl.clip(0), axis=-1), np.append(np.full(one, 0.5), metric, axis=-1)
    )

"""Movement of win rate, reward and KL over the last quarter of training.

A falling learning rate slows every curve down, so little movement does not show that longer
training would change nothing.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import scipy.stats

from vbon.errors import DataError

QUANTITIES = ("win_rate", "reward", "kl")
LAST = 0.25
"""Share of training, counted from the end, over which movement is measured."""


def movement(history: pd.DataFrame, quantity: str) -> tuple[float, float]:
    """Movement of a quantity over the last quarter of training, from a straight-line fit.

    Args:
        history: Rows of one run, schema "history", at equally spaced steps.
        quantity: Name of its column.

    Returns:
        Slope times length of the quarter, and its standard error, in the unit of the column; NaN
        if the quarter has fewer than three measurements or one is missing.

    Example:
        >>> history = pd.DataFrame({"kl": [0.0, 1.0, 2.0, 2.5, 2.75, 2.8, 2.8, 2.8] * 2})
        >>> [round(number, 3) for number in movement(history.sort_values("kl"), "kl")]
        [0.0, 0.0]
    """
    values = history[quantity].to_numpy(dtype=np.float64)
    values = values[len(values) - int(LAST * len(values)) :]
    if len(values) < 3 or np.isnan(values).any():
        return np.nan, np.nan
    line = scipy.stats.linregress(np.arange(len(values)), values)
    # By rounding, the standard error of an exact line may be NaN.
    error = float(np.nan_to_num(line.stderr))
    return float(line.slope * len(values)), error * len(values)


def convergence_table(runs: Iterable[tuple[str, str, pd.DataFrame]]) -> pd.DataFrame:
    """Movement over the last quarter of training for each setting, averaged over its seeds.

    Args:
        runs: Method, setting and history of each run.

    Returns:
        Columns ``method, setting, seeds`` and, for each of :data:`QUANTITIES`, its mean movement
        and standard error (``*_se``), empty if it was not recorded in training.

    Raises:
        DataError: If no run has a history.
    """
    rows = []
    for method, setting, history in runs:
        if len(history):
            moved = {name: movement(history, name) for name in QUANTITIES if name in history}
            flat = {f"{name}{end}": value for name, pair in moved.items()
                    for end, value in zip(("", "_se"), pair, strict=True)}  # fmt: skip
            rows.append({"method": method, "setting": setting, **flat})
    if not rows:
        raise DataError("history: no run has a training history, so convergence is undefined")
    columns = [f"{name}{end}" for name in QUANTITIES for end in ("", "_se")]
    frame = pd.DataFrame(rows).reindex(columns=["method", "setting", *columns])
    grouped = frame.groupby(["method", "setting"], sort=False)
    table = grouped.mean().reset_index()
    seeds = grouped.size().to_numpy()
    for name in QUANTITIES:
        table[f"{name}_se"] /= np.sqrt(seeds)
    table.insert(2, "seeds", seeds)
    return table

"""Means per test prompt, and prompts resampled for all runs together.

All runs answer the same test prompts, so the difficulty of a prompt moves all of them and mostly
cancels in a difference of two methods. A resample therefore weights the prompts once, for every
run and every metric.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from vbon.errors import DataError
from vbon.evaluation.metrics import Pools, win_rates
from vbon.seeding import derive_seed

Floats = npt.NDArray[np.float64]
Shifts = Mapping[tuple[str, str, int, str], Floats]
"""By method, setting, seed and metric: a run's mean in each resample minus its mean."""

RUN = ["method", "setting", "seed"]
METRICS = ["kl", "win_rate", "reward_prob", "evaluator_reward"]
NOT_RESAMPLED = "prompts are not resampled"
"""Note of intervals that lack the table of :func:`prompt_means_table`."""


def prompt_means_table(
    responses: Iterable[tuple[Mapping[str, Any], pd.DataFrame]], pools: Pools
) -> pd.DataFrame:
    """Mean over a run's responses to each test prompt.

    Args:
        responses: Record and responses of each run.
        pools: Ascending reference rewards of each prompt, among which win rates are counted.

    Returns:
        Columns ``method, setting, seed, prompt_id`` and :data:`METRICS`. The mean of a run's rows
        is its row of the points table.
    """
    parts = []
    for record, frame in responses:
        wins, _ = win_rates(frame["prompt_id"], frame["reward"].to_numpy(), pools)
        means = frame.assign(win_rate=wins).groupby("prompt_id", as_index=False)[METRICS].mean()
        for place, name in enumerate(RUN):
            means.insert(place, name, record[name])
        parts.append(means)
    if not parts:
        return pd.DataFrame(columns=[*RUN, "prompt_id", *METRICS])
    return pd.concat(parts, ignore_index=True)


def prompt_shifts(means: pd.DataFrame | None, seed: int, replicates: int) -> Shifts:
    """Change of each run's means when the test prompts are drawn again.

    Of ``P`` prompts a resample draws ``P - 1`` with replacement: the variance of a run's shift is
    then the square of its standard error in the points table (Rao and Wu, JASA 83, 1988).

    Args:
        means: The table of :func:`prompt_means_table`; None if there is none.
        seed: Seed of the resamples.
        replicates: Number of resamples.

    Returns:
        Shifts of shape (replicates,); none without the table.

    Raises:
        DataError: If runs were measured on different prompts.

    Example:
        >>> means = pd.DataFrame({
        ...     "method": "ppo", "setting": "x", "seed": 0, "prompt_id": list("abcd"),
        ...     "kl": 1.0, "win_rate": [0.5, 0.6, 0.7, 0.8]})
        >>> shifts = prompt_shifts(means, seed=0, replicates=20_000)
        >>> error = (means["win_rate"].std() / 2, shifts["ppo", "x", 0, "win_rate"].std())
        >>> [round(float(number), 3) for number in error]
        [0.065, 0.065]
        >>> float(abs(shifts["ppo", "x", 0, "kl"]).max())
        0.0
    """
    if means is None or means.empty:
        return {}
    names = [name for name in METRICS if name in means and means[name].notna().all()]
    grid = means.pivot(index="prompt_id", columns=RUN, values=names)
    if grid.isna().any(axis=None):
        raise DataError("prompt_means.prompt_id: runs were measured on different prompts")
    count = len(grid)
    rng = np.random.default_rng(derive_seed(seed, "resampled prompts"))
    picks = rng.multinomial(max(count - 1, 1), np.full(count, 1 / count), size=replicates)
    values = grid.to_numpy(np.float64)
    values = values - values[0]  # a constant, as best-of-n's KL, then has no rounding error
    shifts = picks @ (values - values.mean(axis=0)) / max(count - 1, 1)
    runs = [(method, setting, int(number), name) for name, method, setting, number in grid.columns]
    return dict(zip(runs, shifts.T, strict=True))


def shifts_of(runs: pd.DataFrame, names: Sequence[str], shifts: Shifts, replicates: int) -> Floats:
    """Shifts of rows of the points table, shape (metrics, replicates, runs); NaN where unknown."""
    array = np.full((len(names), replicates, len(runs)), np.nan)
    if shifts:
        for column, run in enumerate(runs[RUN].itertuples(index=False, name=None)):
            for number, name in enumerate(names):
                array[number, :, column] = shifts.get((*run, name), np.nan)
    return array

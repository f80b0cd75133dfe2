"""Methods compared at equal KL: attainment curves, their bands, and values at given budgets.

The *attainment* of a method at a budget of ``k`` nats is the best metric that it reaches with a
KL of at most ``k``. It is taken along the method's *mean curve*: the runs of a setting are
averaged over seeds first, and the best setting so far counts, joined by a monotone cubic over the
square root of KL. Each step has its reason. The best single run would favour whoever has more
seeds, because the luckiest of three beats the luckiest of two. A staircase would favour whoever
has the denser grid. So would straight lines: chords run below a curve that bends down, by up to
0.02 of a win rate on the paper's grids (0.04 over KL itself, whose root every gain grows as near
the reference), which is more than many differences between methods; the cubic stays within 0.007.
Below its smallest KL a method has no value; beyond its largest it keeps what it has.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.interpolate import PchipInterpolator
from scipy.special import lambertw

from vbon.analysis.pareto import (
    AXES,
    CONFIDENCE,
    Floats,
    check_plane,
    coordinates,
    in_range,
    standard_error,
)
from vbon.errors import DataError
from vbon.objectives.frontier import win_rate
from vbon.seeding import derive_seed
from vbon.statistics import percentile_interval

BUDGETS = (0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 15.0)
"""KL budgets of the table, in nats."""

BAND_POINTS = 80
"""Points of each band, evenly spaced in the square root of KL as on the figures' axis."""


class Curve(NamedTuple):
    """Mean coordinates of a method's settings, shape (..., settings); NaN where all runs failed."""

    kl: Floats
    metric: Floats


class Sweep(NamedTuple):
    """One method: its curve, and resamples of it with shape (replicates, settings)."""

    mean: Curve
    drawn: Curve


def best_of_n_win_rate(kl: Sequence[float] | Floats) -> Floats:
    r"""Win rate of best-of-n at a KL budget, for real :math:`n \ge 1` and continuous rewards.

    With :math:`u = 1/n` the bound :math:`\mathrm{KL} = \log n - 1 + 1/n` (arXiv:2407.06057,
    section 2) reads :math:`-u\, e^{-u} = -e^{-1-\mathrm{KL}}`, solved by the principal branch of
    Lambert's function, and the win rate is :math:`n / (n + 1) = 1 / (1 + u)`.

    Args:
        kl: KL in nats, non-negative.

    Returns:
        Win rates in [0.5, 1), with the shape of ``kl``.

    Example:
        >>> best_of_n_win_rate([0.0, 0.6363]).round(4).tolist()  # best-of-4 has 0.6363 nats
        [0.5, 0.8]
    """
    inside = np.clip(kl, 1e-15, 700.0)  # the branch point itself is not computable, nor 1 / u at 0
    u = -lambertw(-np.exp(-1 - inside)).real
    return np.asarray(win_rate(1 / u))


def attained(curve: Curve, budgets: Floats) -> Floats:
    """Best metric along a mean curve at each KL budget.

    Args:
        curve: Settings in any order, shape (..., settings).
        budgets: KL in nats, shape (budgets,).

    Returns:
        Shape (..., budgets); NaN below the smallest KL of the curve.

    Example:
        >>> curve = Curve(np.array([2.0, 1.0, 3.0]), np.array([0.6, 0.7, 0.9]))
        >>> attained(curve, np.array([0.5, 1.0, 2.0, 2.5, 9.0])).round(2).tolist()
        [nan, 0.7, 0.7, 0.77, 0.9]
    """
    known = ~(np.isnan(curve.kl) | np.isnan(curve.metric))
    kl, metric = np.where(known, curve.kl, np.inf), np.where(known, curve.metric, -np.inf)
    order = np.lexsort((-metric, kl), axis=-1)  # among equal KLs the best first
    kl = np.take_along_axis(kl, order, -1)
    best = np.maximum.accumulate(np.take_along_axis(metric, order, -1), axis=-1)
    kl, at = np.sqrt(kl), np.sqrt(budgets)
    values = np.full((*kl.shape[:-1], len(at)), np.nan)
    for index in np.ndindex(kl.shape[:-1]):
        nodes, first = np.unique(kl[index][np.isfinite(kl[index])], return_index=True)
        reached = at >= nodes[0] if nodes.size else np.zeros(len(at), dtype=bool)
        if nodes.size > 1:
            line = PchipInterpolator(nodes, best[index][first])
            values[*index, reached] = line(np.minimum(at[reached], nodes[-1]))
        elif nodes.size:
            values[*index, reached] = best[index][0]
    return values


def sweeps(points: pd.DataFrame, axis: str, seed: int, replicates: int) -> dict[str, Sweep]:
    """Mean curve of each method, and bootstrap resamples of it.

    Runs are drawn within each setting: of ``s`` seeds ``s - 1``, with replacement, so that the
    variance of the resampled means is the unbiased estimate of the mean's, also for two seeds,
    where drawing ``s`` would halve it (Rao and Wu, JASA 83, 1988). The seeds' spread holds the
    noise of training and all of a run's own sampling noise. What it does not hold is what the
    runs share: the test prompts and the random numbers that responses are drawn with. That part
    moves all runs of all methods together, by one normal number times each run's own standard
    error, so that it widens values but not differences of methods; the standard error is an upper
    bound for it. A setting with a single run shows no spread and is moved on its own instead.

    Args:
        points: Rows of the points table: one task, one temperature, one domain.
        axis: One of :data:`vbon.analysis.pareto.AXES`.
        seed: Seed of the resamples.
        replicates: Number of resamples.

    Returns:
        By method, in order of appearance; the reference, a single point, is left out.

    Raises:
        DataError: If the axis is unknown, a column is missing or the rows mix tasks.
    """
    check_plane(points, "all", axis)
    prompts = np.random.default_rng(derive_seed(seed, "matched", axis, "prompts"))
    shared = prompts.standard_normal((2, replicates, 1))
    found = {}
    for method in pd.unique(points["method"]):
        own = points[points["method"] == method]
        if method != "reference":
            rng = np.random.default_rng(derive_seed(seed, "matched", axis, "runs", method))
            found[method] = _sweep(own, axis, shared, rng)
    return found


def _sweep(own: pd.DataFrame, axis: str, shared: Floats, rng: np.random.Generator) -> Sweep:
    """Mean and resampled coordinates of one method's settings."""
    kl, metric = coordinates(own, axis)
    replicates = shared.shape[1]
    shift = np.broadcast_to(shared, (2, replicates, len(own))).copy()
    alone = own.assign(good=~np.isnan(kl + metric)).groupby("setting")["good"].transform("sum") < 2
    shift[:, :, alone] = rng.standard_normal((2, replicates, int(alone.sum())))
    moved = in_range(
        kl + shift[0] * standard_error(own, "kl"),
        metric + shift[1] * standard_error(own, axis),
        axis,
    )
    means, drawn = [], []
    for rows in own.groupby("setting", sort=False).indices.values():
        good = rows[~(np.isnan(kl[rows]) | np.isnan(metric[rows]))]
        if good.size == 0:
            continue
        pick = rng.choice(good, size=(replicates, max(good.size - 1, 1)))
        means.append([kl[good].mean(), metric[good].mean()])
        drawn.append([np.take_along_axis(part, pick, 1).mean(axis=1) for part in moved])
    middle, resampled = np.array(means).reshape(-1, 2), np.array(drawn).reshape(-1, 2, replicates)
    return Sweep(Curve(*middle.T), Curve(resampled[:, 0].T, resampled[:, 1].T))


def matched_table(
    points: pd.DataFrame, seed: int, replicates: int, *, budgets: Sequence[float] = BUDGETS
) -> pd.DataFrame:
    """What each method attains at given KL budgets, with bootstrap intervals.

    Args:
        points: Rows of the points table: one task, one temperature, one domain.
        seed: Seed of the resamples (:func:`sweeps`).
        replicates: Number of resamples, at least 1.
        budgets: KL in nats, ascending.

    Returns:
        Columns ``axes, kl, method, value, low, high`` (95 % interval), ``best_of_n`` (closed form,
        win rate only), ``difference, difference_low, difference_high`` (value minus that),
        ``reaches`` (KL of the strongest setting: beyond it the value stays), ``runs, diverged``.
        Values are NaN below a method's smallest KL.

    Raises:
        DataError: If a column is missing, no metric has a number, or ``replicates`` is below 1.

    Example:
        >>> points = pd.DataFrame({
        ...     "method": "vbon", "setting": ["n2", "n8"], "status": "ok", "kl": [0.2, 1.2],
        ...     "win_rate": [0.66, 0.88]})
        >>> table = matched_table(points, seed=0, replicates=10, budgets=[0.1, 0.7])
        >>> table[["kl", "value"]].round(3).values.tolist()
        [[0.1, nan], [0.7, 0.792]]
    """
    at = np.asarray(budgets, dtype=np.float64)
    blocks = []
    for axis, found in all_sweeps(points, seed, replicates).items():
        known = best_of_n_win_rate(at) if axis == "win_rate" else np.full(at.shape, np.nan)
        for method, (mean, drawn) in found.items():
            value, ends = attained(mean, at), percentile_interval(attained(drawn, at), CONFIDENCE)
            low, high = (np.where(np.isnan(value), np.nan, end) for end in ends)
            shown = {"axes": axis, "kl": at, "method": method, "value": value}
            shown |= {"low": low, "high": high, "best_of_n": known, "difference": value - known}
            shown |= {"difference_low": low - known, "difference_high": high - known}
            reaches = np.nanmax([*mean.kl, np.nan]) if mean.kl.size else np.nan
            blocks.append(pd.DataFrame({**shown, "reaches": reaches, **_counts(points, method)}))
    table = pd.concat(blocks, ignore_index=True)
    return table.sort_values(["axes", "kl"], kind="stable", key=_in_order).reset_index(drop=True)


def attainment_bands(
    points: pd.DataFrame, seed: int, replicates: int, *, num: int = BAND_POINTS
) -> pd.DataFrame:
    """Attainment curve of each method with its median and 95 % band over resamples.

    Args:
        points: Rows of the points table: one task, one temperature, one domain.
        seed: Seed of the resamples (:func:`sweeps`).
        replicates: Number of resamples, at least 1.
        num: Points of a band, from the method's smallest KL to its largest.

    Returns:
        Tidy rows: columns ``axes, method, kl, value, median, low, high``; a method whose runs all
        diverged has none.

    Raises:
        DataError: If a column is missing, no metric has a number, or ``replicates`` is below 1.
    """
    blocks = []
    for axis, found in all_sweeps(points, seed, replicates).items():
        for method, (mean, drawn) in found.items():
            if not mean.kl.size:
                continue
            ends_of_curve = mean.kl.min(), mean.kl.max()
            at = np.linspace(*np.sqrt(ends_of_curve), num) ** 2
            at = np.clip(at, *ends_of_curve)  # the square may round past an end
            values = attained(drawn, at)
            ends = percentile_interval(values, CONFIDENCE)
            middle = percentile_interval(values, 0.0).low
            block = {"axes": axis, "method": method, "kl": at, "value": attained(mean, at)}
            blocks.append(pd.DataFrame(block | {"median": middle, "low": ends.low}))
            blocks[-1]["high"] = ends.high
    return pd.concat(blocks, ignore_index=True)


def all_sweeps(
    points: pd.DataFrame, seed: int, replicates: int, axes: Sequence[str] = AXES
) -> dict[str, dict[str, Sweep]]:
    """:func:`sweeps` of each of some metrics that has numbers, by axis.

    Raises:
        DataError: If there is no such metric, or ``replicates`` is below 1.
    """
    if replicates < 1:
        raise DataError(f"replicates: need at least 1 resample, got {replicates}")
    measured = [axis for axis in axes if axis in points and points[axis].notna().any()]
    found = {axis: sweeps(points, axis, seed, replicates) for axis in measured}
    if not any(found.values()):
        raise DataError(f"points: none of the metrics {', '.join(axes)} has a number to compare")
    return found


def _counts(points: pd.DataFrame, method: str) -> dict[str, int]:
    """How many runs a method has, and how many of them are lost."""
    own = points[points["method"] == method]
    return {"runs": len(own), "diverged": int((own["status"] == "diverged").sum())}


def _in_order(column: pd.Series) -> pd.Series:
    """Metrics in the order of :data:`AXES`, numbers as they are."""
    return column.map(AXES.index) if column.name == "axes" else column

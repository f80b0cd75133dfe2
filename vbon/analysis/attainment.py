"""Methods compared at equal KL: attainment curves, their bands, and values at given budgets.

The *attainment* of a method at a budget of ``k`` nats is the best metric that it reaches with a
KL of at most ``k``. It is read off the method's *mean curve*: average the runs of each setting
over seeds, take the best setting up to each KL, and interpolate by a monotone cubic over the
square root of KL. Simpler definitions would be biased:

- The best single run favours methods with more seeds: the luckiest of three beats that of two.
- A step function favours methods with a denser grid.
- So do straight lines, since chords lie below a concave curve: over the square root of KL by up
  to 0.02 of a win rate on the paper's grids, more than many differences between methods, and over
  KL itself by 0.04. (Near the reference every gain grows as the square root of KL.) The cubic stays
  within 0.007.

Below its smallest KL a method has no value; beyond its largest it keeps its last value.
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
    by_kl,
    check_plane,
    coordinates,
    in_range,
    standard_error,
)
from vbon.analysis.prompts import Shifts, prompt_shifts, shifts_of
from vbon.errors import DataError
from vbon.objectives.frontier import is_closed_form, win_rate
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
    """Mean curve of one method, and resamples of it with shape (replicates, settings)."""

    mean: Curve
    drawn: Curve


def has_closed_form(points: pd.DataFrame) -> bool:
    """Return True unless the KL of best-of-n shows that rewards tie."""
    if "n" not in points:
        return True
    measured = points.loc[points["method"] == "best_of_n", ["n", "kl"]]
    return is_closed_form(*measured.to_numpy(float).T)


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
    inside = np.clip(kl, 1e-15, 700.0)  # avoids NaN at the branch point KL = 0, and 1 / u at u = 0
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
    kl, metric, _ = by_kl(*curve)
    best = np.maximum.accumulate(metric, axis=-1)
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


def sweeps(
    points: pd.DataFrame, axis: str, seed: int, replicates: int, shifts: Shifts | None = None
) -> dict[str, Sweep]:
    """Mean curve of each method, and bootstrap resamples of seeds and prompts.

    Of the ``s`` runs of a setting, ``s - 1`` are drawn with replacement: the variance of the
    resampled means is then an unbiased estimate of that of the mean, also for two seeds, where
    drawing ``s`` would halve it (Rao and Wu, JASA 83, 1988). The spread over seeds includes the
    noise of training and each run's own sampling noise, and misses the noise that all runs share:
    that of the test prompts and of the common random numbers of sampling.

    With ``shifts`` the test prompts are drawn as well, the same ones for all runs of all methods,
    for KL and metric together: the mean of a setting moves by the mean shift of its runs. The noise
    of sampling responses is in both parts, so intervals err on the wide side; a setting with a
    single run has no spread over seeds, and its noise is counted once.

    Without, prompts move all runs of all methods together, by one normal number times each run's
    standard error. This widens intervals of values, and of differences between methods only as far
    as their errors differ. A setting with a single run gets an independent shift instead.

    Args:
        points: Rows of the points table: one task, one temperature, one domain.
        axis: One of :data:`vbon.analysis.pareto.AXES`.
        seed: Seed of the resamples.
        replicates: Number of resamples.
        shifts: Of :func:`vbon.analysis.prompts.prompt_shifts`; runs that lack one are treated as
            without.

    Returns:
        Sweeps by method, in order of appearance, without the reference, which is a single point.

    Raises:
        DataError: If the axis is unknown, a column is missing or the rows mix tasks.
    """
    check_plane(points, "all", axis)
    prompts = np.random.default_rng(derive_seed(seed, "matched", axis, "prompts"))
    shared = prompts.standard_normal((2, replicates, 1))
    by_method = {}
    for method in pd.unique(points["method"]):
        runs = points[points["method"] == method]
        if method != "reference":
            rng = np.random.default_rng(derive_seed(seed, "matched", axis, "runs", method))
            by_method[method] = _sweep(runs, axis, shared, shifts or {}, rng)
    return by_method


def _sweep(
    runs: pd.DataFrame, axis: str, shared: Floats, shifts: Shifts, rng: np.random.Generator
) -> Sweep:
    """Mean and resampled coordinates of one method's settings."""
    kl, metric = coordinates(runs, axis)
    replicates = shared.shape[1]
    shift = np.broadcast_to(shared, (2, replicates, len(runs))).copy()
    alone = runs.assign(good=~np.isnan(kl + metric)).groupby("setting")["good"].transform("sum") < 2
    shift[:, :, alone] = rng.standard_normal((2, replicates, int(alone.sum())))
    moved = in_range(
        kl + shift[0] * standard_error(runs, "kl"),
        metric + shift[1] * standard_error(runs, axis),
        axis,
    )
    by_prompts = shifts_of(runs, ("kl", axis), shifts, replicates)
    means, drawn = [], []
    for rows in runs.groupby("setting", sort=False).indices.values():
        good = rows[~(np.isnan(kl[rows]) | np.isnan(metric[rows]))]
        if good.size == 0:
            continue
        pick = rng.choice(good, size=(replicates, max(good.size - 1, 1)))
        means.append([kl[good].mean(), metric[good].mean()])
        prompts = by_prompts[:, :, good].mean(axis=2)
        if np.isnan(prompts).any():
            drawn.append([np.take_along_axis(part, pick, 1).mean(axis=1) for part in moved])
        else:
            seeds = np.stack([part[pick].mean(axis=1) for part in (kl, metric)])
            drawn.append(in_range(*(seeds + prompts), axis))
    middle, resampled = np.array(means).reshape(-1, 2), np.array(drawn).reshape(-1, 2, replicates)
    return Sweep(Curve(*middle.T), Curve(resampled[:, 0].T, resampled[:, 1].T))


def matched_table(
    points: pd.DataFrame,
    seed: int,
    replicates: int,
    *,
    budgets: Sequence[float] = BUDGETS,
    prompt_means: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Attainment of each method at given KL budgets, with bootstrap intervals.

    Args:
        points: Rows of the points table: one task, one temperature, one domain.
        seed: Seed of the resamples (:func:`sweeps`).
        replicates: Number of resamples, at least 1.
        budgets: KL in nats, ascending.
        prompt_means: The table of :func:`vbon.analysis.prompts.prompt_means_table`.

    Returns:
        Columns ``axes, kl, method, value, low, high`` (95 % interval), ``best_of_n`` (closed form,
        win rate only, of rewards without ties), ``difference, difference_low, difference_high``
        (``value`` minus ``best_of_n``), ``reaches`` (largest KL of a setting, beyond which the
        value is constant), ``runs, diverged``. Values are NaN below a method's smallest KL.

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
    for axis, by_method in all_sweeps(points, seed, replicates, prompt_means=prompt_means).items():
        has_form = axis == "win_rate" and has_closed_form(points)
        best = best_of_n_win_rate(at) if has_form else np.full(at.shape, np.nan)
        for method, (mean, drawn) in by_method.items():
            value, ends = attained(mean, at), percentile_interval(attained(drawn, at), CONFIDENCE)
            low, high = (np.where(np.isnan(value), np.nan, end) for end in ends)
            block = {"axes": axis, "kl": at, "method": method, "value": value}
            block |= {"low": low, "high": high, "best_of_n": best, "difference": value - best}
            block |= {"difference_low": low - best, "difference_high": high - best}
            reaches = np.nanmax([*mean.kl, np.nan]) if mean.kl.size else np.nan
            status = points.loc[points["method"] == method, "status"]
            block |= {"reaches": reaches, "runs": len(status)}
            blocks.append(pd.DataFrame(block | {"diverged": (status == "diverged").sum()}))
    table = pd.concat(blocks, ignore_index=True)
    return table.sort_values(
        ["axes", "kl"], kind="stable", ignore_index=True,
        key=lambda column: column.map(AXES.index) if column.name == "axes" else column,
    )  # fmt: skip


def attainment_bands(
    points: pd.DataFrame,
    seed: int,
    replicates: int,
    *,
    num: int = BAND_POINTS,
    prompt_means: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Attainment curve of each method with its median and 95 % band over resamples.

    Args:
        points: Rows of the points table: one task, one temperature, one domain.
        seed: Seed of the resamples (:func:`sweeps`).
        replicates: Number of resamples, at least 1.
        num: Number of points of a band, from the method's smallest KL to its largest.
        prompt_means: The table of :func:`vbon.analysis.prompts.prompt_means_table`.

    Returns:
        Columns ``axes, method, kl, value, median, low, high``, one row per point; no rows for a
        method whose runs all diverged.

    Raises:
        DataError: If a column is missing, no metric has a number, or ``replicates`` is below 1.
    """
    blocks = []
    for axis, by_method in all_sweeps(points, seed, replicates, prompt_means=prompt_means).items():
        for method, (mean, drawn) in by_method.items():
            if not mean.kl.size:
                continue
            ends_of_curve = mean.kl.min(), mean.kl.max()
            at = np.linspace(*np.sqrt(ends_of_curve), num) ** 2
            at = np.clip(at, *ends_of_curve)  # squaring may round beyond an end
            values = attained(drawn, at)
            block = {"axes": axis, "method": method, "kl": at, "value": attained(mean, at)}
            block["median"] = percentile_interval(values, 0.0).low
            block |= percentile_interval(values, CONFIDENCE)._asdict()
            blocks.append(pd.DataFrame(block))
    return pd.concat(blocks, ignore_index=True)


def all_sweeps(
    points: pd.DataFrame,
    seed: int,
    replicates: int,
    axes: Sequence[str] = AXES,
    prompt_means: pd.DataFrame | None = None,
) -> dict[str, dict[str, Sweep]]:
    """:func:`sweeps` by metric, for those of ``axes`` that have numbers.

    Raises:
        DataError: If no metric has a number, or ``replicates`` is below 1.
    """
    if replicates < 1:
        raise DataError(f"replicates: need at least 1 resample, got {replicates}")
    measured = [axis for axis in axes if axis in points and points[axis].notna().any()]
    shifts = prompt_shifts(prompt_means, seed, replicates)
    by_axis = {axis: sweeps(points, axis, seed, replicates, shifts) for axis in measured}
    if not any(by_axis.values()):
        raise DataError(f"points: none of the columns {', '.join(axes)} has a number to compare")
    return by_axis

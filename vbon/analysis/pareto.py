"""Pareto fronts of runs in the plane of KL (less is better) and a metric (more is better).

A run is one row of the points table. It is *on the front* of a pool of runs if no run of the pool
has at most its KL and at least its metric, one of them strictly. Runs with equal coordinates are
all kept. Diverged runs and runs without a number are never on a front, yet every count includes
them, so that a method is charged for the runs it loses.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from vbon.analysis.prompts import Shifts, prompt_shifts, shifts_of
from vbon.errors import DataError
from vbon.seeding import derive_seed
from vbon.statistics import percentile_interval

AXES = ("win_rate", "reward_prob", "evaluator_reward")
"""Metrics that a front may trade off with KL, all to be maximised."""

LEFT_OUT = {"paper": frozenset({"reference", "best_of_n", "bon_sft"}), "all": frozenset()}
"""Methods excluded from each pool. The shares in the captions of arXiv:2407.06057 sum to 100 over
the fine-tuned policies without BoN-SFT, so they are shares of one pooled front."""

CONFIDENCE = 0.95

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def non_dominated(kl: Floats, metric: Floats) -> Bools:
    """Mark the points of a pool that no other point dominates.

    Args:
        kl: KL in nats, shape (..., runs); leading axes are separate pools.
        metric: Metric to maximise, same shape. A point with NaN in either is never on the front
            and dominates nothing.

    Returns:
        True where no point of the pool has at most that KL and at least that metric, one of them
        strictly; equal points are kept together.

    Example:
        >>> non_dominated(np.array([0.0, 1.0, 1.0, 2.0]), np.array([0.5, 0.7, 0.7, 0.6])).tolist()
        [True, True, True, False]
    """
    kl, metric, order = by_kl(kl, metric)
    position = np.broadcast_to(np.arange(kl.shape[-1]), kl.shape)
    new_kl = kl[..., 1:] > kl[..., :-1]
    starts = np.where(np.insert(new_kl, 0, True, axis=-1), position, 0)
    first = np.maximum.accumulate(starts, axis=-1)  # start of each group of equal KLs
    best_at_kl = np.take_along_axis(metric, first, -1)
    best_so_far = np.maximum.accumulate(metric, axis=-1)
    best_below = np.where(
        first > 0, np.take_along_axis(best_so_far, np.maximum(first - 1, 0), -1), -np.inf
    )
    front = np.empty(kl.shape, dtype=np.bool_)
    np.put_along_axis(front, order, (metric == best_at_kl) & (metric > best_below), -1)
    return front


def by_kl(kl: Floats, metric: Floats) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """Coordinates by ascending KL, among equals the largest metric first, and their order.

    Points with NaN in either come last, at infinite KL and a metric of minus infinity.
    """
    valid = ~(np.isnan(kl) | np.isnan(metric))
    kl, metric = np.where(valid, kl, np.inf), np.where(valid, metric, -np.inf)
    order = np.lexsort((-metric, kl), axis=-1)
    return np.take_along_axis(kl, order, -1), np.take_along_axis(metric, order, -1), order


def hypervolume(kl: Floats, metric: Floats, kl_max: float, floor: float) -> Floats | float:
    r"""Area of the plane that a set of points dominates, exactly.

    .. math:: \int_0^{\mathrm{KL}_{\max}}
        \max\bigl(0,\; \max_{i:\, \mathrm{KL}_i \le k} m_i - \mathrm{floor}\bigr)\, dk

    Args:
        kl: KL in nats, shape (..., points); leading axes are separate sets.
        metric: Metric to maximise, same shape; points with NaN in either add nothing.
        kl_max: Right edge in nats; points beyond it add nothing.
        floor: Lower edge, in the unit of the metric.

    Returns:
        Area in nats times the unit of the metric, shape (...); a number for one set.

    Example:
        >>> float(hypervolume(np.array([1.0, 2.0]), np.array([0.7, 0.9]), kl_max=4.0, floor=0.5))
        1.0
    """
    kl, metric, _ = by_kl(kl, metric)
    height = np.maximum(np.maximum.accumulate(metric, axis=-1) - floor, 0)
    edges = np.concatenate([kl, np.full_like(kl[..., :1], np.inf)], axis=-1)
    return (height * np.diff(np.minimum(edges, kl_max), axis=-1)).sum(axis=-1)


def membership(points: pd.DataFrame, front: str, axis: str) -> pd.DataFrame:
    """Mark the runs on the pooled front and on the front of their own method.

    Args:
        points: Rows of the points table: one task, one temperature, one domain.
        front: ``"paper"`` (pool without reference, best_of_n and bon_sft) or ``"all"``.
        axis: One of :data:`AXES`.

    Returns:
        Boolean columns ``on_front`` (always False for methods outside the pool) and
        ``on_method_front``, with the index of ``points``.

    Raises:
        DataError: If the front or axis is unknown, a column is missing, or the rows mix tasks,
            temperatures or domains.

    Example:
        >>> points = pd.DataFrame({
        ...     "method": ["ppo", "ppo", "vbon"], "status": "ok",
        ...     "kl": [1.0, 2.0, 1.0], "win_rate": [0.7, 0.8, 0.75]})
        >>> membership(points, "paper", "win_rate").values.tolist()
        [[False, True], [True, True], [True, True]]
    """
    check_plane(points, front, axis)
    kl, metric = coordinates(points, axis)
    method = points["method"].to_numpy()
    marks = pd.DataFrame(False, points.index, ["on_front", "on_method_front"])
    pools = [("on_front", ~np.isin(method, list(LEFT_OUT[front])))]
    pools += [("on_method_front", method == name) for name in pd.unique(method)]
    for column, pool in pools:
        marks.loc[pool, column] = non_dominated(kl[pool], metric[pool])
    return marks


def pareto_table(
    points: pd.DataFrame,
    seed: int,
    replicates: int,
    *,
    kl_max: float | None = None,
    prompt_means: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Share of the pooled front and hypervolume of each method, with bootstrap intervals.

    A resample draws each method's runs with replacement (as many as it has) and adds to each run
    normal noise with the standard errors of its KL and metric, which are over prompts. Interval
    ends are the 2.5 % and 97.5 % quantiles over resamples, for the expected share and area of a
    sweep of this size. A resample has fewer distinct runs than a sweep and so dominates less, by
    one to two standard deviations in simulated sweeps; the resampled areas are therefore shifted
    to have the estimate as their mean. With ``prompt_means`` the noise is that of test prompts
    drawn again, the same ones for all runs; without, it is treated as independent.

    Args:
        points: Rows of the points table: one task, one temperature, one domain. A metric without
            any number is omitted; one without a ``*_se`` column gets no noise.
        seed: Seed of the resamples; the same seed gives the same table.
        replicates: Number of resamples, at least 1.
        kl_max: Right edge of the hypervolume in nats; by default the largest KL among all runs,
            the same in all resamples and for both fronts.
        prompt_means: The table of :func:`vbon.analysis.prompts.prompt_means_table`.

    Returns:
        Columns ``front, axes, method, runs, on_front, share, share_low, share_high, hypervolume,
        hypervolume_low, hypervolume_high``. ``runs`` includes diverged runs; hypervolume is in
        nats times the unit of the metric, above 0.5 for the win rate and above the reference's
        mean for other metrics (NaN if the reference was not evaluated).

    Raises:
        DataError: If a column is missing, the rows mix tasks, temperatures or domains, or
            ``replicates`` is below 1.

    Example:
        >>> points = pd.DataFrame({
        ...     "method": ["ppo", "vbon"], "status": "ok", "kl": [1.0, 0.8], "kl_se": 0.01,
        ...     "win_rate": [0.7, 0.8], "win_rate_se": 0.01})
        >>> table = pareto_table(points, seed=0, replicates=100)
        >>> table.query("front == 'paper'")[["method", "share", "share_low"]].values.tolist()
        [['ppo', 0.0, 0.0], ['vbon', 1.0, 1.0]]
    """
    if replicates < 1:
        raise DataError(f"replicates: need at least 1 resample, got {replicates}")
    check_plane(points, "all", None)
    if kl_max is None:
        kl_max = float(np.nanmax([0.0, *coordinates(points, "kl")[0]]))
    shifts = prompt_shifts(prompt_means, seed, replicates)
    blocks = []
    for front, left_out in LEFT_OUT.items():
        pool = points[~points["method"].isin(left_out)]
        for axis in AXES:
            if axis not in points or points[axis].isna().all() or pool.empty:
                continue
            rng = np.random.default_rng(derive_seed(seed, "pareto", front, axis))
            floor = floor_of(points, axis)
            block = _shares_and_areas(pool, axis, kl_max, floor, replicates, rng, shifts)
            block.insert(0, "front", front)
            block.insert(1, "axes", axis)
            blocks.append(block)
    if not blocks:
        raise DataError(f"points: none of the columns {', '.join(AXES)} has a number to compare")
    return pd.concat(blocks, ignore_index=True)


def _shares_and_areas(
    pool: pd.DataFrame,
    axis: str,
    kl_max: float,
    floor: float,
    replicates: int,
    rng: np.random.Generator,
    shifts: Shifts,
) -> pd.DataFrame:
    """One row per method, in order of first appearance, for one pool and one axis."""
    kl, metric = coordinates(pool, axis)
    method = pool["method"].to_numpy()
    owners = {name: method == name for name in pd.unique(method)}
    counts, shares, areas = _summaries(kl, metric, owners, kl_max, floor)
    drawn = [
        _summaries(*resample, owners, kl_max, floor)[1:]
        for resample in resamples(pool, axis, owners, replicates, rng, shifts)
    ]
    drawn_shares, drawn_areas = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    drawn_areas = np.maximum(drawn_areas - drawn_areas.mean(axis=0) + areas, 0)
    runs = [int(mask.sum()) for mask in owners.values()]
    table = pd.DataFrame({"method": list(owners), "runs": runs, "on_front": counts.astype(int)})
    for name, values, drawn in (
        ("share", shares, drawn_shares),
        ("hypervolume", areas, drawn_areas),
    ):
        low, high = percentile_interval(drawn, CONFIDENCE)
        table[name], table[f"{name}_low"], table[f"{name}_high"] = values, low, high
    return table


def share_replicates(
    pool: pd.DataFrame, axis: str, seed: int, replicates: int, shifts: Shifts | None = None
) -> tuple[dict[str, float], Floats]:
    """Each method's share of the front of all given runs, and the shares in resampled sweeps.

    Args:
        pool: Rows of the points table, of the methods that share the front.
        axis: One of :data:`AXES`.
        seed: Seed of the resamples, drawn as in :func:`pareto_table`.
        replicates: Number of resamples.
        shifts: Of :func:`vbon.analysis.prompts.prompt_shifts`; they replace the independent noise.

    Returns:
        Share by method, and resampled shares of shape (replicates, methods) in that order.
    """
    check_plane(pool, "all", axis)
    method = pool["method"].to_numpy()
    owners = {name: method == name for name in pd.unique(method)}
    shares = _summaries(*coordinates(pool, axis), owners, 0.0, 0.0)[1]
    rng = np.random.default_rng(seed)
    drawn = [
        _summaries(*resample, owners, 0.0, 0.0)[1]
        for resample in resamples(pool, axis, owners, replicates, rng, shifts)
    ]
    return dict(zip(owners, map(float, shares), strict=True)), np.concatenate(drawn)


def _summaries(
    kl: Floats, metric: Floats, owners: dict[str, Bools], kl_max: float, floor: float
) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    """Number of runs on the front, share and hypervolume by method: arrays (..., methods)."""
    front = non_dominated(kl, metric)
    counts = np.stack([front[..., mask].sum(axis=-1) for mask in owners.values()], axis=-1)
    total = counts.sum(axis=-1, keepdims=True)
    shares = np.where(total > 0, counts / np.maximum(total, 1), np.nan)
    areas = [hypervolume(kl[..., m], metric[..., m], kl_max, floor) for m in owners.values()]
    return counts, shares, np.stack(areas, axis=-1)


def resamples(
    pool: pd.DataFrame,
    axis: str,
    owners: dict[str, Bools],
    replicates: int,
    rng: np.random.Generator,
    shifts: Shifts | None = None,
) -> Iterator[tuple[Floats, Floats]]:
    """Yield resampled coordinates in chunks, shape (chunk, runs), each run from its own method."""
    kl, metric = coordinates(pool, axis)
    kl_se, metric_se = standard_error(pool, "kl"), standard_error(pool, axis)
    moves = shifts_of(pool, ("kl", axis), shifts or {}, replicates)
    moves = np.where(np.isnan(moves).any(axis=0), np.nan, moves)
    chunk = 500  # bounds the memory: a few arrays of 500 x runs
    for start in range(0, replicates, chunk):
        size = min(chunk, replicates - start)
        pick = np.empty((size, len(pool)), dtype=np.int64)
        for mask in owners.values():
            rows = np.flatnonzero(mask)
            pick[:, mask] = rng.choice(rows, size=(size, rows.size))
        kl_noise = kl_se[pick] * rng.standard_normal(pick.shape)
        metric_noise = metric_se[pick] * rng.standard_normal(pick.shape)
        if shifts:
            by_prompts = [np.take_along_axis(part[start : start + size], pick, 1) for part in moves]
            unknown = np.isnan(by_prompts[0])
            kl_noise = np.where(unknown, kl_noise, by_prompts[0])
            metric_noise = np.where(unknown, metric_noise, by_prompts[1])
        yield in_range(kl[pick] + kl_noise, metric[pick] + metric_noise, axis)


def in_range(kl: Floats, metric: Floats, axis: str) -> tuple[Floats, Floats]:
    """Noisy coordinates clipped to possible values: KL to [0, ∞), rates to [0, 1]."""
    inside = metric if axis == "evaluator_reward" else np.clip(metric, 0, 1)
    return np.maximum(kl, 0), inside


def coordinates(points: pd.DataFrame, axis: str) -> tuple[Floats, Floats]:
    """KL in nats and metric of each run as float64, NaN for runs that are not ok."""
    failed = (points["status"] != "ok").to_numpy()
    kl = points["kl"].to_numpy(dtype=np.float64, na_value=np.nan)
    metric = points[axis].to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(failed, np.nan, kl), np.where(failed, np.nan, metric)


def standard_error(points: pd.DataFrame, column: str) -> Floats:
    """Standard errors, 0 where the table has none."""
    if f"{column}_se" not in points:
        return np.zeros(len(points))
    return np.nan_to_num(points[f"{column}_se"].to_numpy(dtype=np.float64, na_value=np.nan))


def floor_of(points: pd.DataFrame, axis: str) -> float:
    """Lower edge of the hypervolume: the metric of the reference."""
    if axis == "win_rate":
        return 0.5
    return float(points.loc[points["method"] == "reference", axis].mean())


def check_plane(points: pd.DataFrame, front: str, axis: str | None) -> None:
    """Check names and columns, and that all rows belong to one task, temperature and domain.

    Raises:
        DataError: If the front or axis is unknown, a column is missing, or the rows mix tasks,
            temperatures or domains.
    """
    if front not in LEFT_OUT:
        raise DataError(f"front: {front!r} is unknown; choose one of {', '.join(LEFT_OUT)}")
    if axis is not None and axis not in AXES:
        raise DataError(f"axis: {axis!r} is unknown; choose one of {', '.join(AXES)}")
    for column in ("method", "status", "kl", *([axis] if axis else [])):
        if column not in points:
            raise DataError(f"points.{column}: column is missing; aggregate the runs again")
    for column in ("task", "temperature", "domain"):
        if column in points and points[column].nunique() > 1:
            values = ", ".join(map(str, sorted(points[column].dropna().unique())))
            raise DataError(
                f"points.{column}: found {values}; a front compares runs of one {column}, so "
                "select the rows of one"
            )

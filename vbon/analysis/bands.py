"""Differences of methods in bands of KL, with intervals over seeds and prompts and a margin.

The mean difference over all KLs (``vbon/analysis/orderings.py``) may hide that two methods change
places. Beside each difference is that of the exact optima of the two methods, where both have one:
the most that the choice of objective alone could make.
"""

import numpy as np
import pandas as pd

from vbon.analysis.attainment import Curve, all_sweeps, attained
from vbon.analysis.equivalence import MARGIN
from vbon.analysis.orderings import common_levels, gap_at_matched_kl
from vbon.analysis.pareto import CONFIDENCE
from vbon.analysis.prompts import NOT_RESAMPLED
from vbon.statistics import percentile_interval

AXIS = "win_rate"
BANDS = ((0.2, 1.0), (1.0, 2.5), (2.5, 5.0))
"""Ends of the bands, in nats."""
PAIRS = (("vbon", "ppo"), ("vbon", "bon_sft"), ("dpo", "ppo"), ("best_of_n", "vbon"))
"""Differences are the first method minus the second."""
COLUMNS = [
    *("kl_low", "kl_high", "first", "second", "difference", "low", "high", "covered"),
    *("exact", "exact_covered", "margin", "verdict", "note"),
]
OPTIMA = {"best_of_n": "best_of_n", "vbon": "best_of_n", "ppo": "kl_rl"}
"""Family of exact optima of each method that has one."""
_POINTS = 100  # of each band, evenly spaced in the square root of KL


def bands_table(
    points: pd.DataFrame,
    oracle_curves: pd.DataFrame,
    seed: int,
    replicates: int,
    *,
    prompt_means: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Mean difference in win rate at matched KL of :data:`PAIRS` in each of :data:`BANDS`.

    Args:
        points: Rows of the points table: one task, one temperature, one domain.
        oracle_curves: The table ``oracle_curves`` (``vbon/analysis/tilts.py``).
        seed: Seed of the resamples (:func:`vbon.analysis.attainment.sweeps`).
        replicates: Number of resamples, at least 1.
        prompt_means: The table of :func:`vbon.analysis.prompts.prompt_means_table`.

    Returns:
        Columns :data:`COLUMNS`: ``difference`` with its 95 % interval, a mean over the share
        ``covered`` of the band in which both methods have settings; ``exact``, the difference of
        their exact optima over the share ``exact_covered`` that the pool resolves; and
        ``verdict``: ``equivalent`` if the interval is within ± :data:`MARGIN`, else ``above``
        or ``below`` if it excludes zero, else ``undecided``.
    """
    sweeps = all_sweeps(points, seed, replicates, (AXIS,), prompt_means)[AXIS]
    rows = []
    for ends in BANDS:
        at = np.linspace(*np.sqrt(ends), _POINTS) ** 2
        levels = common_levels(sweeps, at)
        for pair in PAIRS:
            exact, exact_covered = exact_gap(oracle_curves, at, pair)
            row = dict(zip(COLUMNS, (*ends, *pair), strict=False))
            absent = [name for name in pair if name not in levels]
            notes = [f"no runs of {', '.join(absent)}"] * bool(absent)
            if not absent:
                first, second = (levels[name] for name in pair)
                row["difference"], drawn = gap_at_matched_kl(first, second)
                row["low"], row["high"] = map(float, percentile_interval(drawn, CONFIDENCE))
                row["covered"] = float(np.mean(~np.isnan(first[0] - second[0])))
            notes += [NOT_RESAMPLED] * (prompt_means is None)
            row |= {"exact": exact, "exact_covered": exact_covered, "margin": MARGIN}
            row["verdict"] = verdict(row.get("low", np.nan), row.get("high", np.nan))
            rows.append(row | {"note": "; ".join(notes)})
    return pd.DataFrame(rows, columns=COLUMNS)


def exact_gap(
    oracle_curves: pd.DataFrame, at: np.ndarray, pair: tuple[str, str]
) -> tuple[float, float]:
    """Mean difference of two methods' exact optima, and the share of the KLs that it covers.

    NaN if a method has none; 0 for two methods of one family.
    """
    if not OPTIMA.keys() >= set(pair):
        return np.nan, 0.0
    levels = []
    for family in (OPTIMA[method] for method in pair):
        line = oracle_curves[oracle_curves["series"] == family]
        curve = Curve(*(line[name].to_numpy(np.float64) for name in ("kl", AXIS)))
        levels.append(np.where(at <= max(curve.kl, default=-1.0), attained(curve, at), np.nan))
    gaps = levels[0] - levels[1]
    covered = ~np.isnan(gaps)
    return (float(gaps[covered].mean()) if covered.any() else np.nan), float(covered.mean())


def verdict(low: float, high: float) -> str:
    """Verdict on an interval.

    Example:
        >>> [verdict(*ends) for ends in ((-0.01, 0.015), (0.01, 0.03), (-0.04, -0.01), (-0.1, 0.1))]
        ['equivalent', 'above', 'below', 'undecided']
        >>> verdict(float("nan"), float("nan"))
        'undecided'
    """
    if low > -MARGIN and high < MARGIN:
        return "equivalent"
    return "above" if low > 0 else "below" if high < 0 else "undecided"

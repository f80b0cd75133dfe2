"""Tests of equality of vBoN trained on its exact reward and on its L bound (figure 6).

Both methods are trained at the same n with the same seeds, so their runs come in pairs.
"""

import numpy as np
import pandas as pd

from vbon.errors import DataError
from vbon.statistics import two_one_sided

MARGIN = 0.02
"""Difference of win rates below which the two count as equal."""

PAIR = ("vbon", "vbon_l")
"""Differences are the first method minus the second."""

_NEEDED = ["method", "n", "seed", "status", "kl", "win_rate"]


def equivalence_table(points: pd.DataFrame, study: pd.DataFrame) -> pd.DataFrame:
    r"""Difference of win rates and KLs at equal n and seed, with two one-sided tests.

    A pair shares its training prompts, pool of reference draws, random streams and test prompts,
    so the unit is the pair's difference, not the run. Seeds are what is sampled: at one n the
    differences of the seeds give a paired t statistic with (seeds - 1) degrees of freedom.
    For all n together the differences are averaged over n within each seed first: runs of one
    seed may share more than chance, and a seed's average is independent of another's whatever they
    share. That keeps (seeds - 1) degrees of freedom, and needs no equal variances over n; only n
    with a pair of every seed take part. The result holds for the benchmark's prompts; the spread
    of the responses sampled for a run is part of the seeds' spread.

    ``equivalent`` means that both one-sided tests reject a difference of :data:`MARGIN` or more at
    5 %, that is, that the 90 % interval lies within the margins; ``different`` that they do not
    and a difference of 0 is rejected at 5 %; ``undecided`` that neither can be said.

    Args:
        points: Rows of the points table; they give what the study lacks at its n and seeds.
        study: Points of the study. If empty, every n that both methods have in ``points`` counts.

    Returns:
        One row for each n above 1 (at 1 both are the reference), then ``pooled``. Columns
        ``setting, n, pairs, lost`` (pairs with a diverged run), ``win_rate_vbon,
        win_rate_vbon_l, difference, se, df, low, high`` (90 %), ``margin, p_equivalence,
        p_difference, verdict, kl_difference, kl_se, kl_low, kl_high`` (90 %, nats).

    Raises:
        DataError: If a column is missing, or no n has runs of both methods.

    Example:
        >>> study = pd.DataFrame({
        ...     "method": ["vbon", "vbon_l"] * 3, "n": 4.0, "seed": [0, 0, 1, 1, 2, 2],
        ...     "status": "ok", "kl": 0.5, "win_rate": [0.75, 0.751, 0.76, 0.758, 0.755, 0.754]})
        >>> table = equivalence_table(study.head(0), study)
        >>> table[["setting", "pairs", "verdict"]].values.tolist()
        [['n4', 3, 'equivalent'], ['pooled', 3, 'equivalent']]
    """
    pairs = _pairs(points, study)
    rows = [
        {"setting": f"n{n:g}", "n": n, **_row(part)} for n, part in pairs.groupby("n", sort=True)
    ]
    finished = pairs.dropna(subset="difference")
    complete = finished.groupby("n")["seed"].transform("nunique") == pairs["seed"].nunique()
    by_seed = finished[complete].groupby("seed", as_index=False).mean(numeric_only=True)
    pooled = _row(by_seed) | {"pairs": int(complete.sum())}
    pooled["lost"] = int(pairs["difference"].isna().sum())
    return pd.DataFrame([*rows, {"setting": "pooled", "n": np.nan, **pooled}])


def _pairs(points: pd.DataFrame, study: pd.DataFrame) -> pd.DataFrame:
    """One row for each n and seed with both methods; NaN differences where a run diverged."""
    for name, table in (("study", study), ("points", points)):
        for column in _NEEDED:
            if column not in table:
                raise DataError(f"{name}.{column}: column is missing; aggregate the runs again")
    both = pd.concat([study[_NEEDED], points[_NEEDED]], ignore_index=True)
    both = both[both["method"].isin(PAIR) & (both["n"] > 1)]
    if len(study):
        both = both[both["n"].isin(study["n"]) & both["seed"].isin(study["seed"])]
    both = both.drop_duplicates(["method", "n", "seed"])  # the study's own runs come first
    failed = both["status"] != "ok"
    both = both.assign(**{name: both[name].mask(failed) for name in ("kl", "win_rate")})
    wide = both.pivot(index=["n", "seed"], columns="method", values=["win_rate", "kl", "status"])
    if not set(PAIR) <= set(both["method"]) or wide["status"].dropna().empty:
        raise DataError(
            f"points.n: no n above 1 and seed has runs of both {PAIR[0]} and {PAIR[1]}; "
            "give both methods the same n and seeds in the study"
        )
    wide = wide[wide["status"].notna().all(axis=1)]
    pairs = pd.DataFrame(index=wide.index)
    for name, difference in (("win_rate", "difference"), ("kl", "kl_difference")):
        for method in PAIR:
            pairs[f"{name}_{method}"] = wide[name, method].astype(np.float64)
        pairs[difference] = pairs[f"{name}_vbon"] - pairs[f"{name}_vbon_l"]
    return pairs.reset_index()


def _row(pairs: pd.DataFrame) -> dict[str, float | int | str]:
    """Tests over independent differences: one per seed."""
    finished = pairs.dropna(subset="difference")
    wins, kl = (
        two_one_sided(gaps.mean(), gaps.sem(), len(gaps) - 1, limit)
        for gaps, limit in ((finished["difference"], MARGIN), (finished["kl_difference"], np.inf))
    )
    return {
        "pairs": len(finished),
        "lost": len(pairs) - len(finished),
        **{name: finished[name].mean() for name in ("win_rate_vbon", "win_rate_vbon_l")},
        "difference": finished["difference"].mean(),
        **{name: getattr(wins, name) for name in ("se", "df", "low", "high")},
        "margin": MARGIN,
        **{name: getattr(wins, name) for name in ("p_equivalence", "p_difference", "verdict")},
        "kl_difference": finished["kl_difference"].mean(),
        **{f"kl_{name}": getattr(kl, name) for name in ("se", "low", "high")},
    }

"""The equivalence study against t tests of scipy, error rates, and pairs that are missing."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from sweep import study, sweep

from vbon.analysis.equivalence import MARGIN, equivalence_table
from vbon.errors import DataError
from vbon.statistics import two_one_sided


@pytest.fixture(scope="module")
def points():
    return sweep(diverged=False)


def differences(runs):
    wide = runs.pivot(index=["n", "seed"], columns="method", values="win_rate")
    return (wide["vbon"] - wide["vbon_l"]).unstack("seed")  # one row an n, one column a seed


def test_each_n_has_the_paired_t_test_of_scipy(points):
    runs = study(points, shift=0.004)
    table = equivalence_table(points, runs).set_index("setting")
    assert list(table.index) == ["n2", "n4", "n8", "n16", "n64", "pooled"]
    by_seed = differences(runs)
    for n, gaps in by_seed.iterrows():
        check(table.loc[f"n{n:g}"], gaps.to_numpy())
    assert (table.loc["n2":"n64", "pairs"] == 3).all()
    check(table.loc["pooled"], by_seed.mean(axis=0).to_numpy())  # a seed's average is the unit
    assert table.loc["pooled", "pairs"] == 15


def check(row, gaps):
    zero = scipy.stats.ttest_1samp(gaps, 0)
    interval = zero.confidence_interval(0.9)
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
    assert row["p_difference"] == pytest.approx(zero.pvalue)
    above = scipy.stats.ttest_1samp(gaps, -MARGIN, alternative="greater").pvalue
    below = scipy.stats.ttest_1samp(gaps, MARGIN, alternative="less").pvalue
    assert row["p_equivalence"] == pytest.approx(max(above, below))
    assert (row["difference"], row["se"]) == pytest.approx((gaps.mean(), scipy.stats.sem(gaps)))
    inside = interval.low > -MARGIN and interval.high < MARGIN
    assert (row["verdict"] == "equivalent") == inside


@pytest.mark.parametrize(
    ("shift", "spread", "verdict"),
    [(0.0, 0.002, "equivalent"), (0.05, 0.002, "different"), (0.0, 0.2, "undecided")],
)
def test_verdicts(points, shift, spread, verdict):
    table = equivalence_table(points, study(points, spread, shift))
    assert table.iloc[-1]["verdict"] == verdict


@pytest.mark.slow
def test_a_true_difference_of_the_margin_is_called_equivalent_in_five_per_cent(points):
    """200 studies whose seeds move all n together; the standard error of a share is 1.5 %.

    A test of the 15 differences as if they were independent would be far from its level here.
    """
    rng = np.random.default_rng(0)
    grid = pd.DataFrame({"n": np.repeat([2.0, 8.0, 64.0], 3), "seed": np.tile(range(3), 3)})
    grid = grid.assign(status="ok", kl=1.0)
    verdicts = []
    for _ in range(200):
        gap = MARGIN + 0.01 * rng.normal(size=3)[grid["seed"]] + 0.002 * rng.normal(size=9)
        both = [grid.assign(method=m, win_rate=0.7 + g) for m, g in (("vbon", gap), ("vbon_l", 0))]
        verdicts.append(equivalence_table(grid.head(0).assign(method="", win_rate=0.0),
                                          pd.concat(both)).iloc[-1]["verdict"])  # fmt: skip
    assert np.mean(np.array(verdicts) == "equivalent") < 0.05 + 4 * 0.015


def test_kl_differences_are_reported(points):
    runs = study(points)
    runs["kl"] += np.where(runs["method"] == "vbon", 0.1, 0.0)
    table = equivalence_table(points, runs)
    assert table["kl_difference"].to_numpy() == pytest.approx(0.1)
    assert table["kl_se"].to_numpy() == pytest.approx(0.0, abs=1e-9)


def test_pairs_that_the_study_lacks_come_from_the_task(points):
    """The study trains the bound alone; vBoN at the same n and seeds is in the task's points."""
    runs = study(points)
    bound = runs[runs["method"] == "vbon_l"]
    table = equivalence_table(points, bound)
    assert table.iloc[-1]["pairs"] == 15
    exact = points[(points["method"] == "vbon") & points["n"].isin(bound["n"])]
    assert table.loc[0, "win_rate_vbon"] == pytest.approx(exact.query("n == 2")["win_rate"].mean())
    assert set(table["n"].dropna()) == {2, 4, 8, 16, 64}  # and no n that only the task has


def test_without_a_study_every_shared_n_above_one_counts(points):
    """The task's own grids meet where 1 + 1 / beta is a whole number; n = 1 is no comparison."""
    table = equivalence_table(points, points.head(0))
    assert set(table["n"].dropna()) == {2, 3}
    assert (table["pairs"].iloc[:2] == 2).all()


def test_diverged_runs_are_counted_and_pooling_stays_balanced(points):
    runs = study(points).reset_index(drop=True)
    runs.loc[runs.query("method == 'vbon' and n == 64 and seed == 1").index, "status"] = "diverged"
    table = equivalence_table(points, runs).set_index("setting")
    assert (table.loc["n64", "pairs"], table.loc["n64", "lost"]) == (2, 1)
    assert (table.loc["pooled", "pairs"], table.loc["pooled", "lost"]) == (12, 1)
    check(table.loc["pooled"], differences(runs[runs["n"] < 64]).mean(axis=0).to_numpy())


def test_one_seed_decides_nothing(points):
    table = equivalence_table(points, study(points).query("seed == 0"))
    assert (table["verdict"] == "undecided").all()
    assert table[["low", "high", "p_equivalence"]].isna().all(axis=None)
    assert table["difference"].notna().all()


def test_tables_without_pairs_are_refused(points):
    with pytest.raises(DataError, match="no n above 1"):
        equivalence_table(points[points["method"] != "vbon_l"], points.head(0))
    with pytest.raises(DataError, match=r"study\.seed: column is missing"):
        equivalence_table(points, points.drop(columns="seed"))


def test_two_one_sided_at_its_edges():
    """Without spread the test is a step; without degrees of freedom there is none."""
    assert two_one_sided(0.019, 0.0, 2, 0.02).verdict == "equivalent"
    assert two_one_sided(0.021, 0.0, 2, 0.02).verdict == "different"
    assert two_one_sided(0.0, 0.0, 2, 0.02).p_difference == 1
    assert two_one_sided(0.0, np.nan, 0, 0.02).verdict == "undecided"
    assert two_one_sided(0.0, 0.01, 5, np.inf).verdict == "equivalent"
    half = two_one_sided(0.0, 1.0, 5, 2.0, alpha=0.05).high
    assert half == pytest.approx(2.0150, abs=1e-4)  # the 95 % quantile of t with 5 degrees

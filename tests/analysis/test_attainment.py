"""Attainment against its definition, intervals against simulated sweeps, curves that degrade."""

import numpy as np
import pandas as pd
import pytest
from sweep import sweep

from vbon.analysis.attainment import (
    BUDGETS,
    Curve,
    attained,
    attainment_bands,
    best_of_n_win_rate,
    matched_table,
    sweeps,
)
from vbon.errors import DataError
from vbon.objectives.frontier import kl_upper_bound, win_rate, win_rate_frontier


@pytest.fixture(scope="module")
def points():
    return sweep()


@pytest.fixture(scope="module")
def table(points):
    return matched_table(points, seed=0, replicates=200)


def bounds_by_definition(curve, budget):
    """Best setting within the budget, and best up to the next setting: plain Python."""
    nodes = sorted((k, m) for k, m in zip(*curve, strict=True) if not np.isnan(k + m))
    within = [m for k, m in nodes if k <= budget]
    if not within:
        return np.nan, np.nan
    beyond = [k for k, _ in nodes if k > budget]
    return max(within), max(m for k, m in nodes if not beyond or k <= beyond[0])


def test_best_of_n_by_kl_inverts_its_kl():
    kl = np.concatenate([[0.0, 1e-10], np.geomspace(1e-6, 30, 200), [800.0]])
    odds = best_of_n_win_rate(kl[1:-1]) / (1 - best_of_n_win_rate(kl[1:-1]))
    assert kl_upper_bound(odds) == pytest.approx(kl[1:-1], rel=1e-4, abs=1e-9)
    assert best_of_n_win_rate(kl[[0, -1]]).tolist() == pytest.approx([0.5, 1.0], abs=1e-7)
    n = np.array([1.5, 2, 4, 100])
    assert best_of_n_win_rate(kl_upper_bound(n)) == pytest.approx(win_rate(n), rel=1e-12)
    assert (best_of_n_win_rate(kl) <= win_rate_frontier(kl) + 1e-7).all()


def test_attainment_lies_between_the_settings_around_the_budget():
    """At a setting's own KL it is the best setting so far; between two, between their bests."""
    rng = np.random.default_rng(0)
    curve = Curve(rng.integers(0, 12, (40, 7)) / 3.0, rng.random((40, 7)))
    curve.kl[rng.random((40, 7)) < 0.2] = np.nan
    curve.kl[3] = np.nan  # a method that failed everywhere
    budgets = np.array([0.0, 0.2, 1.0, 1.7, 3.0, 3.6, 50.0])
    found = attained(curve, budgets)
    for row in range(40):
        for budget, value in zip(budgets, found[row], strict=True):
            low, high = bounds_by_definition((curve.kl[row], curve.metric[row]), budget)
            assert np.isnan(value) == np.isnan(low)
            if not np.isnan(value):
                assert low - 1e-12 <= value <= high + 1e-12
        for k in curve.kl[row][~np.isnan(curve.kl[row])]:
            low, _ = bounds_by_definition((curve.kl[row], curve.metric[row]), k)
            assert attained(Curve(curve.kl[row], curve.metric[row]), np.array([k])) == (
                pytest.approx([low])
            )


def test_attainment_never_falls_with_the_budget_and_ignores_the_order_of_settings():
    rng = np.random.default_rng(1)
    curve, at = Curve(rng.random(9) * 5, rng.random(9)), np.linspace(0, 6, 100)
    values = attained(curve, at)
    known = values[~np.isnan(values)]
    assert (np.diff(known) >= 0).all()
    mixed = rng.permutation(9)
    assert np.array_equal(attained(Curve(curve.kl[mixed], curve.metric[mixed]), at), values, True)
    assert attained(Curve(np.empty((3, 0)), np.empty((3, 0))), at).shape == (3, 100)


@pytest.mark.parametrize(
    "kl",
    [
        kl_upper_bound([1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 512]),
        np.array([0.003, 0.01, 0.04, 0.12, 0.25, 0.41, 0.9, 1.6, 3.2, 5.4, 9, 12]),  # PPO's grid
        np.array([0.02, 0.05, 0.25, 0.4, 0.6, 0.9, 2, 3.2, 9]),  # DPO's
    ],
)
def test_interpolation_between_settings_stays_close_to_the_curve(kl):
    at = np.linspace(kl.min(), kl.max(), 800)
    for cost in (1.0, 0.55):  # a frontier's shape, and one that needs more KL
        error = attained(Curve(kl, win_rate_frontier(cost * kl)), at) - win_rate_frontier(cost * at)
        assert np.abs(error).max() < 0.008
        assert abs(error.mean()) < 0.0025


def one_method(rng, num_seeds, shared=0.0, spread=0.01):
    """Twelve settings on a known curve, seeds around them, and an error common to all runs."""
    kl = np.repeat(np.linspace(0.2, 5, 12), num_seeds)
    noise = spread * rng.normal(size=kl.size) + shared * rng.normal()
    frame = pd.DataFrame({"method": "vbon", "status": "ok", "kl": kl})
    frame["setting"] = [f"s{k:.3f}" for k in kl]
    return frame.assign(win_rate=win_rate_frontier(kl) - 0.1 + noise, win_rate_se=shared)


@pytest.mark.slow
def test_more_seeds_do_not_raise_the_attainment():
    """Mean over 100 sweeps; the best of six runs would be 1.27 - 0.56 spreads above that of two.

    Of the means of 12 settings the running best still gains a little, less with more seeds: the
    first setting cannot gain at all. There the standard error of the difference is
    0.01 * sqrt(1/2 + 1/6) / sqrt(100), 8.2e-4.
    """
    rng = np.random.default_rng(2)
    at = np.array([0.2])
    few, many = (
        np.mean(
            [
                attained(sweeps(one_method(rng, seeds), "win_rate", 0, 1)["vbon"].mean, at)
                for _ in range(100)
            ]
        )
        for seeds in (2, 6)
    )
    assert abs(few - many) < 4 * 8.2e-4


@pytest.mark.parametrize("num_seeds", [2, 3, 5])
def test_resampled_means_have_the_unbiased_variance(num_seeds):
    """Variance of a setting's resampled mean is s**2 / seeds; 40,000 resamples, within 4 SE.

    The relative standard error of a variance of near-normal draws is sqrt(2 / 40000), 0.7 %; two
    seeds give a two-point law, whose variance is more exact still.
    """
    points = one_method(np.random.default_rng(3), num_seeds)
    drawn = sweeps(points, "win_rate", 0, 40_000)["vbon"].drawn.metric
    expected = points.groupby("setting", sort=False)["win_rate"].var() / num_seeds
    assert drawn.var(axis=0) == pytest.approx(expected.to_numpy(), rel=4 * 0.007)


def test_what_runs_share_widens_values_but_not_differences():
    """No spread between seeds: values move by the standard error, gaps between methods by none."""
    points = one_method(np.random.default_rng(4), 3, spread=0.0).assign(win_rate_se=0.01)
    both = pd.concat([points, points.assign(method="ppo", win_rate=points["win_rate"] - 0.03)])
    found = sweeps(both, "win_rate", 0, 20_000)
    moved = found["vbon"].drawn.metric - found["vbon"].mean.metric
    assert moved.std(axis=0) == pytest.approx(0.01, rel=4 * 0.005)
    gap = found["vbon"].drawn.metric - found["ppo"].drawn.metric
    assert gap == pytest.approx(0.03, abs=1e-12)


def test_a_setting_with_one_run_moves_on_its_own():
    points = one_method(np.random.default_rng(5), 1).assign(win_rate_se=0.01)
    drawn = sweeps(points, "win_rate", 0, 20_000)["vbon"].drawn.metric
    assert drawn.std(axis=0) == pytest.approx(0.01, rel=4 * 0.005)
    others = np.corrcoef(drawn.T)[np.triu_indices(12, 1)]
    assert np.abs(others).max() < 5 / np.sqrt(20_000)


@pytest.mark.slow
def test_intervals_cover_the_true_attainment():
    """Coverage at three budgets in 100 sweeps of 3 seeds with an error that all runs share.

    A binomial share of 0.95 in 100 has a standard error of 0.022.
    """
    rng = np.random.default_rng(6)
    budgets = [0.9, 2.0, 4.0]
    truth = matched_table(one_method(rng, 1, spread=0.0), 0, 1, budgets=budgets)["value"]
    inside = []
    for number in range(100):
        points = one_method(rng, 3, shared=0.008, spread=0.005)
        found = matched_table(points, number, 80, budgets=budgets)
        inside.append(found["low"].le(truth) & found["high"].ge(truth))
    assert np.mean(inside, axis=0).min() > 0.95 - 4 * 0.022


def test_table_lists_every_method_at_every_budget(points, table):
    methods = set(points["method"]) - {"reference"}
    assert list(table["axes"].unique()) == ["win_rate", "reward_prob", "evaluator_reward"]
    assert len(table) == 3 * len(BUDGETS) * len(methods)
    assert set(table["method"]) == methods
    runs = points.groupby("method").size()
    assert (table["runs"] == table["method"].map(runs)).all()
    lost = table.groupby("method")["diverged"].first()
    assert (lost["ppo"], lost["bonbon"], lost["vbon"]) == (2, 2, 0)


def test_table_compares_win_rates_with_the_closed_form(table):
    wins = table[table["axes"] == "win_rate"].dropna(subset="value")
    expected = best_of_n_win_rate(wins["kl"].to_numpy())
    assert wins["difference"].to_numpy() == pytest.approx(wins["value"].to_numpy() - expected)
    gap = wins["difference_high"] - wins["difference_low"]
    assert gap.to_numpy() == pytest.approx((wins["high"] - wins["low"]).to_numpy())
    assert table.loc[table["axes"] != "win_rate", ["best_of_n", "difference"]].isna().all(axis=None)


def test_no_value_below_a_methods_smallest_kl(points, table):
    least = points.groupby("setting")["kl"].mean()
    sft = table[(table["method"] == "bon_sft") & (table["axes"] == "win_rate")].set_index("kl")
    start = least[least.index.str.fullmatch("n10")].item()
    assert sft.loc[sft.index < start, ["value", "low", "high"]].isna().all(axis=None)
    assert sft.loc[sft.index > start, ["value", "low", "high"]].notna().all(axis=None)


def test_bands_hold_the_curve_and_end_where_the_method_does(points):
    bands = attainment_bands(points, seed=0, replicates=200, num=30)
    names = ["axes", "method", "kl", "value", "median", "low", "high"]
    assert list(bands.columns) == names
    assert bands.notna().all(axis=None)
    assert (bands["low"] <= bands["median"]).all()
    assert (bands["median"] <= bands["high"]).all()
    assert ((bands["low"] <= bands["value"]) & (bands["value"] <= bands["high"])).mean() > 0.97
    means = points.groupby(["method", "setting"])["kl"].mean()
    for method, band in bands.groupby("method"):
        assert band["kl"].min() == pytest.approx(means[method].min(), abs=1e-12)
        assert band["kl"].max() == pytest.approx(means[method].max())


def test_the_same_seed_gives_the_same_table_and_methods_do_not_shift_each_other(points):
    first, again = (matched_table(points, seed=1, replicates=20) for _ in range(2))
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    fewer = matched_table(points[points["method"] != "ppo"], seed=1, replicates=20)
    rest = first[first["method"] != "ppo"].reset_index(drop=True)
    pd.testing.assert_frame_equal(fewer, rest, check_exact=True)
    other = matched_table(points, seed=2, replicates=20)
    assert not other["low"].equals(first["low"])
    assert other["value"].equals(first["value"])


def test_lost_methods_are_counted_and_have_no_value(points):
    lost = points.assign(status=points["status"].mask(points["method"] == "dpo", "diverged"))
    rows = matched_table(lost, 0, 20).query("method == 'dpo'")
    assert rows[["value", "low", "high", "reaches"]].isna().all(axis=None)
    assert (rows["diverged"] == 33).all()
    assert "dpo" not in set(attainment_bands(lost, 0, 20)["method"])


def test_a_toy_sweep_is_enough():
    few = sweep(diverged=False).query("setting in ['default', 'n2', 'n4', 'beta1'] and seed == 0")
    table = matched_table(few, 0, 20)
    assert table["value"].notna().any()
    assert attainment_bands(few, 0, 20)["median"].notna().all()


def test_unusable_tables_are_refused(points):
    with pytest.raises(DataError, match="replicates"):
        matched_table(points, 0, 0)
    with pytest.raises(DataError, match=r"points\.status: column is missing"):
        matched_table(points.drop(columns="status"), 0, 10)
    with pytest.raises(DataError, match="none of the columns"):
        matched_table(points[["method", "status", "kl", "setting"]], 0, 10)
    with pytest.raises(DataError, match=r"points\.domain"):
        matched_table(points.assign(domain=["a", "b"] * 102 + ["a"]), 0, 10)

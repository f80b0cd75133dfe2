"""Means per prompt against the points table, and resampled prompts against standard errors."""

import numpy as np
import pandas as pd
import pytest

from vbon.analysis.attainment import sweeps
from vbon.analysis.bands import BANDS, MARGIN, PAIRS, bands_table, exact_gap
from vbon.analysis.orderings import common_levels, gap_at_matched_kl, orderings_table
from vbon.analysis.pareto import share_replicates
from vbon.analysis.prompts import NOT_RESAMPLED, prompt_means_table, prompt_shifts
from vbon.errors import DataError
from vbon.evaluation.metrics import summarise
from vbon.objectives.frontier import kl_upper_bound, win_rate

REPLICATES = 20_000
NUM_PROMPTS = 60
SETTINGS = [f"s{number}" for number in range(6)]
ERROR_OF_SD = 1 / np.sqrt(2 * REPLICATES)
"""Relative Monte Carlo error of a standard deviation over the resamples, 0.5 %."""


def responses(rng, draws=3):
    """Responses of one run to prompts that differ in difficulty."""
    frame = pd.DataFrame({"prompt_id": np.repeat([f"p{k}" for k in range(8)], draws)})
    for name in ("kl", "reward", "reward_prob", "evaluator_reward", "log_prob", "log_prob_ref"):
        frame[name] = rng.random(len(frame))
    shown = {"kl_k3": 0.0, "finished": True, "draw": np.tile(np.arange(draws), 8)}
    return frame.assign(**shown, response_ids=[[1, 2, 3]] * len(frame))


def test_the_mean_over_prompts_is_the_run_in_the_points_table():
    rng = np.random.default_rng(0)
    frame, pools = responses(rng), {f"p{k}": np.sort(rng.random(10)) for k in range(8)}
    record = {"method": "ppo", "setting": "x", "seed": 1}
    means = prompt_means_table([(record, frame)], pools)
    point = summarise(frame, pools, pools, dict.fromkeys(pools, 0.5))
    assert len(means) == 8
    shifts = prompt_shifts(means, 0, REPLICATES)
    for name in ("kl", "win_rate", "reward_prob", "evaluator_reward"):
        assert means[name].mean() == pytest.approx(point[name], abs=1e-15)
        sd = shifts["ppo", "x", 1, name].std()
        assert sd == pytest.approx(point[f"{name}_se"], rel=5 * ERROR_OF_SD)


def measured(rng, methods=("vbon", "ppo"), seeds=3, noise=0.02, shared=0.1, prompts=NUM_PROMPTS):
    """Means per prompt of methods on one curve, and their points.

    Difficulty of a prompt has the standard deviation ``shared``, the rest of a run's mean on it
    ``noise``.
    """
    difficulty = shared * rng.normal(size=prompts)
    rows = []
    for method in methods:
        for place, setting in enumerate(SETTINGS):
            for seed in range(seeds):
                rate = 0.6 + 0.04 * place + difficulty + noise * rng.normal(size=prompts)
                row = {"method": method, "setting": setting, "seed": seed}
                names = [f"p{k}" for k in range(prompts)]
                rows.append(pd.DataFrame({**row, "prompt_id": names, "win_rate": rate}))
                rows[-1]["kl"] = 0.25 * (1 + place) ** 2
    means = pd.concat(rows, ignore_index=True)
    points = means.groupby(["method", "setting", "seed"], sort=False, as_index=False)[
        ["kl", "win_rate"]
    ].mean()
    return means, points.assign(status="ok")


def drawn_gap(means, points, replicates=REPLICATES):
    """Difference of the two methods at matched KL, and its resamples."""
    shifts = prompt_shifts(means, 0, replicates)
    levels = common_levels(sweeps(points, "win_rate", 0, replicates, shifts))
    return gap_at_matched_kl(levels["vbon"], levels["ppo"])


def test_a_run_without_spread_over_seeds_has_the_standard_error_over_prompts():
    """One seed: the value moves by the standard error, and settings move together.

    The correlation of two settings is 0.1**2 / (0.1**2 + 0.02**2) up to sampling of 60 prompts.
    """
    means, points = measured(np.random.default_rng(1), seeds=1)
    shifts = prompt_shifts(means, 0, REPLICATES)
    drawn = sweeps(points, "win_rate", 0, REPLICATES, shifts)["vbon"].drawn
    rates = means[means["method"] == "vbon"].groupby("setting", sort=False)["win_rate"]
    expected = (rates.std() / np.sqrt(NUM_PROMPTS)).to_numpy()
    assert drawn.metric.std(axis=0) == pytest.approx(expected, rel=5 * ERROR_OF_SD)
    assert np.corrcoef(drawn.metric.T).min() > 0.9
    assert (drawn.kl == points[points["method"] == "vbon"]["kl"].to_numpy()).all()


def test_difficulty_of_prompts_cancels_in_differences():
    """Known variance of a difference of two settings: that of the noise alone, counted twice.

    Its part from seeds is estimated with 2 (3 - 1) degrees of freedom, that from prompts with 59:
    relative errors sqrt(2 / 4) and sqrt(2 / 59) of either half, 37 % of the sum, and 4.7 % of the
    mean over 60 sweeps. Uncancelled, difficulty would make it 25 times larger.
    """
    rng = np.random.default_rng(2)
    variances = []
    for _ in range(60):
        means, points = measured(rng)
        one = [frame[frame["setting"] == SETTINGS[0]] for frame in (means, points)]
        variances.append(drawn_gap(*one, replicates=1000)[1].var())
    truth = 2 * 0.02**2 / (3 * NUM_PROMPTS)
    assert np.mean(variances) == pytest.approx(2 * truth, rel=4 * 0.047)


def test_prompts_listed_twice_halve_the_variance_of_prompts_alone():
    """Twice the prompts: (P - 1) / (2 P - 1) of the variance, and the same value."""
    means, points = measured(np.random.default_rng(3), seeds=1)
    twice = pd.concat([means, means.assign(prompt_id=means["prompt_id"] + "again")])
    (value, once), (again, doubled) = (drawn_gap(frame, points) for frame in (means, twice))
    assert value == again
    ratio = doubled.std() / once.std()
    expected = np.sqrt((NUM_PROMPTS - 1) / (2 * NUM_PROMPTS - 1))
    assert ratio == pytest.approx(expected, rel=5 * np.sqrt(2) * ERROR_OF_SD)


def test_equal_prompts_move_nothing():
    """All prompts alike: resamples are those of seeds alone, and shares are those of the points."""
    means, points = measured(np.random.default_rng(4), noise=0.0, shared=0.0)
    value, drawn = drawn_gap(means, points, 200)
    assert drawn == pytest.approx(value, abs=1e-12)
    shifts = prompt_shifts(means, 0, 200)
    values, resampled = share_replicates(points, "win_rate", 0, 200, shifts)
    assert values == pytest.approx({"vbon": 0.5, "ppo": 0.5})
    assert resampled.shape == (200, 2)


def test_runs_without_means_are_treated_as_without_the_table():
    means, points = measured(np.random.default_rng(5))
    points = points.assign(win_rate_se=0.01)
    some = prompt_shifts(means[means["method"] == "vbon"], 0, 100)
    partly, without = (sweeps(points, "win_rate", 0, 100, shifts) for shifts in (some, None))
    for part in ("kl", "metric"):
        assert (getattr(partly["ppo"].drawn, part) == getattr(without["ppo"].drawn, part)).all()
    assert (partly["vbon"].drawn.metric != without["vbon"].drawn.metric).any()


def test_other_prompts_are_refused():
    means, _ = measured(np.random.default_rng(6))
    with pytest.raises(DataError, match="different prompts"):
        prompt_shifts(means.drop(index=3), 0, 10)
    assert prompt_shifts(None, 0, 10) == {}
    assert prompt_shifts(means.head(0), 0, 10) == {}


def test_notes_say_if_prompts_are_not_resampled():
    means, points = measured(np.random.default_rng(7))
    tables = [orderings_table(points, 0, 20, prompt_means=table) for table in (means, None)]
    noted = [table["note"].str.endswith(NOT_RESAMPLED) for table in tables]
    assert not noted[0].any()
    assert noted[1].all()
    assert tables[0]["value"].equals(tables[1]["value"])


def curves():
    """Best-of-n's exact curve, and another one that is 0.01 below."""
    n = np.geomspace(1, 60, 200)
    best = pd.DataFrame({"series": "best_of_n", "kl": kl_upper_bound(n), "win_rate": win_rate(n)})
    return pd.concat([best, best.assign(series="kl_rl", win_rate=best["win_rate"] - 0.01)])


def test_bands_compare_pairs_and_exact_curves():
    rng = np.random.default_rng(8)
    means, points = measured(rng, methods=("vbon", "ppo", "best_of_n"))
    lift = {"best_of_n": 0.1, "vbon": 0.0, "ppo": 0.0}
    for frame in (means, points):
        frame["win_rate"] += frame["method"].map(lift)
    table = bands_table(points, curves(), 0, 200, prompt_means=means)
    assert list(zip(table["kl_low"], table["kl_high"], strict=True))[:: len(PAIRS)] == list(BANDS)
    rows = table.set_index(["first", "second"])
    assert (rows.loc["vbon", "ppo"]["verdict"] == "equivalent").all()
    assert (rows.loc["best_of_n", "vbon"]["verdict"] == "above").all()
    gaps = rows.loc["best_of_n", "vbon"]["difference"].to_numpy()
    assert gaps == pytest.approx(0.1, abs=MARGIN / 2)
    absent = rows.loc["dpo", "ppo"]
    assert (absent["verdict"] == "undecided").all()
    assert (absent["note"] == "no runs of dpo").all()
    assert rows.loc["vbon", "ppo"]["exact"].dropna().to_numpy() == pytest.approx(0.01)
    assert (rows.loc["best_of_n", "vbon"]["exact"].dropna() == 0).all()  # one family
    assert absent["exact"].isna().all()  # DPO has no exact optimum
    covered = table["covered"].dropna()
    assert covered[covered < 1].to_numpy() == pytest.approx(0.5 / (1 - np.sqrt(0.2)), abs=0.02)
    without = bands_table(points, curves(), 0, 200)
    assert without["note"].str.endswith(NOT_RESAMPLED).all()
    assert without["difference"].equals(table["difference"])


def test_exact_curves_count_as_far_as_they_reach():
    top = kl_upper_bound(60)
    gap, covered = exact_gap(curves(), np.linspace(top - 1, top + 1, 101), ("vbon", "ppo"))
    assert gap == pytest.approx(0.01)
    assert covered == pytest.approx(0.5, abs=0.01)
    gap, covered = exact_gap(curves().head(0), np.array([1.0]), ("vbon", "ppo"))
    assert np.isnan(gap)
    assert covered == 0

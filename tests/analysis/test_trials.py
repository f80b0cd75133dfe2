"""Trials of budgets: win rates within the same KL, and the best of each method."""

import numpy as np
import pandas as pd
import pytest

from vbon.analysis.trials import trials_table

GRIDS = (3, 8, 16), (4, 12, 40)
COST = {"level": 1, "cost": 1.0, "tokens": 10}


def runs(pairs, seeds=1):
    return pd.DataFrame(
        [
            {"setting": f"s{k}", "seed": seed, "status": "ok", "kl": kl, "win_rate": win_rate}
            for k, (kl, win_rate) in enumerate(pairs)
            for seed in range(seeds)
        ]
    )


def table(**trials):
    trained = {
        name: {**COST, "method": name.split("_")[0], "trial": name[-1], "budget": {"updates": 9}}
        for name in trials
    }
    return trials_table(trials, trained, seed=0, replicates=400).set_index(["method", "trial"])


def test_settings_at_the_compared_kls_give_their_own_win_rates():
    row = table(vbon_a=runs([(0.5, 0.6), (1.0, 0.7), (2.0, 0.8)])).loc[("vbon", "a")]
    assert row[["win_rate_0.5", "win_rate_1", "win_rate_2"]].tolist() == pytest.approx(
        [0.6, 0.7, 0.8]
    )
    assert row["win_rate"] == pytest.approx(0.7)
    assert (row["budget"], row["best"]) == ("updates: 9", True)


def test_a_curve_begins_at_the_reference_and_ends_level():
    row = table(vbon_a=runs([(1.0, 0.7)])).loc[("vbon", "a")]
    assert 0.5 < row["win_rate_0.5"] < 0.7
    assert row["win_rate_2"] == row["win_rate_1"] == pytest.approx(0.7)


def test_more_kl_is_not_better():
    """Two grids on the curve of best-of-n, whose interpolation errs by at most .007."""
    near, far = ([(np.log(n) - 1 + 1 / n, n / (n + 1)) for n in grid] for grid in GRIDS)
    trials = table(vbon_a=runs(near), vbon_b=runs(far))
    assert trials["win_rate"].tolist() == pytest.approx([trials["win_rate"].mean()] * 2, abs=0.0035)


def test_the_best_is_marked_in_each_method_and_diverged_runs_are_left_out():
    broken = runs([(0.5, 0.9), (1.0, 0.9)]).assign(status="diverged")
    trials = table(
        ppo_a=runs([(0.5, 0.6), (2.0, 0.7)]),
        ppo_b=pd.concat([runs([(0.5, 0.61), (2.0, 0.71)]), broken]),
        dpo_a=runs([(0.5, 0.5), (2.0, 0.6)], seeds=2),
    )
    assert trials.loc[lambda rows: rows["best"]].index.tolist() == [("ppo", "b"), ("dpo", "a")]


def test_the_standard_error_of_a_lead_is_that_of_means_over_seeds():
    """With one setting at the smallest compared KL, all compared win rates are its own."""
    deviations = {"a": 0.01, "b": 0.03}

    def trial(mean, deviation):
        return runs([(0.5, mean)], seeds=4).assign(
            win_rate=mean + deviation * np.array([-1, -1, 1, 1])
        )

    trials = table(vbon_a=trial(0.7, deviations["a"]), vbon_b=trial(0.8, deviations["b"]))
    se = sum(deviation**2 / 3 for deviation in deviations.values()) ** 0.5
    lead = trials[["behind", "behind_se"]]
    assert lead.loc[("vbon", "a")].tolist() == pytest.approx([0.1, se], rel=4 / 800**0.5)
    assert lead.loc[("vbon", "b")].tolist() == [0, 0]
    assert trials["reaches"].tolist() == [0.5, 0.5]

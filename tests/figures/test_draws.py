import numpy as np
import pandas as pd
import pytest

from vbon.analysis.estimators import estimators_table
from vbon.errors import DataError
from vbon.figures.draws import PHASES, figure4, figure_estimators, minutes_by_phase
from vbon.pool.shared import fit_shared

SUFFIXES = ("pdf", "svg", "png", "csv")


def runs():
    """Three sizes and two seeds, with seconds that are easy to add up."""
    rows = [(m, seed) for m in (16, 32, 64) for seed in (0, 1)]
    points = pd.DataFrame(rows, columns=["m", "seed"])
    points["method"], points["setting"] = "vbon", [f"m{m}" for m, _ in rows]
    points["status"], points["n"] = "ok", 10.0
    points["win_rate"] = 0.7 + 0.001 * points["m"] + 0.01 * points["seed"]
    points["reward_prob"], points["reward"] = points["win_rate"] - 0.1, 1.0
    costs = points[["method", "setting", "seed"]].copy()
    costs["pool_sample_seconds"] = points["m"] * 6.0
    costs["pool_score_seconds"] = points["m"] * 3.0
    costs["sample_seconds"], costs["score_seconds"], costs["train_seconds"] = 60.0, 30.0, 180.0
    return points, costs.sample(frac=1, random_state=0)


def test_minutes_are_split_and_sum_to_the_whole():
    table = minutes_by_phase(*runs())
    first = table[(table["m"] == 32) & (table["seed"] == 1)].iloc[0]
    expected = {
        "pool_sample": 3.2, "pool_score": 1.6, "train_sample": 1, "train_score": 0.5,
        "train_update": 1.5,
    }  # fmt: skip
    assert {phase: first[f"{phase}_minutes"] for phase in PHASES} == pytest.approx(expected)
    assert first["minutes"] == pytest.approx(3.2 + 1.6 + 3)
    assert first["win_rate"] == pytest.approx(0.742)


def test_figure_4_draws_the_rows_of_its_csv(tmp_path):
    points, costs = runs()
    points.loc[0, "status"] = "diverged"
    table = figure4(points, costs, tmp_path / "figure4")
    assert len(table) == 5
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "figure4.csv"), table.reset_index(drop=True)
    )
    assert all((tmp_path / f"figure4.{suffix}").exists() for suffix in SUFFIXES)


def test_figure_4_without_a_single_run_is_refused(tmp_path):
    points, costs = runs()
    with pytest.raises(DataError, match="no run of figure 4 is 'ok'"):
        figure4(points.assign(status="diverged"), costs, tmp_path / "figure4")


@pytest.mark.slow
def test_the_estimators_are_drawn_with_and_without_runs(tmp_path):
    rng = np.random.default_rng(0)
    hint = rng.normal(size=32)
    rewards = hint[:, None] + rng.normal(size=(32, 24))
    points = pd.DataFrame(
        {
            "estimator": ["add1", "shared"],
            "m": [8, 8],
            "win_rate": 0.8,
            "win_rate_se": 0.01,
            "kl": 1,
        }
    )
    for name, given in {"with": points, "without": None}.items():
        table = estimators_table(
            rewards, lambda pools: fit_shared(pools, hint, np.ones(32), np.zeros((32, 1))), 4, given
        )
        figure_estimators(table, tmp_path / name)
        assert all((tmp_path / f"{name}.{suffix}").exists() for suffix in SUFFIXES)
        pd.testing.assert_frame_equal(pd.read_csv(tmp_path / f"{name}.csv"), table)

"""Figure 5 and over-optimisation draw what their CSVs say."""

import numpy as np
import pandas as pd
import pytest

from vbon.errors import DataError
from vbon.figures.temperature import figure5, overoptimisation


def points():
    rows = []
    for method, setting, level in (("ppo", "beta0.05", 0.6), ("vbon", "n21", 0.7)):
        for temperature in (0.5, 1.0):
            for seed in range(3):
                for domain, shift in (("in_domain", 0.0), ("out_of_domain", -0.1)):
                    value = level + shift + 0.01 * seed
                    rows.append((method, setting, 0, domain, temperature, seed, value))
    names = ["method", "setting", "seed", "domain", "temperature", "sample_seed"]
    return pd.DataFrame(rows, columns=[*names, "evaluator_win_rate"]).assign(status="ok")


def test_figure5_shows_means_and_sd_over_seeds(tmp_path):
    table = figure5(points(), "evaluator_win_rate", tmp_path / "figure5a")
    assert len(table) == 2 * 2 * 2
    first = table.iloc[0]
    assert (first["method"], first["domain"], first["n"]) == ("ppo", "in_domain", 3)
    assert (first["mean"], first["sd"]) == (pytest.approx(0.61), pytest.approx(0.01))
    assert {path.suffix for path in tmp_path.iterdir()} == {".pdf", ".svg", ".png", ".csv"}
    assert pd.read_csv(tmp_path / "figure5a.csv")["mean"].tolist() == pytest.approx(
        table["mean"].tolist()
    )


def test_diverged_runs_are_not_drawn(tmp_path):
    frame = points()
    frame.loc[frame["method"] == "vbon", ["status", "evaluator_win_rate"]] = "diverged", np.nan
    table = figure5(frame, "evaluator_win_rate", tmp_path / "figure5a")
    assert set(table["method"]) == {"ppo"}
    with pytest.raises(DataError, match="evaluator_win_rate: no run with status ok has a number"):
        figure5(frame.assign(status="diverged"), "evaluator_win_rate", tmp_path / "none")


def test_the_bars_are_over_training_and_sample_seeds(tmp_path):
    two = pd.concat([points(), points().assign(seed=1, evaluator_win_rate=0.9)])
    first = figure5(two, "evaluator_win_rate", tmp_path / "figure5a").iloc[0]
    values = [0.6, 0.61, 0.62, 0.9, 0.9, 0.9]
    assert first["n"] == 6
    assert (first["mean"], first["sd"]) == pytest.approx((np.mean(values), np.std(values, ddof=1)))


def test_overoptimisation_keeps_the_order_of_training(tmp_path):
    steps = np.arange(12)
    run = {"method": "ppo", "setting": "beta0.05", "seed": 0, "step": steps, "kl": 0.1 * steps}
    frame = pd.DataFrame(run).assign(reward=steps / 4, evaluator_reward=2.0 - (steps - 5) ** 2 / 9)
    table = overoptimisation(frame.sample(frac=1, random_state=0), tmp_path / "over")
    assert table["step"].tolist() == steps.tolist()
    assert table["reward"].is_monotonic_increasing
    peak = int(table["evaluator_reward"].argmax())
    assert 3 < peak < 8  # the evaluator's reward falls after it
    assert (tmp_path / "over.png").stat().st_size > 5000

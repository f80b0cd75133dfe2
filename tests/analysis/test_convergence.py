import numpy as np
import pandas as pd
import pytest

from vbon.analysis.convergence import convergence_table, movement
from vbon.errors import DataError


def curve(rate, steps=200, noise=0.0, seed=0):
    """A win rate that approaches 0.9 exponentially, with noise."""
    t = np.arange(steps) / steps
    rng = np.random.default_rng(seed)
    wins = 0.9 - 0.4 * np.exp(-rate * t) + noise * rng.normal(size=steps)
    return pd.DataFrame({"win_rate": wins, "reward": 2 * wins, "kl": 3 * wins})


def test_a_straight_line_moves_by_its_slope():
    history = pd.DataFrame({"kl": np.linspace(0, 8, 80, endpoint=False)})
    assert movement(history, "kl") == pytest.approx((2.0, 0.0), abs=1e-6)


def test_the_standard_error_is_that_of_repeated_runs():
    found = np.array(
        [movement(curve(50, noise=0.01, seed=seed), "win_rate") for seed in range(400)]
    )
    # The spread of 400 movements has a standard error of 1/sqrt(800) = 3.5 % of itself.
    assert found[:, 0].std() == pytest.approx(found[:, 1].mean(), rel=0.15)
    assert abs(found[:, 0].mean()) < 4 * found[:, 0].std() / 20


def test_an_early_curve_moves_less_than_a_late_one():
    table = convergence_table([("vbon", "n2", curve(20)), ("vbon", "n8", curve(2))])
    assert table["win_rate"].iloc[0] < 0.001 < 0.01 < table["win_rate"].iloc[1]
    assert table["reward"].to_numpy() == pytest.approx(2 * table["win_rate"].to_numpy())


def test_seeds_are_averaged_and_their_error_shrinks():
    runs = [("vbon", "n2", curve(20, noise=0.01, seed=seed)) for seed in range(4)]
    one, four = convergence_table(runs[:1]), convergence_table(runs)
    assert four["seeds"].item() == 4
    assert four["win_rate_se"].item() < one["win_rate_se"].item()


def test_runs_without_win_rate_or_history():
    unknown = curve(20).assign(win_rate=np.nan)
    table = convergence_table([("ppo", "beta1", unknown), ("reference", "default", unknown[:0])])
    assert table["method"].tolist() == ["ppo"]
    assert table["win_rate"].isna().all()
    assert table["kl"].notna().all()
    with pytest.raises(DataError, match="history"):
        convergence_table([("reference", "default", unknown[:0])])


def test_too_short_a_history_says_nothing():
    assert np.isnan(movement(curve(20, steps=8), "kl")).all()

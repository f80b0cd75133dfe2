"""The study of estimators against exact sums, where draws are uniform and so F is the reward."""

import numpy as np
import pandas as pd
import pytest

from vbon.analysis import estimators
from vbon.analysis.draws import log_f_rmse
from vbon.analysis.estimators import SIZES, estimators_table
from vbon.errors import ArtifactError
from vbon.pool.shared import SharedCDF

DRAWS = 3 * SIZES[-1]
PROMPTS = 200


def uniform_prior(pools):
    """A prior that expects one half everywhere and is worth two draws: F uniform on (0, 1)."""
    return SharedCDF(np.array([0.5]), np.full((len(pools), 2), 0.5), 2.0)


pytestmark = pytest.mark.slow  # the table takes twenty seconds


@pytest.fixture(scope="module")
def table():
    rewards = np.random.default_rng(0).uniform(size=(PROMPTS, DRAWS))
    points = pd.DataFrame(
        {"estimator": "add1", "m": [8, 8, 32], "kl": [1.0, 2.0, 3.0], "win_rate": [0.7, 0.8, 0.9],
         "win_rate_se": 0.02}
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimators, "MOST_BLOCKS", 2)
        found = estimators_table(rewards, uniform_prior, 8, points)
    return found.set_index(["estimator", "m"])


@pytest.mark.parametrize("m", [8, 32, 128])
@pytest.mark.parametrize("u", [0.5, 0.9])
def test_errors_of_add1_are_the_exact_ones(table, m, u):
    """Beside the binomial error there is that of 500 judging draws; tolerance 15 %, 3 SE."""
    judging = (1 - u) / (u * (DRAWS - SIZES[-1]))
    expected = np.sqrt(log_f_rmse(m, u) ** 2 + judging)
    assert table.loc[("add1", m), f"rmse_{round(100 * u)}"] == pytest.approx(expected, rel=0.15)


def test_digamma_is_unbiased_and_posterior_lower_by_one_over_m_plus_one(table):
    for m in (16, 64):
        digamma, posterior = (table.loc[(name, m)] for name in ("digamma", "posterior"))
        assert abs(digamma["bias_50"]) < 4 * digamma["rmse_50"] / np.sqrt(PROMPTS)
        assert digamma["bias_90"] - posterior["bias_90"] == pytest.approx(1 / (m + 1), abs=1e-9)
        assert digamma["ideal_kl"] == pytest.approx(posterior["ideal_kl"], abs=1e-9)


def test_saturation_is_n_over_n_plus_m(table):
    saturation = table.loc["add1"]
    expected = 8 / (8 + saturation.index.to_numpy())
    np.testing.assert_allclose(saturation["saturation_expected"], expected)
    # The mean over 400 pools of a probability; 4 standard errors where they are largest, at m = 8.
    np.testing.assert_allclose(saturation["saturation"], expected, atol=0.06)


def test_the_ideal_optimiser_approaches_best_of_n_from_below(table):
    rates = table.loc["digamma"]["ideal_win_rate"]
    assert (rates.diff().dropna() > 0).all()
    assert 8 / 9 - 0.004 < rates.iloc[-1] < 8 / 9 + 0.001
    assert table.loc[("digamma", 250), "ideal_kl"] == pytest.approx(np.log(8) - 7 / 8, abs=0.02)


def test_a_uniform_prior_makes_shared_the_posterior_mean(table):
    names = ["bias_50", "rmse_90", "ideal_win_rate", "ideal_kl"]
    pd.testing.assert_frame_equal(table.loc["shared"][names], table.loc["posterior"][names])


def test_runs_are_averaged_over_seeds(table):
    assert table.loc[("add1", 8), ["win_rate", "kl", "runs"]].tolist() == [0.75, 1.5, 2]
    assert table.loc[("add1", 32), "win_rate"] == 0.9
    assert np.isnan(table.loc[("add1", 16), "win_rate"])


def test_too_few_draws_are_named():
    with pytest.raises(ArtifactError, match=r"11 draws per prompt are too few.*train_draws to 12"):
        estimators_table(np.zeros((4, 11)), uniform_prior, 2)

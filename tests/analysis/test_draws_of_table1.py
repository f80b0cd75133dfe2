"""Table 1: samples that share draws are rejected at a rate that no distribution changes."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from vbon.analysis import draws
from vbon.errors import ArtifactError
from vbon.pool import logf


def rewards(prompts=400, draws=850, seed=0, transform=lambda values: values):
    values = transform(np.random.default_rng(seed).uniform(size=(prompts, draws)))
    names = [f"p{index}" for index in range(prompts)]
    index = pd.MultiIndex.from_product([names, range(draws)], names=["prompt_id", "draw"])
    return pd.DataFrame({"reward": values.ravel()}, index).reset_index()


@pytest.fixture(scope="module")
def table():
    return draws.table1(rewards()).set_index(["variant", "m"])


def test_statistics_are_scipys():
    rng = np.random.default_rng(0)
    first, pool = np.round(rng.normal(size=(20, 7)), 1), np.round(rng.normal(size=(20, 30)), 1)
    expected = [scipy.stats.ks_2samp(a, b).statistic for a, b in zip(first, pool, strict=True)]
    np.testing.assert_allclose(draws.ks_statistics(first, pool), expected, atol=1e-15)


@pytest.mark.parametrize("m", [20, 100, 200, 250])
def test_nested_samples_are_rejected_as_predicted(table, m):
    """Within 4 binomial standard errors of the rate predicted for 400 prompts."""
    predicted = table.loc[("predicted", m), "rejection_rate"]
    error = np.sqrt(predicted * (1 - predicted) / 400)
    assert abs(table.loc[("nested", m), "rejection_rate"] - predicted) < 4 * error + 1e-9


@pytest.mark.parametrize("m", draws.SIZES)
def test_independent_samples_are_rejected_at_the_tests_level(table, m):
    """The exact test's level is at most 5 %; at m = 5 it is discrete and may be well below."""
    rate = table.loc[("independent", m), "rejection_rate"]
    assert rate < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 400)
    if m >= 100:
        assert rate > 0.05 - 4 * np.sqrt(0.05 * 0.95 / 400)


def test_nothing_depends_on_the_distribution():
    plain = draws.table1(rewards(prompts=40))
    mapped = draws.table1(rewards(prompts=40, transform=lambda values: np.exp(9 * values)))
    pd.testing.assert_frame_equal(plain, mapped)


def test_the_exact_error_is_that_of_the_estimator():
    """Against 20,000 simulated counts; their error has a standard error below 1.5 % of itself."""
    rng = np.random.default_rng(0)
    for m, u in ((20, 0.5), (200, 0.9)):
        pools = np.sort(rng.uniform(size=(20_000, m)), 1)
        errors = logf.estimate(np.full(len(pools), u), pools, "add1") - np.log(u)
        assert draws.log_f_rmse(m, u) == pytest.approx(np.sqrt((errors**2).mean()), rel=0.06)


def test_more_draws_have_smaller_errors_and_sharing_draws_hides_them(table):
    for name in ("rmse_50", "rmse_90", "rmse_99"):
        for variant in ("independent", "predicted"):
            assert table.loc[variant, name].is_monotonic_decreasing
        assert table.loc[("nested", 250), name] < table.loc[("independent", 250), name]


def test_too_few_draws_are_named():
    with pytest.raises(ArtifactError, match=r"850 draws.*sampling\.train_draws"):
        draws.table1(rewards(prompts=3, draws=849))

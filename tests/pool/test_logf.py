"""Estimators of log F: exact means by binomial sums, ranks, shapes and failures."""

import math

import numpy as np
import pytest
import torch
from scipy.special import digamma
from scipy.stats import binom

from vbon.errors import ConfigError, DataError
from vbon.objectives import best_of_n
from vbon.pool import logf


def exact_mean(estimator, share, size):
    """Mean of an estimate over pools of ``size`` draws, a sum over the binomial law of K."""
    pool = np.arange(float(size))
    values = logf.estimate(np.arange(size + 1) - 0.5, pool, estimator)  # K = 0, 1, ..., size
    return binom.pmf(np.arange(size + 1), size, share) @ values


def test_values_by_hand():
    pool = np.array([0.0, 1.0, 1.0, 2.0])
    rewards = np.array([-1.0, 0.0, 1.0, 1.5, 2.5])
    below, level = logf.counts(rewards, pool)
    assert below.tolist() == [0, 0, 1, 3, 4]
    assert level.tolist() == [0, 1, 2, 0, 0]
    found = logf.estimate(rewards, pool)
    np.testing.assert_allclose(found, np.log([1 / 5, 1 / 5, 2 / 5, 4 / 5, 1]), atol=1e-15)
    harmonic = [0, 0, 1, 1 + 1 / 2 + 1 / 3, 1 + 1 / 2 + 1 / 3 + 1 / 4]
    np.testing.assert_allclose(
        logf.estimate(rewards, pool, "digamma"), np.array(harmonic) - harmonic[-1], atol=1e-15
    )
    np.testing.assert_allclose(
        logf.estimate(rewards, pool, "posterior"),
        np.array(harmonic) - harmonic[-1] - 1 / 5,
        atol=1e-15,
    )


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.9])
@pytest.mark.parametrize("size", [2, 5, 20, 200])
def test_digamma_has_exactly_the_bias_of_the_tail_of_the_log_series(share, size):
    k = np.arange(size + 1, 20_000)
    bias = np.sum((1 - share) ** k / k)
    assert exact_mean("digamma", share, size) == pytest.approx(math.log(share) + bias, abs=1e-12)


@pytest.mark.parametrize("size", [2, 20, 200])
def test_posterior_averages_minus_one_over_the_reference(size):
    """With F uniform every K has probability 1/(M+1), whatever M."""
    values = logf.estimate(np.arange(size + 1) - 0.5, np.arange(float(size)), "posterior")
    assert values.mean() == pytest.approx(-1, abs=1e-13)


def test_posterior_is_the_mean_of_log_f_under_its_beta_posterior():
    below, size = 3, 9
    nodes, weights = np.polynomial.legendre.leggauss(400)
    share = (nodes + 1) / 2
    density = share**below * (1 - share) ** (size - below)
    expected = (weights * density) @ np.log(share) / (weights @ density)
    found = logf.estimate(2.5, np.arange(float(size)), "posterior")
    assert found == pytest.approx(expected, abs=1e-9)


def test_add1_is_no_lower_bound_and_its_bias_vanishes():
    bias = [exact_mean("add1", 0.01, size) - math.log(0.01) for size in (20, 200, 2000)]
    np.testing.assert_allclose(bias[:2], [1.69, 0.28], atol=0.006)
    assert 0 < bias[2] < 0.03


@pytest.mark.parametrize("estimator", logf.RANK_BASED)
@pytest.mark.parametrize("transform", [np.exp, lambda r: r**3, lambda r: 7 * r - 2])
def test_estimates_by_rank_do_not_change_under_a_monotone_map(estimator, transform):
    rng = np.random.default_rng(0)
    pool, rewards = np.sort(rng.normal(size=50).round(1)), rng.normal(size=40).round(1)
    before = logf.estimate(rewards, pool, estimator)
    after = logf.estimate(transform(rewards), transform(pool), estimator)
    assert before.tobytes() == after.tobytes()


@pytest.mark.parametrize("estimator", [*logf.RANK_BASED, "exponential"])
def test_a_batch_of_pools_equals_one_pool_at_a_time(estimator):
    rng = np.random.default_rng(1)
    pools = np.sort(rng.normal(size=(6, 40)), axis=-1)
    rewards = rng.normal(size=(6, 3))
    batched = logf.estimate(rewards, pools, estimator)
    single = [logf.estimate(row, pool, estimator) for row, pool in zip(rewards, pools, strict=True)]
    np.testing.assert_array_equal(batched, single)
    np.testing.assert_array_equal(logf.estimate(rewards[:, 0], pools, estimator), batched[:, 0])
    tensors = torch.from_numpy(rewards), torch.from_numpy(pools)
    assert torch.equal(logf.estimate(*tensors, estimator), torch.from_numpy(batched))


def test_results_are_of_the_kind_that_came():
    pool = [0.0, 1.0]
    assert isinstance(logf.estimate(0.5, pool), np.ndarray)
    found = logf.estimate(torch.tensor([0.5], requires_grad=True), torch.tensor(pool))
    assert found.dtype == torch.float64
    assert not found.requires_grad
    below, level = logf.counts(torch.tensor([0.5]), torch.tensor(pool))
    assert below.dtype == level.dtype == torch.int64


def test_win_rate_from_counts_gives_the_reference_one_half():
    pool = np.sort(np.random.default_rng(3).integers(0, 9, size=200)).astype(float)
    below, level = logf.counts(pool, pool)
    assert np.mean((below + level / 2) / 200) == 0.5


@pytest.mark.parametrize(("n", "size"), [(10, 32), (100, 200)])
def test_saturation_under_best_of_n(n, size):
    """Share n/(n+M): exact over the quantile, estimated over 20,000 pools; 4 standard errors."""
    expected = n / (n + size)
    rng = np.random.default_rng(4)
    best = rng.uniform(size=20_000) ** (1 / n)
    largest = rng.uniform(size=20_000) ** (1 / size)  # all that saturation depends on
    found = logf.counts(best, largest[:, None])[0].mean()
    assert abs(found - expected) < 4 * math.sqrt(expected * (1 - expected) / 20_000)


@pytest.mark.parametrize(
    ("a", "b", "shift"), [(1.5, 0.7, 0.0), (0.2, 3.0, 10.0), (4.0, 0.05, -80.0)]
)
def test_exponential_recovers_its_parameters(a, b, shift):
    target = np.log(np.arange(1, 301) / 301)
    pool = shift - np.log(-target / a) / b
    scale, rate, rmse = logf.fit_exponential(pool)
    assert scale * math.exp(-rate * shift) == pytest.approx(a, rel=1e-6)
    assert rate == pytest.approx(b, rel=1e-6)
    assert rmse < 1e-7
    estimates = logf.estimate(pool, pool, "exponential", (scale, rate))
    np.testing.assert_allclose(estimates, target, atol=1e-6)
    np.testing.assert_allclose(logf.estimate(pool, pool, "exponential"), estimates, atol=1e-12)
    above = logf.estimate(pool[-1] + np.array([0.1, 1.0]) / b, pool, "exponential", (scale, rate))
    assert target[-1] < above[0] < above[1] < 0  # where estimates by rank are all 0


def test_exponential_is_a_least_squares_fit():
    rng = np.random.default_rng(5)
    pool, target = np.sort(rng.normal(size=100)), np.log(np.arange(1, 101) / 101)
    a, b, rmse = logf.fit_exponential(pool)

    def error(a, b):
        return np.sqrt(np.mean((-a * np.exp(-b * pool) - target) ** 2))

    assert rmse == pytest.approx(error(a, b), rel=1e-9)
    for da, db in [(1e-3, 0), (-1e-3, 0), (0, 1e-3), (0, -1e-3)]:
        assert error(a + da, b + db) > rmse


@pytest.mark.parametrize("pool", [[1.0, 2.0], [2.0] * 30, [0.0, 1.0, math.inf]])
def test_exponential_falls_back_where_no_fit_exists_and_says_so(pool):
    assert all(math.isnan(value) for value in logf.fit_exponential(pool))
    rewards = np.array([0.5, 3.0])
    with pytest.warns(logf.FitWarning, match="1 of 1 pools have no exponential fit; add1"):
        found = logf.estimate(rewards, pool, "exponential")
    np.testing.assert_array_equal(found, logf.estimate(rewards, pool))


def test_exponential_falls_back_row_by_row_and_is_never_positive():
    pools = np.stack([np.linspace(-1, 1, 9), np.ones(9)])
    rewards = np.array([[0.1, 0.2], [0.5, 2.0]])
    found = logf.estimate(rewards, pools, "exponential", (np.array([-1.0, np.nan]), np.ones(2)))
    assert found[0].tolist() == [0, 0]
    np.testing.assert_array_equal(found[1], logf.estimate(rewards, pools)[1])


@pytest.mark.parametrize("share", [0.05, 0.4, 1.0])
def test_ibs_is_unbiased(share):
    repeats = 20_000
    rng = np.random.default_rng(6)
    values = logf.ibs(np.full(repeats, share), lambda active: rng.uniform(size=len(active)))
    assert abs(values.mean() - math.log(share)) <= 4 * values.std() / math.sqrt(repeats)
    # its variance is the dilogarithm of 1 - F, a second exact property
    k = np.arange(1, 5000)
    variance = np.sum((1 - share) ** k / k**2)
    assert values.var() == pytest.approx(variance, rel=0.06, abs=1e-12)


def test_ibs_draws_for_each_prompt_by_its_position_and_through_estimate():
    shares = torch.tensor([[0.2, 0.9], [0.5, 1.0]])
    seen = []

    def draw(active):
        seen.append(active.tolist())
        return torch.tensor([0.95, 0.3, 0.1, 0.0][len(seen) - 1]).expand(len(active))

    found = logf.estimate(shares, draw, "ibs")
    assert seen == [[0, 1, 2, 3], [0, 1, 2], [0]]
    assert found.dtype == torch.float64
    assert found.tolist() == [[-1.5, -1.0], [-1.0, 0.0]]


def test_truncated_ibs_averaged_over_orders_is_digamma():
    """Over random orders of one pool, minus the mean harmonic number before the first lower."""
    size, below = 7, 3
    first = np.array(
        [math.comb(size - t, below - 1) / math.comb(size, below) for t in range(1, size + 1)]
    )
    harmonic = digamma(np.arange(1, size + 1)) - digamma(1)
    expected = -first @ harmonic
    found = logf.estimate(below - 0.5, np.arange(float(size)), "digamma")
    assert found == pytest.approx(expected, abs=1e-14)


def test_floor_is_the_add1_of_many_draws():
    log_below = np.array([-np.inf, -700.0, math.log(0.5), 0.0])
    found = best_of_n.floored(log_below, 999)
    np.testing.assert_allclose(found, np.log([1 / 1000, 1 / 1000, 500.5 / 1000, 1]), atol=1e-14)
    assert np.all(found <= 0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: logf.estimate(0.0, [0.0], "median"),
            ConfigError,
            "'median'; known: add1, digamma",
        ),
        (lambda: logf.estimate(math.nan, [0.0]), DataError, "rewards: 1 values are NaN"),
        (lambda: logf.estimate(0.0, [math.nan]), DataError, "sorted_rewards: 1 values are NaN"),
        (lambda: logf.estimate(0.0, []), DataError, "pool is empty"),
        (lambda: logf.estimate(0.0, [1.0]), DataError, "one draw is no distribution"),
        (lambda: logf.estimate(0.0, [1.0], "exponential"), DataError, "one draw is no dist"),
        (lambda: logf.estimate(0.0, [0.0, 1.0], "shared"), ConfigError, "needs the fit to all"),
        (
            lambda: logf.estimate([0.0], [0.0, 1.0], "shared", prior=([0.5, 0.5], 3)),
            DataError,
            r"expected shares between 0 and 1 of shape \(1,\)",
        ),
        (
            lambda: logf.estimate(0.0, [0.0, 1.0], "shared", prior=(1.0, 3)),
            DataError,
            "between 0 and 1",
        ),
        (lambda: logf.estimate([0.0], np.zeros((1, 0))), DataError, "pool is empty"),
        (lambda: logf.estimate(0.0, [1.0, 0.0]), DataError, "not ascending"),
        (lambda: logf.estimate(np.zeros(3), np.zeros((2, 4))), DataError, r"\(2, 4\) serve"),
        (lambda: logf.estimate(0.0, np.zeros((2, 4))), DataError, r"\(2, 4\) serve"),
        (lambda: logf.fit_exponential([1.0, 0.0]), DataError, "not ascending"),
        (lambda: logf.estimate(0.0, lambda k: k), ConfigError, "only ibs takes a sampler"),
        (lambda: logf.estimate(0.0, [0.0], "ibs"), ConfigError, "takes a sampler"),
        (lambda: logf.ibs(math.nan, lambda k: k), DataError, "NaN"),
        (lambda: logf.ibs(0.0, lambda k: k + 1.0, max_draws=5), DataError, "1 of 1 have no lower"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_shared_without_a_pool_of_weight_is_the_mean_under_the_prior_alone():
    """log F under Beta(a, b) has mean psi(a) - psi(a + b); counts add to a and b."""
    pool, rewards = np.arange(9.0), np.array([2.5, 8.5])
    share, worth = np.array([0.3, 0.8]), 40.0
    found = logf.estimate(rewards, pool, "shared", prior=(share, worth))
    expected = digamma(worth * share + [3, 9]) - digamma(worth + 9)
    np.testing.assert_allclose(found, expected, atol=1e-14)
    sure = logf.estimate(rewards, pool, "shared", prior=(share, 1e9))
    np.testing.assert_allclose(sure, np.log(share), atol=1e-7)


def test_shared_is_posterior_where_the_prior_is_uniform_and_worth_one_draw_each_way():
    """Beta(1, 1) expects one half and is worth two draws; K of M under it is `posterior`."""
    pool = np.arange(7.0)
    rewards = np.arange(8) - 0.5
    found = logf.estimate(rewards, pool, "shared", prior=(np.full(8, 0.5), 2.0))
    np.testing.assert_allclose(found, logf.estimate(rewards, pool, "posterior"), atol=1e-14)


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_truncated_ibs_has_the_mean_of_digamma(share):
    """Mean over 40,000 rewards against -sum (1-F)^k / k up to the limit; 4 standard errors."""
    rng, limit = np.random.default_rng(7), 12
    sizes = iter([1, 1, 2, 4, 8])

    def draw(active):
        return rng.uniform(size=(len(active), next(sizes)))

    values = logf.ibs(np.full(40_000, share), draw, max_draws=limit, truncated=True)
    k = np.arange(1, limit + 1)
    expected = -np.sum((1 - share) ** k / k)
    assert abs(values.mean() - expected) < 4 * values.std() / 200
    assert values.min() == pytest.approx(-np.sum(1 / k))
    assert expected == pytest.approx(exact_mean("digamma", share, limit))

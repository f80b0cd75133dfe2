"""Best-of-n against brute force over tuples, high-precision arithmetic and subsets."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import gammaln, logsumexp
from support import TIES, log_bon

from vbon.errors import ConfigError, DataError
from vbon.objectives import best_of_n as bon

KINDS = {"injective": np.arange(6.0)[[3, 0, 5, 1, 4, 2]], "tied": np.array([1, 0, 1, 1, 0, 2.0])}


def random_language(seed, strings=6):
    return np.log(np.random.default_rng(seed).dirichlet(np.ones(strings)))


def brute_force(log_probs, rewards, n, choose):
    """Distribution of the chosen string over all n-tuples of independent draws."""
    chosen = np.zeros(len(rewards))
    for draws in itertools.product(range(len(rewards)), repeat=n):
        chosen[choose(rewards, draws)] += math.exp(sum(log_probs[draw] for draw in draws))
    return chosen


def first_best(rewards, draws):
    """What argmax over draws returns."""
    return draws[int(np.argmax([rewards[draw] for draw in draws]))]


def best_in_order(rewards, draws):
    """The largest draw by reward, then by index."""
    return max(draws, key=lambda draw: (rewards[draw], draw))


@pytest.mark.parametrize("rewards", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("ties", "choose"), [("exchangeable", first_best), ("ordered", best_in_order)]
)
def test_best_of_n_equals_brute_force_over_tuples(rewards, n, ties, choose):
    log_probs = random_language(n)
    expected = brute_force(log_probs, rewards, n, choose)
    np.testing.assert_allclose(
        np.exp(log_bon(TIES[ties](rewards), log_probs, n)), expected, rtol=1e-13, atol=0
    )


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("n", [1, 1.01, 1.5, 2, 7.3, 64, 4096])
def test_best_of_n_sums_to_one_and_respects_its_bounds(ties, n):
    rng = np.random.default_rng(0)
    log_probs = random_language(1, 500)
    rewards = rng.integers(0, 40, size=500).astype(float)
    log_best = log_bon(TIES[ties](rewards), log_probs, n)
    # The floats sum to 1 within rounding, and the sum over best-of-n is that of the n-tuples.
    rounding = n * np.log(np.exp(log_probs.astype(np.longdouble)).sum())
    assert logsumexp(log_best) == pytest.approx(float(rounding), abs=1e-13 + 1e-16 * n)
    assert abs(rounding) < 1e-11
    probs = np.exp(log_best)
    below, level = bon.log_masses(rewards, log_probs)
    assert probs @ (log_best - log_probs) <= bon.kl_upper_bound(n) + 1e-13
    assert probs @ (np.exp(below) + np.exp(level) / 2) <= bon.win_rate(n) + 1e-13


def test_tied_rewards_without_either_convention_do_not_normalise():
    """Both masses matter: strict F with each string's own mass loses the mass of ties."""
    log_probs, rewards = random_language(3), KINDS["tied"]
    below, _ = bon.log_masses(rewards, log_probs)
    assert np.exp(log_probs + bon.log_bon_ratio(below, log_probs, 2)).sum() < 0.95


@pytest.mark.parametrize("ties", TIES)
def test_masses_equal_pairwise_sums(ties):
    log_probs, rewards = random_language(4), KINDS["tied"]
    probs, index = np.exp(log_probs), np.arange(6)
    same = rewards[:, None] == rewards[None, :]
    lower = rewards[None, :] < rewards[:, None]
    if ties == "ordered":
        lower |= same & (index[None, :] < index[:, None])
        same = np.eye(6, dtype=bool)
    below, level = bon.log_masses(TIES[ties](rewards), log_probs)
    np.testing.assert_allclose(np.exp(below), lower @ probs, rtol=1e-14)
    np.testing.assert_allclose(np.exp(level), same @ probs, rtol=1e-14)


def test_masses_survive_probabilities_that_underflow():
    log_probs = np.array([-2000.0, -1990.0, 0.0])
    below, level = bon.log_masses(np.arange(3.0), log_probs)
    assert below.tolist() == [-np.inf, -2000.0, np.logaddexp(-2000, -1990)]
    assert level.tolist() == log_probs.tolist()


@pytest.mark.parametrize(
    ("rewards", "log_probs", "message"),
    [
        ([0.0, np.nan], [-1.0, -1.0], "rewards: NaN for 1 strings"),
        ([0.0], [-1.0, -1.0], r"shapes \(1,\) and \(2,\)"),
    ],
)
def test_masses_refuse_bad_languages(rewards, log_probs, message):
    with pytest.raises(DataError, match=message):
        bon.log_masses(rewards, log_probs)


def exact_log_ratio(log_below, log_level, n):
    """The definition in 1,000-digit arithmetic, at the floats' exact values."""
    with mpmath.workdps(1000):
        below = mpmath.exp(mpmath.mpf(log_below)) if log_below > -math.inf else mpmath.mpf(0)
        level, n = mpmath.exp(mpmath.mpf(log_level)), mpmath.mpf(n)
        return float(mpmath.log(((below + level) ** n - below**n) / level))


def masses_for_accuracy(kind, rng):
    if kind == "wide":
        return -rng.uniform(0, 700), -rng.uniform(0, 700)
    if kind == "best string":  # F + q = 1, where large logs cancel
        return math.log(below := rng.uniform(1e-3, 1)), math.log1p(-below)
    if kind == "short string":
        return -rng.exponential(), -rng.exponential() * 10
    if kind == "near one":
        return -(10 ** rng.uniform(-15, 2)), -(10 ** rng.uniform(-15, 2.8))
    return -rng.uniform(0, 1e-3), -rng.uniform(690, 700)


@pytest.mark.parametrize("kind", ["wide", "best string", "short string", "near one", "long string"])
def test_log_bon_ratio_matches_high_precision(kind):
    rng = np.random.default_rng(7)
    for n in [1.0, 1.000001, 1.01, 1.5, 2.0, 3.0, 10.0, 64.0, 599.5, 4096.0, 1e6]:
        for _ in range(12):
            log_below, log_level = masses_for_accuracy(kind, rng)
            excess = max(0.0, float(np.logaddexp(log_below, log_level)))
            log_below, log_level = log_below - excess, log_level - excess
            exact = exact_log_ratio(log_below, log_level, n)
            found = bon.log_bon_ratio(log_below, log_level, n)
            assert abs(found - exact) <= 1e-12 * max(1, abs(exact)), (log_below, log_level, n)


@pytest.mark.parametrize("corner", [-700.0, -1500.0, -1e-300, -0.5])
@pytest.mark.parametrize("n", [1.5, 2, 512])
def test_log_bon_ratio_matches_high_precision_in_the_corners(corner, n):
    for pair in [(corner, -700.0), (-700.0, corner), (-1500.0, corner), (corner - 30, corner)]:
        if np.logaddexp(*pair) <= 0:
            with mpmath.workdps(1500):  # enough digits for exp(-1500) squared beside 1
                below, level = (mpmath.exp(mpmath.mpf(value)) for value in pair)
                power = mpmath.mpf(n)
                exact = mpmath.log(((below + level) ** power - below**power) / level)
            found = bon.log_bon_ratio(*pair, n)
            assert abs(found - exact) <= 1e-12 * max(1, abs(exact)), pair


def test_log_bon_ratio_is_exact_at_its_edges():
    assert bon.log_bon_ratio(-math.inf, -3.7, 5) == 4 * -3.7  # F = 0
    assert bon.log_bon_ratio(-math.inf, 0.0, 5) == 0.0  # p = 1
    for masses in [(-math.inf, -2.0), (-1.0, -2.0), (-math.inf, -math.inf), (-700.0, -700.0)]:
        assert bon.log_bon_ratio(*masses, 1) == 0.0
    assert bon.log_bon_ratio(-0.5, -math.inf, 3) == pytest.approx(math.log(3) - 1, abs=1e-15)
    assert bon.log_bon_ratio(-math.inf, -math.inf, 3) == -math.inf
    assert math.isnan(bon.log_bon_ratio(math.nan, -1.0, 2))


def test_log_bon_ratio_equals_the_binomial_sum():
    """Proposition 1 as printed, for integer n: an independent second formula."""
    rng = np.random.default_rng(2)
    log_below = np.log(rng.uniform(0.01, 0.7, size=50))
    log_level = np.log(rng.uniform(1e-8, 0.3, size=50))
    for n in (2, 5, 40, 1030):
        i = np.arange(1, n + 1)[:, None]
        log_choose = gammaln(n + 1) - gammaln(i + 1) - gammaln(n - i + 1)
        expected = logsumexp(log_choose + (n - i) * log_below + (i - 1) * log_level, axis=0)
        found = bon.log_bon_ratio(log_below, log_level, n)
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


def test_log_bon_ratio_is_bracketed_and_increases_with_the_level():
    log_below = np.log(np.linspace(0.01, 0.5, 20))[:, None]
    log_level = np.linspace(-60, math.log(0.5), 50)[None, :]
    ratio = bon.log_bon_ratio(log_below, log_level, 4.5)
    assert np.all(np.diff(ratio, axis=1) >= -1e-13)
    assert np.all(ratio >= math.log(4.5) + 3.5 * log_below - 1e-13)
    assert np.all(ratio <= math.log(4.5) + 3.5 * np.logaddexp(log_below, log_level) + 1e-13)


@pytest.mark.parametrize("n", [0.5, 0, -1, math.nan, math.inf])
def test_number_of_draws_is_checked(n):
    for function in (bon.kl_upper_bound, bon.win_rate, lambda n: bon.log_bon_ratio(-1.0, -1.0, n)):
        with pytest.raises(ConfigError, match="n >= 1"):
            function(n)


def test_numbers_arrays_and_tensors_come_back_as_they_came():
    values = [-0.3, -1.7]
    as_tensor = bon.log_bon_ratio(torch.tensor(values), torch.tensor(values).double(), 3)
    as_array = bon.log_bon_ratio(np.array(values), -1.0, 3)
    assert isinstance(bon.log_bon_ratio(-0.3, -1, 3), float)
    assert isinstance(as_array, np.ndarray)
    assert as_tensor.dtype == torch.float64
    assert not as_tensor.requires_grad
    rows = bon.log_bon_ratio(np.array(values)[:, None], np.array([-2.0, -3.0, -4.0]), [2, 4, 8])
    assert rows.shape == (2, 3)
    assert rows[1, 2] == bon.log_bon_ratio(-1.7, -4.0, 8)


@pytest.mark.parametrize("size", [1, 2, 5, 7])
def test_expected_best_equals_the_mean_over_subsets(size):
    rewards = np.random.default_rng(size).normal(size=size).round(1)
    for n in range(1, size + 1):
        subsets = [max(subset) for subset in itertools.combinations(rewards, n)]
        assert bon.expected_best(rewards, n) == pytest.approx(np.mean(subsets), abs=1e-14)


def test_expected_best_of_a_large_pool_agrees_with_lgamma_weights_and_its_ends():
    rewards = np.random.default_rng(0).normal(size=(3, 4000))
    ranks = np.arange(1, 4001)
    for n in (2, 600, 3999):
        with np.errstate(invalid="ignore"):
            log_weights = gammaln(ranks) - gammaln(n) - gammaln(np.maximum(ranks - n + 1, 1))
            log_weights -= gammaln(4001) - gammaln(n + 1) - gammaln(4001 - n)
        weights = np.where(ranks >= n, np.exp(log_weights), 0)
        expected = np.sort(rewards, axis=-1) @ weights
        np.testing.assert_allclose(bon.expected_best(rewards, n), expected, rtol=1e-9)
    np.testing.assert_allclose(bon.expected_best(rewards, 1), rewards.mean(-1), atol=1e-14)
    np.testing.assert_array_equal(bon.expected_best(rewards, 4000), rewards.max(-1))
    assert bon.expected_best(torch.ones(2, 5), 3).tolist() == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize(
    ("rewards", "n", "error", "message"),
    [
        ([1.0, 2.0], 3, ConfigError, r"1\.\.2, got 3"),
        ([1.0, 2.0], 0, ConfigError, r"1\.\.2, got 0"),
        ([1.0, 2.0], 1.5, ConfigError, "integer"),
        ([1.0, math.nan], 1, DataError, "1 NaN or infinite"),
        ([math.inf, 1.0], 1, DataError, "1 NaN or infinite"),
        ([], 1, DataError, "empty pool"),
    ],
)
def test_expected_best_refuses(rewards, n, error, message):
    with pytest.raises(error, match=message):
        bon.expected_best(rewards, n)


def test_cap_keeps_an_estimate_possible():
    log_level = np.log([0.25, 0.25, 1.0])
    capped = bon.cap_log_below(np.log([0.9, 0.5, 0.5]), log_level)
    np.testing.assert_allclose(np.exp(capped), [0.75, 0.5, 0.0], rtol=1e-15)


def test_frontier_at_the_kl_of_best_of_n():
    n = torch.tensor([2.0, 4.0, 8.0, 16.0, 64.0])
    found = bon.win_rate_frontier(bon.kl_upper_bound(n))
    assert [round(value, 4) for value in found.tolist()] == [0.6759, 0.804, 0.8897, 0.9413, 0.9846]
    assert bool((found > bon.win_rate(n)).all())


@pytest.mark.parametrize("budget", [0.05, 0.6363, 1.5])
def test_frontier_equals_the_optimum_found_without_knowing_its_form(budget):
    """Sequential quadratic programming over densities that are constant on 60 cells.

    Merging a density over cells loses at most order cells**-2 of its win rate.
    """
    cells = 60
    centres = (np.arange(cells) + 0.5) / cells

    def spare(mass):
        return budget - np.sum(mass * np.log(np.maximum(mass, 1e-300) * cells))

    result = minimize(
        lambda mass: -mass @ centres,
        np.full(cells, 1 / cells),
        jac=lambda mass: -centres,
        method="SLSQP",
        bounds=[(1e-12, 1)] * cells,
        constraints=[
            {"type": "ineq", "fun": spare},
            {"type": "eq", "fun": lambda mass: mass.sum() - 1},
        ],
        options={"maxiter": 500, "ftol": 1e-12},
    )
    assert result.success
    frontier = bon.win_rate_frontier(budget)
    assert frontier - 1e-3 < -result.fun <= frontier + 1e-8


def test_no_policy_of_a_discrete_language_is_above_the_frontier():
    rng = np.random.default_rng(11)
    log_probs, rewards = random_language(5, 30), rng.integers(0, 12, size=30).astype(float)
    below, level = bon.log_masses(rewards, log_probs)
    tilts = rng.normal(size=(2000, 30)) + rng.uniform(0, 8, size=(2000, 1)) * np.exp(below)
    log_policy = log_probs + tilts
    log_policy -= logsumexp(log_policy, axis=1, keepdims=True)
    policy = np.exp(log_policy)
    kl = np.sum(policy * (log_policy - log_probs), axis=1)
    win_rate = policy @ (np.exp(below) + np.exp(level) / 2)
    assert np.all(win_rate <= bon.win_rate_frontier(kl) + 1e-12)

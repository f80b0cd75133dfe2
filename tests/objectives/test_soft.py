"""Soft best-of-n by brute force over tuples, and its limits."""

import itertools

import numpy as np
import pytest

from vbon.objectives import frontier, oracle, soft


@pytest.mark.parametrize("levels", [None, 3], ids=["distinct", "tied"])
@pytest.mark.parametrize(("n", "tilt"), [(1, 5), (2, 0), (2, 60), (3, 0.5), (4, 7)])
def test_the_optimum_equals_brute_force_over_tuples(n, tilt, levels):
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(5))
    rewards = rng.normal(size=5) if levels is None else rng.integers(0, levels, 5).astype(float)
    level = np.sign(rewards[:, None] - rewards)
    win_rates = (1 + level) @ p / 2
    expected = np.zeros(5)
    for draws in itertools.product(range(5), repeat=n):
        weights = np.exp(tilt * win_rates[list(draws)])
        np.add.at(expected, list(draws), p[list(draws)].prod() * weights / weights.sum())
    found = oracle.optimum("soft_best_of_n", np.log(p), rewards, n=n, tilt=tilt)
    np.testing.assert_allclose(np.exp(found), expected, rtol=1e-11, atol=1e-14)
    ratio = soft.log_ratio(win_rates, n, tilt, (win_rates, np.log(p)))
    assert np.exp(ratio) @ p == pytest.approx(1, abs=1e-12)


def test_limits_for_continuous_rewards():
    for n in (2, 16):
        assert soft.kl(n, 0) == pytest.approx(0, abs=1e-12)
        assert soft.win_rate(n, 0) == pytest.approx(0.5, abs=1e-12)
        assert soft.win_rate(n, 100) == pytest.approx(frontier.win_rate(n), abs=2e-3 * n)
        assert soft.kl(n, 8) < frontier.kl_upper_bound(n)
    for tilt in (0.5, 4, 20):
        assert soft.kl(1, tilt) == pytest.approx(0, abs=1e-12)
        assert soft.kl(2, tilt) < soft.kl(8, tilt) < soft.kl(1e6, tilt)
        at_frontier = frontier.win_rate_frontier(soft.kl(1e6, tilt))
        assert soft.win_rate(1e6, tilt) == pytest.approx(at_frontier, abs=1e-5)
        ratio = soft.log_ratio(np.linspace(0, 1, 5), 1e6, tilt)
        assert np.diff(ratio) == pytest.approx(np.full(4, tilt / 4), rel=1e-3)


def test_many_distinct_rewards_give_the_integral_and_ties_less():
    rng = np.random.default_rng(0)
    pools = np.stack([rng.permutation(4000), rng.integers(0, 3, 4000)]).astype(float)
    distinct, tied = soft.kl_with_ties(pools, 4, 5)
    assert distinct == pytest.approx(soft.kl(4, 5), abs=1e-5)
    assert tied < 0.99 * distinct

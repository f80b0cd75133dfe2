"""Best-of-Poisson as a mixture of best-of-n, and its closed forms against integrals."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import poisson as law

from vbon.errors import ConfigError
from vbon.objectives import oracle
from vbon.objectives.frontier import kl_upper_bound, win_rate_frontier
from vbon.objectives.poisson import kl, kl_with_ties, log_ratio, win_rate


@pytest.mark.parametrize("levels", [None, 3], ids=["distinct", "tied"])
@pytest.mark.parametrize("n", [1, 1.3, 4, 20])
def test_it_is_the_mixture_of_best_of_n_over_poisson_numbers(n, levels):
    rng = np.random.default_rng(0)
    log_ref = np.log(rng.dirichlet(np.ones(7)))
    rewards = rng.normal(size=7) if levels is None else rng.integers(0, levels, 7).astype(float)
    sizes = np.arange(1, 120)
    parts = [np.exp(oracle.optimum("best_of_n", log_ref, rewards, n=size)) for size in sizes]
    mixture = law.pmf(sizes - 1, n - 1) @ np.array(parts)
    found = np.exp(oracle.optimum("best_of_poisson", log_ref, rewards, n=n))
    np.testing.assert_allclose(found, mixture, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [1.001, 1.5, 4, 16, 49.99, 50.01, 300])
def test_kl_and_win_rate_are_integrals_of_the_density(n):
    density = lambda u: np.exp(log_ratio(np.log(u), -np.inf, n))  # noqa: E731
    options = {"epsabs": 1e-13, "epsrel": 1e-12, "points": [1 - 1 / n, 1 - 0.1 / n], "limit": 200}
    total, mean, divergence = (
        quad(integrand, 0, 1, **options)[0]
        for integrand in (
            density,
            lambda u: u * density(u),
            lambda u: density(u) * np.log(density(u)) if u > 0 else 0.0,
        )
    )
    assert total == pytest.approx(1, abs=1e-11)
    assert win_rate(n) == pytest.approx(mean, abs=1e-11)
    assert kl(n) == pytest.approx(divergence, abs=1e-10)
    assert -1e-8 < win_rate_frontier(kl(n)) - mean < 0.0002


def test_large_numbers_of_draws_do_not_overflow():
    assert kl(1e6) == pytest.approx(np.log(1e6) - 1, abs=1e-5)
    assert win_rate(1e6) == pytest.approx(1 - 1e-6, abs=1e-11)
    assert kl(1) == 0
    assert win_rate([1.0, 1.01 - 1e-9, 1.01 + 1e-9]) == pytest.approx(
        [0.5, 0.50166, 0.50166], abs=1e-5
    )
    with pytest.raises(ConfigError, match="n >= 1"):
        kl(0.5)


def test_ties_lower_the_kl_and_many_distinct_rewards_give_the_closed_form():
    rng = np.random.default_rng(0)
    pools = np.stack([rng.permutation(20_000), rng.integers(0, 3, 20_000)]).astype(float)
    distinct, tied = kl_with_ties(pools, 4)
    assert distinct == pytest.approx(kl(4), abs=1e-6)
    assert tied < 0.9 * distinct
    shares = np.bincount(pools[1].astype(int)) / 20_000
    best = oracle.optimum("best_of_poisson", np.log(shares), np.arange(3.0), n=4)
    assert tied == pytest.approx(oracle.kl(best, np.log(shares)), abs=1e-12)
    assert kl(4) < kl_upper_bound(4)

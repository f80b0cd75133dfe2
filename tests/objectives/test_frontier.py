"""Closed forms against high-precision arithmetic, numerical optimisation and identities."""

import mpmath
import numpy as np
import pytest

from vbon.errors import ConfigError
from vbon.objectives.frontier import kl_frontier, kl_upper_bound, win_rate, win_rate_frontier

TILTS = ["1e-9", "1e-3", "0.2", "0.99", "1", "1.01", "2", "7", "40", "1e3", "1e8", "1e15", "1e22"]


def exact_frontier(tilt):
    """(KL, win rate) of the density c exp(c u) / (exp(c) - 1), in 80-digit arithmetic."""
    c = mpmath.mpf(tilt)
    rate = 1 / (1 - mpmath.exp(-c)) - 1 / c
    return mpmath.log(c) - c - mpmath.log(1 - mpmath.exp(-c)) + c * rate, rate


@pytest.mark.parametrize("tilt", TILTS)
def test_win_rate_frontier_matches_high_precision(tilt):
    with mpmath.workdps(80):
        kl, rate = exact_frontier(tilt)
        rounded = float(kl)
        # The slope is 1/c: shift the exact value to the rounded argument.
        expected = float(rate + (mpmath.mpf(rounded) - kl) / mpmath.mpf(tilt))
    assert win_rate_frontier(rounded) == pytest.approx(expected, rel=0, abs=1e-14)


@pytest.mark.parametrize("tilt", TILTS[1:-4])
def test_kl_frontier_matches_high_precision(tilt):
    with mpmath.workdps(80):
        kl, rate = exact_frontier(tilt)
        rounded = float(rate)
        expected = float(kl + (mpmath.mpf(rounded) - rate) * mpmath.mpf(tilt))
    assert kl_frontier(rounded) == pytest.approx(expected, rel=1e-9, abs=1e-14)


def test_kl_frontier_is_the_inverse_of_the_win_rate():
    kl = np.geomspace(1e-6, 20, 200)
    assert kl_frontier(win_rate_frontier(kl)) == pytest.approx(kl, rel=1e-6)
    assert kl_frontier([0.0, 0.5, 1.0]).tolist() == [0.0, 0.0, np.inf]
    assert np.isnan(kl_frontier(np.nan))
    with pytest.raises(ConfigError, match=r"from 0 to 1, got 1\.5"):
        kl_frontier([0.7, 1.5])


def test_frontier_beats_every_density_on_a_grid():
    """No random density on 200 quantile cells crosses the edge; the tilt itself reaches it."""
    rng = np.random.default_rng(5)
    cells = (np.arange(200) + 0.5) / 200
    for sharpness in (0.1, 1.0, 4.0):
        logits = sharpness * rng.normal(size=(500, 200)) + rng.normal(size=(500, 1)) * 8 * cells
        mass = np.exp(logits - logits.max(axis=1, keepdims=True))
        mass /= mass.sum(axis=1, keepdims=True)
        kl = (mass * np.log(np.maximum(mass, 1e-300) * 200)).sum(axis=1)
        assert np.all(mass @ cells <= win_rate_frontier(kl) + 1e-12)
    tilt = np.exp(3 * cells)
    tilt /= tilt.sum()
    kl = float((tilt * np.log(tilt * 200)).sum())
    assert tilt @ cells == pytest.approx(win_rate_frontier(kl), abs=1e-5)  # 200 cells: O(200**-2)


def test_frontier_bounds_best_of_n_and_is_nearly_attained():
    n = np.array([1, 1.5, 2, 4, 8, 16, 64, 512])
    gap = win_rate_frontier(kl_upper_bound(n)) - win_rate(n)
    assert np.all(gap >= 0)
    assert np.all(gap < 0.01)
    published = [0.6759, 0.8040, 0.8897, 0.9413, 0.9846]
    reached = win_rate_frontier(kl_upper_bound(np.array([2, 4, 8, 16, 64])))
    assert np.round(reached, 4).tolist() == published


def test_frontier_is_concave_and_increasing_over_the_plotted_range():
    kl = np.linspace(0, 50, 2001)
    rate = win_rate_frontier(kl)
    assert rate[0] == 0.5
    assert np.all(np.diff(rate) >= 0)
    assert np.all(np.diff(rate, n=2) <= 5e-16)
    assert np.all((rate >= 0.5) & (rate <= 1))


def test_small_kl_follows_the_square_root_law():
    """To leading order w = 1/2 + sqrt(KL / 6), down to the smallest numbers."""
    kl = np.array([1e-300, 1e-40, 1e-20, 1e-12, 1e-9])
    assert win_rate_frontier(kl) - 0.5 == pytest.approx(np.sqrt(kl / 6), rel=1e-6, abs=1.2e-16)


def test_edges_and_missing_values():
    assert np.array_equal(
        win_rate_frontier([0.0, 1e300, np.inf, np.nan]), [0.5, 1.0, 1.0, np.nan], equal_nan=True
    )
    assert win_rate_frontier(np.zeros((2, 3))).shape == (2, 3)
    assert win_rate_frontier(np.zeros(0)).shape == (0,)
    assert isinstance(win_rate_frontier(0.1), float)
    assert isinstance(kl_upper_bound(2), float)


def test_best_of_n_bound_is_the_kl_of_its_density():
    """KL and win rate of n u**(n-1) by quadrature, for real n as in n = 1 / kl_coef + 1."""
    nodes, weights = np.polynomial.legendre.leggauss(400)
    u, weights = (nodes + 1) / 2, weights / 2
    for n in (1.0, 1.2, 2.0, 3.5, 21.0):
        density = n * u ** (n - 1)
        kl = weights @ (density * np.log(density))
        assert kl_upper_bound(n) == pytest.approx(kl, abs=2e-5)
        assert win_rate(n) == pytest.approx(weights @ (density * u), abs=2e-5)


@pytest.mark.parametrize(
    ("function", "value", "words"),
    [
        (kl_upper_bound, 0.5, "n >= 1"),
        (win_rate, [2, 0], "n >= 1"),
        (win_rate_frontier, -0.1, "KL >= 0"),
    ],
)
def test_values_outside_the_domain_are_refused(function, value, words):
    with pytest.raises(ConfigError, match=words):
        function(value)

"""Theorems 2 to 4 on random policies, against sums written out, and their limits."""

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from support import TIES, log_bon

from vbon.errors import ConfigError
from vbon.objectives import bounds
from vbon.objectives.best_of_n import log_masses

POLICIES = 1500
STRINGS = 12


def random_problem(seed, ties):
    """1,500 random policies, from nearly the reference to nearly deterministic, on a language."""
    rng = np.random.default_rng(seed)
    log_ref = np.log(rng.dirichlet(np.full(STRINGS, 0.5)) + 1e-4)
    log_ref -= logsumexp(log_ref)
    rewards = TIES[ties](rng.integers(0, 6, size=STRINGS).astype(float))
    sharpness = 10 ** rng.uniform(-2, 1.3, size=(POLICIES, 1))
    log_policy = log_ref * (rng.random((POLICIES, 1)) < 0.5)
    log_policy = log_policy + sharpness * rng.normal(size=(POLICIES, STRINGS))
    log_policy -= logsumexp(log_policy, axis=1, keepdims=True)
    return log_policy, log_ref, rewards, log_masses(rewards, log_ref)


def off_the_lowest(log_policy, log_below):
    """The same policies without strings of F = 0, where L and L1 are finite."""
    log_policy = np.where(np.isneginf(log_below), -np.inf, log_policy)
    return log_policy - logsumexp(log_policy, axis=1, keepdims=True)


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("n", [1, 1.5, 2, 3, 5, 10])
def test_theorems_2_and_3_hold(n, ties):
    log_policy, log_ref, _, (below, level) = random_problem(0, ties)
    for policy in (log_policy, off_the_lowest(log_policy, below)):
        objective = bounds.vbon_objective(policy, log_ref, below, level, n)
        lower = bounds.lower_bound(policy, log_ref, below, n)
        lower_l1 = bounds.lower_bound_l1(policy, log_ref, below, n)
        slack = 1e-10 * (1 + np.abs(objective))
        assert np.all(objective <= slack)
        assert np.all(lower <= objective + slack)
        assert np.all(lower + math.log(n) <= objective + slack)
        assert np.all(lower_l1 <= objective + slack)
    assert np.all(np.isfinite(objective) & np.isfinite(lower) & np.isfinite(lower_l1))


@pytest.mark.parametrize("n", [1, 2, 2.5, 3, 5, 10])
def test_theorem_4_holds_at_one_and_from_two_on(n):
    log_policy, log_ref, _, (below, _) = random_problem(1, "ordered")
    policy = off_the_lowest(log_policy, below)
    lower = bounds.lower_bound(policy, log_ref, below, n)
    lower_l1 = bounds.lower_bound_l1(policy, log_ref, below, n)
    assert np.all(lower_l1 <= lower + 1e-10 * (1 + np.abs(lower_l1)))


def test_theorem_4_fails_between_one_and_two():
    """At n = 1.5, gamma = 0.375 < n - 1: mass on a string of small F and probability 0.9.

    L = 0.5 log 0.05 + log 0.9 = -1.60, L1 = 0.375 log 0.05 + 1.875 log 0.9 = -1.32.
    """
    log_ref = np.log([0.05, 0.9, 0.05])
    below, _ = log_masses(np.arange(3.0), log_ref)
    policy = np.array([-np.inf, 0.0, -np.inf])
    lower = bounds.lower_bound(policy, log_ref, below, 1.5)
    lower_l1 = bounds.lower_bound_l1(policy, log_ref, below, 1.5)
    assert lower == pytest.approx(0.5 * math.log(0.05) + math.log(0.9))
    assert lower_l1 == pytest.approx(0.375 * math.log(0.05) + 1.875 * math.log(0.9))
    assert lower_l1 > lower + 0.2


@pytest.mark.parametrize(
    ("n", "alpha", "beta", "gamma"),
    [(1, 0, 1, 0), (1.5, 0.875, 1.875, 0.375), (2, 2, 3, 1), (4, 9, 10, 6), (10, 54, 55, 45)],
)
def test_constants_of_theorem_3(n, alpha, beta, gamma):
    assert bounds.l1_coefficients(n) == (alpha, beta, gamma)
    assert (alpha, beta, gamma) == ((n + 2) * (n - 1) / 2, n * (n + 1) / 2, n * (n - 1) / 2)
    if n == int(n):  # where they come from: the exponents of the binomial terms
        terms = range(1, int(n) + 1)
        assert (gamma, beta) == (sum(n - i for i in terms), sum(terms))
    assert beta - alpha == 1


@pytest.mark.parametrize("n", [1, 1.5, 3, 10])
def test_values_equal_the_definitions_written_out(n):
    log_policy, log_ref, rewards, (below, level) = random_problem(2, "exchangeable")
    log_policy = off_the_lowest(log_policy, below)[:50]
    alpha, beta, gamma = bounds.l1_coefficients(n)
    target = log_bon(rewards, log_ref, n)
    for row in log_policy:
        keep = np.exp(row) > 0
        policy, log_p, log_q = np.exp(row[keep]), row[keep], log_ref[keep]
        kl, entropy = policy @ (log_p - log_q), -policy @ log_p
        mean_log_f = policy @ below[keep]
        assert bounds.vbon_objective(row, log_ref, below, level, n) == pytest.approx(
            -policy @ (log_p - target[keep]), abs=1e-9
        )
        assert bounds.lower_bound(row, log_ref, below, n) == pytest.approx(
            (n - 1) * mean_log_f - kl, abs=1e-9
        )
        assert bounds.lower_bound_l1(row, log_ref, below, n) == pytest.approx(
            gamma * mean_log_f - alpha * entropy - beta * kl, abs=1e-8
        )


def test_with_one_draw_all_are_minus_the_kl_even_where_no_reward_is_lower():
    log_policy, log_ref, _, (below, level) = random_problem(3, "ordered")
    kl = np.sum(np.exp(log_policy) * (log_policy - log_ref), axis=1)
    assert np.isneginf(below).any()
    for value in (
        bounds.vbon_objective(log_policy, log_ref, below, level, 1),
        bounds.lower_bound(log_policy, log_ref, below, 1),
        bounds.lower_bound_l1(log_policy, log_ref, below, 1),
    ):
        np.testing.assert_allclose(value, -kl, atol=1e-12)


def test_bounds_are_minus_infinity_on_the_lowest_string_and_the_objective_is_not():
    half = np.log([0.5, 0.5])
    below, level = log_masses(np.array([0.0, 1.0]), half)
    assert bounds.lower_bound(half, half, below, 2) == -np.inf
    assert bounds.lower_bound_l1(half, half, below, 2) == -np.inf
    assert np.isfinite(bounds.vbon_objective(half, half, below, level, 2))


def test_sharp_bound_is_tight_for_long_strings():
    """J - L - log n vanishes as strings lose their mass; it halves with twice the strings."""
    gaps = []
    for strings in (200, 400, 800):
        log_ref = np.full(strings, -math.log(strings))
        below, level = log_masses(np.arange(float(strings)), log_ref)
        policy = off_the_lowest(log_ref[None], below)[0]
        objective = bounds.vbon_objective(policy, log_ref, below, None, 4)
        gaps.append(objective - bounds.lower_bound(policy, log_ref, below, 4) - math.log(4))
        assert objective == bounds.vbon_objective(policy, log_ref, below, level, 4)
    assert 0 < gaps[2] < gaps[1] < gaps[0] < 0.05
    assert gaps[2] < 0.65 * gaps[1]


def test_gradient_vanishes_at_the_optimum_of_each_and_points_uphill_elsewhere():
    _, log_ref, rewards, (below, level) = random_problem(4, "ordered")
    below_floored = np.logaddexp(below, -8)
    n, (_, beta, gamma) = 3, bounds.l1_coefficients(3)
    ref, below_t, level_t, floored_t = map(torch.from_numpy, (log_ref, below, level, below_floored))
    cases = [
        (
            lambda p: bounds.vbon_objective(p, ref, below_t, level_t, n),
            log_bon(rewards, log_ref, n),
        ),
        (lambda p: bounds.lower_bound(p, ref, floored_t, n), log_ref + 2 * below_floored),
        (
            lambda p: bounds.lower_bound_l1(p, ref, floored_t, n),
            beta * log_ref + gamma * below_floored,
        ),
    ]
    for objective, optimum in cases:
        logits = torch.tensor(optimum, requires_grad=True)
        objective(torch.log_softmax(logits, 0)).backward()
        assert logits.grad.abs().max() < 1e-12
        logits = torch.zeros(STRINGS, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x, f=objective: f(torch.log_softmax(x, 0)), logits)


def test_gradient_is_finite_for_a_policy_without_full_support():
    log_policy = torch.tensor([-math.inf, -0.7, -0.7], dtype=torch.float64, requires_grad=True)
    below = torch.tensor([-math.inf, -2.0, -0.5], dtype=torch.float64)
    bounds.lower_bound(log_policy, torch.full((3,), -1.1).double(), below, 2).backward()
    assert torch.isfinite(log_policy.grad).all()


def test_number_of_draws_is_checked():
    half = np.log([0.5, 0.5])
    for call in (
        lambda: bounds.l1_coefficients(0.9),
        lambda: bounds.vbon_objective(half, half, half, None, 0),
        lambda: bounds.lower_bound(half, half, half, math.nan),
        lambda: bounds.lower_bound_l1(half, half, half, 0.5),
    ):
        with pytest.raises(ConfigError, match="n >= 1"):
            call()

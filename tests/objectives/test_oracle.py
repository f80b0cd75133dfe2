"""The oracle's optima against generic optimisers, limits and brute force."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp
from support import TIES, log_bon

from vbon.errors import ConfigError, DataError
from vbon.objectives import oracle
from vbon.objectives.best_of_n import kl_upper_bound, win_rate, win_rate_frontier

SETTINGS = {
    "reference": {},
    "best_of_n": {"n": 4},
    "best_of_poisson": {"n": 4},
    "soft_best_of_n": {"n": 4, "tilt": 3},
    "kl_rl": {"kl_coef": 0.3},
    "win_rate": {"kl_coef": 0.3},
    "lower_bound": {"n": 4},
    "lower_bound_l1": {"n": 2},
    "bonbon": {"n": 4, "alpha": 0.3},
}


def random_language(seed=0, strings=10, levels=None):
    rng = np.random.default_rng(seed)
    log_ref = np.log(rng.dirichlet(np.full(strings, 2.0)))
    rewards = rng.normal(size=strings) if levels is None else rng.integers(0, levels, strings)
    return log_ref, rewards.astype(float)


@pytest.mark.parametrize("levels", [None, 4], ids=["injective", "tied"])
@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("name", SETTINGS)
def test_a_generic_optimiser_of_the_objective_finds_the_optimum(name, ties, levels):
    log_ref, rewards = random_language(strings=7, levels=levels)
    language, settings = (log_ref, TIES[ties](rewards)), SETTINGS[name]

    def loss(logits):
        return -oracle.objective(name, log_softmax(logits), *language, **settings)

    result = minimize(loss, np.zeros(7), method="BFGS", options={"gtol": 1e-8, "maxiter": 500})
    log_optimum = oracle.optimum(name, *language, **settings)
    assert logsumexp(log_optimum) == pytest.approx(0, abs=1e-12)
    assert oracle.total_variation(log_softmax(result.x), log_optimum) < 2e-4
    best = oracle.objective(name, log_optimum, *language, **settings)
    assert best >= -result.fun - 1e-12 * abs(result.fun)
    assert best == pytest.approx(-result.fun, abs=1e-5)


@pytest.mark.parametrize("name", SETTINGS)
def test_no_random_policy_is_better_than_the_optimum(name):
    language, rng = random_language(1, levels=5), np.random.default_rng(2)
    best_policy = oracle.optimum(name, *language, **SETTINGS[name])
    best = oracle.objective(name, best_policy, *language, **SETTINGS[name])
    for scale in np.repeat([1e-3, 0.1, 1.0, 3.0], 25):
        policy = log_softmax(best_policy + scale * rng.normal(size=10))
        assert oracle.objective(name, policy, *language, **SETTINGS[name]) < best


def test_closed_forms_by_hand():
    log_ref, rewards = np.log([0.2, 0.5, 0.3]), np.array([1.0, 0.0, 2.0])
    below = (1e6 * np.array([0.5, 0.0, 0.7]) + 1) / (1e6 + 1)
    probs = np.exp(log_ref)
    quantile = lambda u: u * np.exp(-3 * (1 - u))  # noqa: E731
    expected = {
        "reference": probs,
        "best_of_n": [0.7**4 - 0.5**4, 0.5**4, 1 - 0.7**4],
        "best_of_poisson": [quantile(0.7) - quantile(0.5), quantile(0.5), 1 - quantile(0.7)],
        "kl_rl": probs * np.exp(rewards / 0.3),
        "win_rate": probs * np.exp(np.array([0.6, 0.25, 0.85]) / 0.3),
        "lower_bound": probs * below**3,
        "lower_bound_l1": probs**3 * below,
        "bonbon": None,
        "soft_best_of_n": None,
    }
    assert expected.keys() == oracle.OPTIMA.keys() == oracle.OBJECTIVES.keys() == SETTINGS.keys()
    for name, weights in expected.items():
        if weights is not None:
            found = np.exp(oracle.optimum(name, log_ref, rewards, **SETTINGS[name]))
            np.testing.assert_allclose(found, np.divide(weights, np.sum(weights)), rtol=1e-13)


@pytest.mark.parametrize("ties", TIES)
def test_the_objective_of_best_of_n_is_zero_at_its_optimum_alone(ties):
    log_ref, rewards = random_language(3, levels=4)
    language = log_ref, TIES[ties](rewards)
    log_best = oracle.optimum("best_of_n", *language, n=3.5)
    np.testing.assert_allclose(log_best, log_bon(language[1], log_ref, 3.5), atol=1e-13)
    value = oracle.objective("best_of_n", log_best, *language, n=3.5)
    assert value == pytest.approx(0, abs=1e-13)
    value = oracle.objective("best_of_n", log_ref, *language, n=3.5)
    assert value == pytest.approx(-oracle.kl(log_ref, log_best), abs=1e-13)


DRAWS = ["best_of_n", "best_of_poisson", "lower_bound", "lower_bound_l1", "bonbon"]


@pytest.mark.parametrize("name", DRAWS)
def test_with_one_draw_every_optimum_is_the_reference(name):
    language = random_language(4, levels=4)
    for n in (1, 1.0):
        found = oracle.optimum(name, *language, n=n, alpha=0.5)
        np.testing.assert_allclose(found, language[0], atol=1e-13)


@pytest.mark.parametrize("name", ["best_of_n", "lower_bound"])
def test_optima_go_to_the_reference_and_to_the_argmax(name):
    log_ref, rewards = random_language(5)
    argmax = np.where(np.arange(10) == rewards.argmax(), 0.0, -np.inf)
    near = [
        oracle.total_variation(oracle.optimum(name, log_ref, rewards, n=1 + gap), log_ref)
        for gap in (1e-1, 1e-2, 1e-4, 1e-8)
    ]
    far = [
        oracle.total_variation(oracle.optimum(name, log_ref, rewards, n=n), argmax)
        for n in (1e1, 1e2, 1e3, 1e4)
    ]
    assert near == sorted(near, reverse=True)
    assert near[-1] < 1e-6
    assert far == sorted(far, reverse=True)
    assert far[-1] < 1e-12


def test_kl_rl_goes_to_the_reference_and_to_the_argmax():
    log_ref, rewards = random_language(5)
    argmax = np.where(np.arange(10) == rewards.argmax(), 0.0, -np.inf)
    for kl_coef, limit in [(1e9, log_ref), (math.inf, log_ref), (1e-4, argmax)]:
        found = oracle.optimum("kl_rl", log_ref, rewards, kl_coef=kl_coef)
        assert oracle.total_variation(found, limit) < 1e-8


@pytest.mark.parametrize("tilt", [0.5, 4.0, 20.0])
def test_the_optimum_of_the_win_rate_lies_on_the_frontier(tilt):
    """Equally likely strings, so many that the midpoint rule is exact to 1e-10."""
    language = np.full(200_000, -np.log(200_000)), np.arange(200_000.0)
    metrics = oracle.metrics(oracle.optimum("win_rate", *language, kl_coef=1 / tilt), *language)
    assert metrics["win_rate"] == pytest.approx(win_rate_frontier(metrics["kl"]), abs=1e-10)


def test_best_of_n_and_the_bound_coincide_for_long_strings_and_differ_for_short_ones():
    distance = []
    for strings in (4, 64, 1024):
        language = np.full(strings, -math.log(strings)), np.arange(float(strings))
        pair = [oracle.optimum(name, *language, n=4) for name in ("best_of_n", "lower_bound")]
        distance.append(oracle.total_variation(*pair))
    assert distance[0] > 0.05
    assert distance[0] > 10 * distance[1] > 100 * distance[2]


def test_metrics_by_brute_force_over_pairs():
    log_ref, rewards = random_language(6, levels=4)
    log_policy = oracle.optimum("best_of_n", log_ref, rewards, n=3)
    policy, ref = np.exp(log_policy), np.exp(log_ref)
    wins = sum(
        policy[i] * ref[j] * ((rewards[i] > rewards[j]) + (rewards[i] == rewards[j]) / 2)
        for i, j in itertools.product(range(10), repeat=2)
    )
    found = oracle.metrics(log_policy, log_ref, rewards)
    assert found["win_rate"] == pytest.approx(wins, abs=1e-14)
    assert found["reward"] == pytest.approx(policy @ rewards, abs=1e-14)
    assert found["kl"] == pytest.approx(policy @ (log_policy - log_ref), abs=1e-14)
    assert found["kl"] <= kl_upper_bound(3)
    assert found["win_rate"] <= win_rate(3)
    at_reference = oracle.metrics(log_ref, log_ref, rewards)
    assert at_reference["win_rate"] == pytest.approx(0.5, abs=1e-14)
    assert at_reference["kl"] == 0


def test_distances_of_distributions_without_common_support():
    left, right = np.log([0.5, 0.5, 1e-300]), np.array([-np.inf, 0.0, -np.inf])
    assert oracle.total_variation(left, right) == pytest.approx(0.5)
    assert oracle.kl(right, left) == pytest.approx(math.log(2))
    assert oracle.kl(left, right) == math.inf


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("levels", [None, 3], ids=["injective", "tied"])
def test_best_and_worst_equal_brute_force_over_tuples(n, levels, ties):
    log_ref, rewards = random_language(7, 5, levels)
    expected = np.zeros((5, 5))
    for draws in itertools.product(range(5), repeat=n):
        scores = [(rewards[d], d if ties == "ordered" else 0) for d in draws]
        best, worst = draws[scores.index(max(scores))], draws[scores.index(min(scores))]
        expected[best, worst] += math.exp(log_ref[list(draws)].sum())
    rewards = TIES[ties](rewards)
    found = oracle.best_worst(log_ref, rewards, n)
    np.testing.assert_allclose(found, expected, atol=1e-16, rtol=1e-12)
    np.testing.assert_allclose(found.sum(1), np.exp(log_bon(rewards, log_ref, n)), rtol=1e-12)


@pytest.mark.parametrize(
    ("loss", "alpha", "n"),
    [
        ("ipo", 0.0, 4),
        ("ipo", 0.9, 64),
        ("ipo", 0.005, 8),
        ("sigmoid", 0.005, 8),
        ("sigmoid", 1, 3),
    ],
)
def test_bonbon_optimum_equals_lbfgs_on_the_population_loss(loss, alpha, n):
    """A second route: the loss written out over pairs, minimised by quasi-Newton in torch."""
    log_ref, rewards = random_language(8, 8)
    pairs = torch.from_numpy(oracle.best_worst(log_ref, rewards, n))
    ref = torch.from_numpy(log_ref)
    logits = ref.clone().requires_grad_()
    margin = (n - 1) * sum(1 / k for k in range(1, n))
    optimiser = torch.optim.LBFGS(
        [logits],
        max_iter=600,
        tolerance_grad=1e-12,
        tolerance_change=0,
        history_size=50,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimiser.zero_grad()
        log_policy = torch.log_softmax(logits, 0)
        gap = (log_policy - ref)[:, None] - (log_policy - ref)[None, :]
        pair = (gap - margin) ** 2 if loss == "ipo" else torch.log1p(torch.exp(-gap / 2 / margin))
        value = (pairs * (-alpha * log_policy[:, None] + (1 - alpha) * pair)).sum()
        value.backward()
        return value

    optimiser.step(closure)
    settings = {"n": n, "alpha": alpha, "loss": loss}
    found = oracle.optimum("bonbon", log_ref, rewards, **settings)
    expected = torch.log_softmax(logits.detach(), 0)
    assert oracle.total_variation(found, expected) < 1e-5
    value = oracle.objective("bonbon", found, log_ref, rewards, **settings)
    assert value >= -closure().item() - 1e-12
    assert value == pytest.approx(-closure().item(), abs=1e-6)
    if alpha == 1:
        assert oracle.total_variation(found, log_bon(rewards, log_ref, n)) < 1e-10


def test_an_estimate_of_log_f_changes_the_optimum_that_is_sought():
    log_ref, rewards = random_language(9)
    estimate = np.log((np.arange(10) + 1) / 11)[rewards.argsort().argsort()]
    found = oracle.optimum("lower_bound", log_ref, rewards, n=3, log_below=torch.tensor(estimate))
    np.testing.assert_allclose(found, log_softmax(log_ref + 2 * estimate), atol=1e-14)
    certain = oracle.optimum("best_of_n", log_ref, rewards, n=3, log_below=np.zeros(10))
    assert logsumexp(certain) == pytest.approx(0, abs=1e-14)
    np.testing.assert_array_less(certain[np.isfinite(certain)], 0)


def test_strings_without_probability_stay_without():
    log_ref = np.log([0.5, 0.5, 1.0])
    log_ref[2] = -np.inf
    for name, settings in SETTINGS.items():
        found = oracle.optimum(name, log_ref, np.array([0.0, 1.0, 2.0]), **settings)
        assert found[2] == -np.inf
        assert np.exp(found).sum() == pytest.approx(1)


@pytest.mark.parametrize("loss", ["ipo", "sigmoid"])
def test_bonbons_optimum_is_found_for_probabilities_in_single_precision(loss):
    """They sum to 1 up to 1e-7, and no step of a policy that sums to 1 removes the difference."""
    log_ref, rewards = random_language(200)
    settings = {"n": 4, "alpha": 0.9, "loss": loss}
    exact = oracle.optimum("bonbon", log_ref, rewards, **settings)
    found = oracle.optimum("bonbon", log_ref + 2e-7, rewards, **settings)
    assert oracle.total_variation(found, exact) < 1e-6


def test_tensors_come_back_as_tensors():
    language = [torch.from_numpy(array) for array in random_language()]
    for name, settings in SETTINGS.items():
        found = oracle.optimum(name, *language, **settings)
        assert isinstance(found, torch.Tensor)
        assert isinstance(oracle.objective(name, found, *language, **settings), float)


@pytest.mark.parametrize(
    ("name", "settings", "error", "message"),
    [
        (
            "dpo",
            {},
            ConfigError,
            "'dpo'; known: best_of_n, best_of_poisson, bonbon, kl_rl, lower_bound",
        ),
        ("best_of_n", {}, ConfigError, "n: .* got None"),
        ("kl_rl", {"kl_coef": 0.0}, ConfigError, "kl_coef > 0, got 0.0"),
        ("lower_bound", {"n": 0.5}, ConfigError, "n >= 1"),
        ("bonbon", {"n": 2}, ConfigError, "alpha: .* got None"),
        ("bonbon", {"n": 2, "alpha": 0.0, "loss": "sigmoid"}, ConfigError, "no finite optimum"),
        ("reference", {"log_ref": [-1.0, -1.0]}, DataError, "sum to 0.73.*, not 1"),
    ],
)
def test_impossible_problems_are_refused(name, settings, error, message):
    log_ref = settings.pop("log_ref", np.log([0.5, 0.5]))
    with pytest.raises(error, match=message) as caught:
        oracle.optimum(name, log_ref, np.array([0.0, 1.0]), **settings)
    assert "\n" not in str(caught.value)

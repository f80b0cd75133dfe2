"""Rewards made unequal: ranks stay, scales differ by prompt and nothing else."""

import numpy as np
import pytest

from vbon.rewards.unequal import Inequality

IDS = [f"prompt {k}" for k in range(4000)]
EACH = np.arange(len(IDS))


def test_without_settings_nothing_changes():
    identity = Inequality(0.0, 0.0)
    rewards = np.linspace(-3, 3, len(IDS))
    assert not identity
    assert np.array_equal(identity(rewards, IDS, EACH), rewards)


@pytest.mark.parametrize("mapping", [Inequality(1.0, 0.0), Inequality(0.0, 1.0), Inequality(2, 3)])
def test_order_within_a_prompt_stays(mapping):
    rewards = np.sort(np.random.default_rng(0).normal(size=500))
    for prompt in range(5):
        assert (np.diff(mapping(rewards, IDS, np.full(500, prompt))) > 0).all()


def test_logarithms_of_the_factors_are_normal():
    """4,000 factors: standard errors of mean and standard deviation are .024 and .017."""
    logs = np.log(Inequality(1.5, 0.0)(np.ones(len(IDS)), IDS, EACH))
    assert logs.mean() == pytest.approx(0, abs=4 * 0.024)
    assert logs.std() == pytest.approx(1.5, abs=4 * 0.017)


def test_a_factor_depends_on_the_id_alone():
    mapping = Inequality(1.0, 0.0)
    few = mapping(np.ones(2), ["b", "a"], np.array([1, 0]))
    assert few.tolist() == [mapping.scale("a"), mapping.scale("b")]


def test_a_small_rate_leaves_rewards_nearly_as_they_are():
    rewards = np.linspace(-1, 1, 9)
    nearly = Inequality(0.0, 1e-6)(rewards, IDS, np.zeros(9, dtype=int))
    assert nearly == pytest.approx(rewards, abs=1e-6)

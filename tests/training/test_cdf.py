"""Where rewards stand among the reference's: estimates against counts, exact values by sums."""

import numpy as np
import pytest
import torch

from vbon import logf
from vbon.errors import DataError
from vbon.methods.vbon import VBoN
from vbon.objectives.best_of_n import log_masses
from vbon.training.cdf import EstimatedCDF, ExactCDF, RewardCDF
from vbon.types import Scored

MAPS = {"exp": np.exp, "cube": lambda reward: reward**3, "shift": lambda reward: 7 + 2 * reward}


def example(prompts=3, draws=50, batch=200, decimals=1, seed=0):
    """Pools with ties, and rewards of which many are in them."""
    rng = np.random.default_rng(seed)
    pools = np.sort(rng.normal(size=(prompts, draws)).round(decimals))
    rewards = rng.normal(size=batch).round(decimals)
    index = rng.integers(prompts, size=batch)
    log_prob_ref = np.log(rng.uniform(1e-4, 0.9, size=batch))
    return pools, index, rewards, log_prob_ref


def estimated(pools, estimator="add1", pooled_ties=False, fitted=None):
    if fitted is None:
        fitted = np.full((len(pools), 2), np.nan)
    arrays = (torch.from_numpy(np.array(part)) for part in (pools, fitted))
    return EstimatedCDF(*arrays, estimator, pooled_ties)


def look_up(cdf, index, rewards, log_prob_ref):
    return cdf(*(torch.from_numpy(np.array(part)) for part in (index, rewards, log_prob_ref)))


@pytest.mark.parametrize("pooled_ties", [False, True])
def test_estimates_count_the_prompts_own_pool(pooled_ties):
    pools, index, rewards, log_prob_ref = example()
    below, level = look_up(estimated(pools, "add1", pooled_ties), index, rewards, log_prob_ref)
    capped = 0
    for row, (prompt, reward) in enumerate(zip(index, rewards, strict=True)):
        mass = np.exp(log_prob_ref[row])
        if pooled_ties:
            mass = max(mass, np.mean(pools[prompt] == reward))
        share = ((pools[prompt] < reward).sum() + 1) / 51
        capped += share > 1 - mass
        assert level[row].exp().item() == pytest.approx(mass)
        assert below[row].exp().item() == pytest.approx(min(share, 1 - mass))
    assert 10 < capped < 190
    assert (below.exp() + level.exp() <= 1 + 1e-12).all()


def test_a_response_of_probability_one_has_nothing_below():
    pools, index, rewards, _ = example(batch=4)
    below, level = look_up(estimated(pools), index, rewards, np.zeros(4))
    assert below.isneginf().all()
    assert not level.any()


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("estimator", logf.RANK_BASED)
@pytest.mark.parametrize("pooled_ties", [False, True])
def test_monotone_maps_of_the_reward_change_no_bit(name, estimator, pooled_ties):
    pools, index, rewards, log_prob_ref = example(decimals=3)
    found = []
    for change in (lambda reward: reward, MAPS[name]):
        cdf = estimated(change(pools), estimator, pooled_ties)
        found.append(look_up(cdf, index, change(rewards), log_prob_ref))
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_the_exponential_fit_does_notice_such_a_map():
    pools, index, rewards, log_prob_ref = example(decimals=6)
    found = []
    for change in (lambda reward: reward, np.exp):
        fitted = [logf.fit_exponential(pool)[:2] for pool in change(pools)]
        cdf = estimated(change(pools), "exponential", fitted=fitted)
        found.append(look_up(cdf, index, change(rewards), log_prob_ref)[0])
    assert not torch.equal(*found)
    scale, rate = fitted[index[0]]
    expected = min(-scale * np.exp(-rate * np.exp(rewards[0])), np.log1p(-np.exp(log_prob_ref[0])))
    assert found[1][0].item() == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["language", "tied_language"])
def test_exact_masses_are_the_sums_over_all_strings(kind, request):
    spoken = request.getfixturevalue(kind)
    strings = len(spoken.responses)
    index = np.repeat([1, 0], strings)
    rewards = np.concatenate([spoken.rewards[1], spoken.rewards[0]])
    below, level = look_up(spoken.cdf, index, rewards, np.zeros(2 * strings))
    for row, (prompt, reward) in enumerate(zip(index, rewards, strict=True)):
        p = spoken.log_ref[prompt].exp().numpy()
        lower, equal = p[spoken.rewards[prompt] < reward], p[spoken.rewards[prompt] == reward]
        assert below[row].exp().item() == pytest.approx(lower.sum(), abs=1e-12)
        assert level[row].exp().item() == pytest.approx(equal.sum())


@pytest.mark.parametrize("reward", [-50.0, 0.123456, 50.0])
def test_a_reward_of_another_language_is_refused(language, reward):
    with pytest.raises(DataError, match="is no reward of this enumerable language"):
        look_up(language.cdf, [0], [reward], [-1.0])


def test_estimates_approach_the_exact_values(language):
    """At 40,000 draws the standard error of F is at most 0.0025; 4 of them are allowed."""
    draws, strings = 40_000, len(language.responses)
    cdf = language.estimated_cdf(draws)
    for prompt in range(2):
        arguments = np.full(strings, prompt), language.rewards[prompt], language.log_ref[prompt]
        below, _ = look_up(cdf, *arguments)
        exact = log_masses(language.rewards[prompt], language.log_ref[prompt].numpy())[0]
        errors = np.sqrt(np.exp(exact) * (1 - np.exp(exact)) / draws)
        assert (np.abs(below.exp().numpy() - np.exp(exact)) <= 4 * errors + 2 / draws).all()


def test_both_kinds_serve_a_method(language):
    for cdf in (language.cdf, language.estimated_cdf(100)):
        assert isinstance(cdf, RewardCDF)
        reward, log_ref = language.rewards[0], language.log_ref[0]
        below, level = look_up(cdf, np.zeros(len(reward), int), reward, log_ref)
        scored = Scored(torch.from_numpy(reward), below, level, log_ref)
        assert VBoN(n=4).reward(scored).isfinite().all()
    assert isinstance(cdf, EstimatedCDF)
    assert isinstance(language.cdf, ExactCDF)

"""Where rewards stand among the reference's: estimates against counts, exact values by sums."""

import numpy as np
import pytest
import torch
from scipy.special import digamma

from vbon.batches import Scored
from vbon.errors import DataError
from vbon.methods.vbon import VBoN
from vbon.objectives.best_of_n import log_masses
from vbon.pool import logf
from vbon.pool.cdf import EstimatedCDF, ExactCDF, RewardCDF, SampledCDF
from vbon.pool.shared import SharedCDF

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


def test_shared_adds_the_pools_counts_to_the_prior():
    pools, index, rewards, log_prob_ref = example(decimals=4)
    knots = np.array([-0.5, 0.5])
    shares = np.array([[0.2, 0.5, 0.8], [0.1, 0.4, 0.7], [0.3, 0.6, 0.9]])
    prior = SharedCDF(knots, shares, 25.0)
    arrays = torch.from_numpy(pools), torch.full((3, 2), torch.nan).double()
    cdf = EstimatedCDF(*arrays, "shared", prior=prior)
    below, _ = look_up(cdf, index, rewards, log_prob_ref - 50)
    cell = (rewards >= -0.5).astype(int) + (rewards >= 0.5)
    counted = (pools[index] < rewards[:, None]).sum(1)
    expected = digamma(counted + 25 * shares[index, cell]) - digamma(75)
    np.testing.assert_allclose(below.numpy(), expected, atol=1e-12)


def sampled(seed=0, max_draws=64):
    """Fresh rewards of prompt i are uniform between 0 and i + 1; a draw takes two tokens."""

    def draw(rows, count, seed):
        generator = torch.Generator().manual_seed(seed % 2**32)
        uniform = torch.rand(len(rows), count, generator=generator, dtype=torch.float64)
        return uniform * (rows[:, None] + 1), 2 * uniform.numel()

    return SampledCDF(draw, max_draws, seed)


def test_fresh_draws_are_of_each_rewards_own_prompt_and_unbiased():
    """20,000 rewards a prompt; 4 standard errors."""
    index = np.repeat([0, 1], 20_000)
    rewards = np.full(40_000, 0.6)  # F is .6 and .3
    cdf = sampled(max_draws=4096)
    below, level = look_up(cdf, index, rewards, np.full(40_000, -50.0))
    assert (level == -50).all()
    for prompt, share in enumerate((0.6, 0.3)):
        values = below[torch.from_numpy(index == prompt)]
        error = values.std().item() / np.sqrt(len(values))
        assert abs(values.mean().item() - np.log(share)) < 4 * error
    # 1/F draws are needed, and doubling asks for at most about twice as many.
    needed = 20_000 * (1 / 0.6 + 1 / 0.3)
    assert needed < cdf.sampled_tokens / 2 < 2.5 * needed


def test_fresh_draws_follow_from_the_seed_and_differ_from_call_to_call():
    asked = np.zeros(50, int), np.full(50, 0.4), np.full(50, -50.0)
    first, again, other = sampled(), sampled(), sampled(seed=1)
    before = look_up(first, *asked)[0]
    assert torch.equal(before, look_up(again, *asked)[0])
    assert not torch.equal(before, look_up(first, *asked)[0])
    assert not torch.equal(before, look_up(other, *asked)[0])
    lowest = look_up(sampled(max_draws=8), np.zeros(1, int), np.zeros(1), np.full(1, -50.0))[0]
    assert lowest.item() == pytest.approx(-sum(1 / k for k in range(1, 9)))

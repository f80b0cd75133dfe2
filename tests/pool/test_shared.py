"""What is learned over all prompts: ranks, limits, and the error that it saves."""

import numpy as np
import pytest
from scipy.special import ndtr

from vbon.errors import DataError
from vbon.pool import logf
from vbon.pool.shared import MIN_PROMPTS, fit_shared

QUANTILES = np.array([0.5, 0.9, 0.99])


def world(prompts=256, size=8, hidden=0.15, seed=0):
    """Normal rewards around a mean that the bare prompt tells up to a standard deviation."""
    rng = np.random.default_rng(seed)
    hint = rng.normal(size=prompts)
    means = hint + hidden * rng.normal(size=prompts)
    pools = means[:, None] + rng.normal(size=(prompts, size))
    lengths = rng.integers(2, 9, size=prompts).astype(float)
    return pools, hint, lengths, rng.normal(size=(prompts, 4)), means


def rows(at):
    """Numbers of prompts that broadcast with a row of rewards for each."""
    return np.arange(len(at))[:, None]


def errors(prior, pools, means):
    """Error of log F at each prompt's true quantiles."""
    at = means[:, None] + np.array([0.0, 1.2815515655446004, 2.3263478740408408])
    shares = prior.share_below(rows(at), at)
    found = logf.estimate(at, np.sort(pools, 1), "shared", prior=(shares, prior.worth))
    return found - np.log(QUANTILES)


def test_eight_shared_draws_beat_add1_with_four_times_as_many():
    pools, *features, means = world(size=32)
    prior = fit_shared(pools[:, :8], *features)
    found = np.sqrt((errors(prior, pools[:, :8], means) ** 2).mean(0))
    at = means[:, None] + np.array([0.0, 1.2815515655446004, 2.3263478740408408])
    plain = logf.estimate(at, np.sort(pools, 1)) - np.log(QUANTILES)
    assert (found < np.sqrt((plain**2).mean(0))).all()


def test_the_worth_falls_as_prompts_differ_more_than_their_features_tell():
    """A prior off by a normal error of variance h has F's variance worth about 1/h draws."""
    worth = [fit_shared(*world(size=32, hidden=h)[:4]).worth for h in (0.1, 0.4, 1.6)]
    assert worth[0] > 3 * worth[1] > 9 * worth[2]
    assert worth[2] < 10


def test_without_features_the_prior_is_the_marginal_distribution():
    pools, _, lengths, states, _ = world(hidden=0.5)
    rng = np.random.default_rng(1)
    prior = fit_shared(pools, rng.normal(size=256), lengths, states)
    at = np.tile(np.linspace(-2, 2, 5), (256, 1))
    spread = np.sqrt(1 + 1 + 0.25)  # of hint, hidden part and draw together
    np.testing.assert_allclose(
        prior.share_below(rows(at), at).mean(0), ndtr(at[0] / spread), atol=0.05
    )


def test_states_count_where_they_tell_something_and_do_no_harm_where_not():
    pools, hint, lengths, states, means = world()
    blind = np.random.default_rng(2).normal(size=256)
    told = fit_shared(pools, blind, lengths, np.column_stack((states, hint)))
    alone = fit_shared(pools, blind, lengths, states)
    gain, loss = (np.mean(errors(prior, pools, means)[:, 0] ** 2) for prior in (told, alone))
    assert gain < 0.3 * loss
    known = [fit_shared(pools, hint, lengths, part) for part in (states, states * 0)]
    noisy, plain = (np.mean(errors(prior, pools, means)[:, 0] ** 2) for prior in known)
    assert noisy < 1.1 * plain


@pytest.mark.parametrize("transform", [np.exp, lambda r: r**3, lambda r: 7 * r - 2])
def test_a_monotone_map_of_all_rewards_changes_nothing(transform):
    pools, hint, lengths, states, _ = world(prompts=32)
    at = np.random.default_rng(3).normal(size=(32, 5))
    before = fit_shared(pools, hint, lengths, states)
    after = fit_shared(transform(pools), transform(hint), lengths, states)
    assert before.worth == after.worth
    shares = before.share_below(rows(at), at), after.share_below(rows(at), transform(at))
    assert shares[0].tobytes() == shares[1].tobytes()


def test_shares_rise_with_the_reward_and_stay_inside():
    pools, hint, lengths, states, _ = world(prompts=40)
    prior = fit_shared(pools.round(1), hint.round(1), lengths, states)  # with many ties
    assert (np.diff(prior.shares, axis=1) >= 0).all()
    assert prior.shares.min() > 0
    assert prior.shares.max() < 1
    assert prior.share_below(np.arange(40), np.full(40, -1e9)).max() < 0.1
    assert (np.diff(prior.knots) > 0).all()


def test_equal_lengths_and_constant_states_are_no_obstacle():
    pools, hint, _, _, means = world()
    prior = fit_shared(pools, hint, np.full(256, 3.0), np.ones((256, 2)))
    assert np.sqrt(np.mean(errors(prior, pools, means)[:, 1] ** 2)) < 0.08


def test_two_prompts_alike_in_all_but_one_length_do_not_blow_up():
    pools, hint, lengths, states, _ = world(prompts=MIN_PROMPTS)
    lengths[:] = 2.0
    lengths[0] = 50.0  # decides a weight of its own
    assert np.isfinite(fit_shared(pools, hint, lengths, states).shares).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "7 prompts with 8 draws"),
        ({"pools": np.zeros((256, 1))}, "256 prompts with 1 draws"),
        ({"pools": np.full((256, 8), np.nan)}, "reward: not finite"),
        ({"states": np.full((256, 4), np.inf)}, "states: not finite"),
        ({"prompt_rewards": np.full(256, np.nan)}, "prompt reward: not finite"),
    ],
)
def test_bad_input_is_named(change, message):
    pools, hint, lengths, states, _ = world(prompts=256 if change else MIN_PROMPTS - 1)
    given = {"pools": pools, "prompt_rewards": hint, "prompt_lengths": lengths, "states": states}
    with pytest.raises(DataError, match=message):
        fit_shared(**(given | change))

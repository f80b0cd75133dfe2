"""Warm start: weights of stored draws against exact optima, their choice, and the fit to them."""

import dataclasses

import numpy as np
import pytest
import torch
from support import settings, until_converged

from vbon.errors import ArtifactError
from vbon.methods.ppo import PPO
from vbon.methods.vbon import VBoN
from vbon.methods.vbon_l1 import VBoNL1
from vbon.objectives import oracle
from vbon.training.stored import StoredDraws
from vbon.training.trainer import Diverged

METHODS = [PPO(kl_coef=0.7), VBoN(n=4)]


def stored_draws(language, draws, cdf=None, seed=0):
    table = language.draws(draws, seed)
    rewards = table.pop("reward")
    scores = table[["prompt_id", "draw"]].assign(reward=rewards)
    cdf = language.cdf if cdf is None else cdf
    return StoredDraws.from_tables(table, scores, language.prompts, draws, cdf)


def best(language, prompt, method):
    problem = language.log_ref[prompt].numpy(), language.rewards[prompt]
    return oracle.optimum(method.optimum, *problem, **method.optimum_settings())


@pytest.mark.parametrize("method", METHODS)
def test_weights_are_those_of_the_exact_optimum(language, method):
    stored = stored_draws(language, 50)
    names = list(map(tuple, language.responses))
    for prompt, log_weights in enumerate(stored.log_weights(method)):
        rows = stored.prompt_index == prompt
        lengths, ids = stored.lengths[rows].tolist(), stored.response_ids[rows].tolist()
        strings = [names.index(tuple(row[:n])) for row, n in zip(ids, lengths, strict=True)]
        ratio = (best(language, prompt, method) - language.log_ref[prompt].numpy())[strings]
        expected = ratio - np.logaddexp.reduce(ratio)
        assert log_weights.numpy() == pytest.approx(expected, abs=1e-9)


def test_draws_are_chosen_as_often_as_their_weights_say(language):
    stored, count, total = stored_draws(language, 40), 8, 4000
    log_weights = stored.log_weights(VBoN(n=4))
    weights = log_weights.exp().flatten() * count
    mean = torch.zeros_like(weights)
    for seed in range(total):
        times = torch.bincount(stored.choose(log_weights, count, seed), minlength=len(weights))
        assert (times >= weights.floor() - 1e-9).all()
        assert (times <= (weights + 1e-9).ceil()).all()
        mean += times / total
    share = weights - weights.floor()
    error = (share * (1 - share) / total).sqrt()  # of the mean of a Bernoulli variable
    assert (mean - weights).abs() == pytest.approx(0, abs=4 * error.max().item() + 1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_the_fit_alone_reaches_the_optimum(language, method):
    stored = stored_draws(language, 20_000)
    chosen = settings(
        iterations=1, learning_rate=1e-9, warm_start=10_000, warm_start_batch=500,
        warm_start_rate=0.2,
    )  # fmt: skip
    policy, _ = language.train(method, chosen, stored=stored)
    for prompt, ours in enumerate(language.log_probs(policy)):
        optimum = best(language, prompt, method)
        assert oracle.total_variation(language.log_ref[prompt].numpy(), optimum) > 0.25
        # 10,000 responses of some 40 strings: an expected error of about 0.02
        assert oracle.total_variation(ours.numpy(), optimum) < 0.06


def test_the_fit_counts_its_updates_and_samples_nothing(language):
    stored = stored_draws(language, 20)
    trainer = language.trainer(
        VBoN(n=4), settings(warm_start=12, warm_start_batch=8), stored=stored
    )
    plain = language.trainer(VBoN(n=4), settings())
    for each in (trainer, plain):
        list(each)
    assert trainer.updates == plain.updates + 2 * 12 // 8
    assert trainer.episodes == plain.episodes


def test_a_tilt_that_is_no_penalty_on_the_reference_is_the_method_s_own(language):
    method = VBoNL1(n=2)
    stored = stored_draws(language, 30)
    expected = method.reward(stored.scored) / method.kl_coef
    assert not torch.allclose(method.log_tilt(stored.scored), expected)


@pytest.mark.parametrize("lost", ["samples", "rewards"])
def test_a_missing_draw_is_named(language, lost):
    table = language.draws(5)
    tables = {
        "samples": table.drop(columns="reward"),
        "rewards": table[["prompt_id", "draw", "reward"]],
    }
    tables[lost] = tables[lost].drop(index=3)
    with pytest.raises(ArtifactError, match="draw 3 of prompt short or its reward is missing"):
        StoredDraws.from_tables(*tables.values(), language.prompts, 5, None)


def test_a_reward_that_is_no_number_diverges(language):
    stored = stored_draws(language, 20)
    log_prob_ref = torch.full_like(stored.scored.log_prob_ref, torch.nan)
    bad = dataclasses.replace(stored.scored, reward=log_prob_ref)
    bad = dataclasses.replace(stored, scored=bad)
    with pytest.raises(Diverged, match="warm start"):
        language.train(PPO(kl_coef=1), settings(warm_start=4), stored=bad)


@pytest.mark.parametrize("method", METHODS)
def test_with_a_floor_training_reaches_the_floored_optimum(language, method):
    """The optimum of the raised rewards, normalised reference times max(ratio, exp(-floor))."""
    floor = 0.5
    policy, _ = language.train(
        method, until_converged(tilt_floor=floor), stored=stored_draws(language, 20_000)
    )
    for prompt, ours in enumerate(language.log_probs(policy)):
        log_ref, optimum = language.log_ref[prompt].numpy(), best(language, prompt, method)
        floored = log_ref + np.maximum(optimum - log_ref, -floor)
        floored -= np.logaddexp.reduce(floored)
        assert oracle.total_variation(floored, optimum) > 0.08
        assert oracle.total_variation(floored, optimum) < np.exp(-floor)
        assert oracle.total_variation(ours.numpy(), floored) < 0.04


def test_the_normaliser_is_that_of_the_exact_optimum(language):
    """Mean of 20,000 weights whose exact mean is 1: within four standard errors."""
    method, count = VBoN(n=4), 20_000
    stored = stored_draws(language, count)
    for prompt, estimate in enumerate(stored.log_normaliser(method)):
        log_ref = language.log_ref[prompt].numpy()
        ratio = np.exp(best(language, prompt, method) - log_ref)
        error = np.sqrt(((ratio - 1) ** 2 * np.exp(log_ref)).sum() / count)
        assert abs(estimate.exp().item() - 1) < 4 * error

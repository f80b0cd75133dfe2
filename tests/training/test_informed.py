"""Informed start: ranks of rewards, the fit to them, and runs that begin there."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.stats import rankdata
from support import make_gpt2

from vbon.batches import Prompts, Scored
from vbon.models.language_model import token_log_probs
from vbon.training.informed import InformedSettings, InformedTrainer, rank_levels
from vbon.training.stored import StoredDraws
from vbon.training.trainer import Environment

SETTINGS = InformedSettings(
    draws=400, levels=4, batch_size=24, learning_rate=5e-3, warmup=0.05, reference_weight=4.0,
    adam_beta2=0.95, weight_decay=0.0, max_grad_norm=1.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def environment():
    """A GPT-2, and draws whose reward is the share of tokens with high ids."""
    prompts = Prompts.from_lists([[5, 6, 7], [8], [9, 10, 11, 12]], ["a", "b", "c"])
    reference = make_gpt2(scale=0.15).requires_grad_(False)
    plain = Environment(prompts, reference, None, None, 2, 5)
    rollouts = plain.sample(reference, prompts, 400, 5)
    lengths = rollouts.response_mask.sum(1)
    high = ((rollouts.response_ids >= 10) & rollouts.response_mask).double().sum(1)
    unused = torch.full_like(high, torch.nan)
    scored = Scored(high / lengths, unused, unused, rollouts.log_prob)
    stored = StoredDraws(rollouts.prompt_index, rollouts.response_ids, lengths, scored, 400)
    return dataclasses.replace(plain, stored=stored)


def trained(environment, seed=0, **changes):
    policy = make_gpt2(scale=0.15)
    trainer = InformedTrainer(policy, environment, dataclasses.replace(SETTINGS, **changes), seed)
    return policy, trainer, trainer.train()


@pytest.fixture(scope="module")
def start(environment):
    """Policy, trainer and metrics of :data:`SETTINGS`, which tests leave as they are."""
    return trained(environment)


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_levels_are_shares_of_lower_rewards_and_ignore_the_scale():
    rewards = torch.randn(3, 60, dtype=torch.float64).round(decimals=1)
    levels = rank_levels(rewards, 7)
    ranks = np.stack([rankdata(row, "min") for row in rewards.numpy()]) - 1
    assert levels.tolist() == (ranks * 7 // 60).astype(int).tolist()
    assert torch.equal(levels, rank_levels(rewards.exp() * 3, 7))


def test_states_predict_ranks_better_than_their_shares_and_the_reference_is_kept(
    environment, start
):
    policy, trainer, metrics = start
    stored = environment.stored
    repeated = trainer._levels.repeat_interleave(stored.lengths)
    shares = torch.bincount(repeated, minlength=4).double() / len(repeated)
    entropy = -(shares * shares.clamp_min(1e-12).log()).sum().item()
    assert metrics["rank_loss"] < entropy - 0.05
    assert 0 < metrics["kl_from_reference"] < 0.05
    assert trainer.updates == math.ceil(3 * 400 / 24)
    assert not torch.equal(weights(policy), weights(environment.reference))


def test_the_divergence_is_that_of_the_vocabulary(environment):
    """Its mean is that of sampled log-ratios on draws of the reference."""
    policy, trainer, _ = trained(environment, reference_weight=0.0)
    stored, rows = environment.stored, torch.arange(1200)
    with torch.no_grad():
        _, divergence = trainer._losses(rows)
    mask = torch.arange(stored.response_ids.shape[1]) < stored.lengths[:, None]
    prompts = environment.prompts.select(stored.prompt_index)
    parts = prompts, stored.response_ids, mask
    with torch.no_grad():
        ours = token_log_probs(policy, *parts)
        theirs = token_log_probs(environment.reference, *parts)
    ratio = (theirs - ours)[mask].double()
    assert divergence.item() == pytest.approx(
        ratio.mean().item(), abs=4 * ratio.std().item() / len(ratio) ** 0.5
    )
    assert divergence > 0.01


def test_a_larger_weight_keeps_the_reference_better(environment):
    near, far = (trained(environment, reference_weight=w)[2] for w in (30.0, 0.3))
    assert near["kl_from_reference"] < far["kl_from_reference"] / 2


CHANGED = {
    "levels": 3,
    "batch_size": 48,
    "learning_rate": 1e-3,
    "warmup": 0.5,
    "reference_weight": 1.0,
    "adam_beta2": 0.9,
    "weight_decay": 0.5,
    "max_grad_norm": 0.01,
}


@pytest.mark.parametrize("name", CHANGED)
def test_every_setting_changes_the_start(environment, start, name):
    changed = trained(environment, **{name: CHANGED[name]})[0]
    assert not torch.equal(weights(start[0]), weights(changed))


def test_a_seed_repeats_the_start_and_another_changes_head_and_order(environment, start):
    again, other = (weights(trained(environment, seed)[0]) for seed in (0, 1))
    assert torch.equal(weights(start[0]), again)
    assert not torch.equal(again, other)

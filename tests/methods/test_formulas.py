"""Rewards and coefficients of each method against the paper's equations."""

import math

import pytest
import torch
from support import random_scored

from vbon.batches import Scored
from vbon.errors import ConfigError
from vbon.methods.best_of_n import BestOfN
from vbon.methods.ppo import PPO
from vbon.methods.qrpo import QRPO
from vbon.methods.reference import Reference
from vbon.methods.vbon import VBoN
from vbon.methods.vbon_l import VBoNL
from vbon.methods.vbon_l1 import VBoNL1
from vbon.methods.winrate import WinRate
from vbon.objectives.best_of_n import log_masses

SIZES = [1.5, 2, 4, 16, 512]


@pytest.mark.parametrize("n", SIZES)
def test_vbon_pays_the_log_ratio_over_n_minus_one(n):
    """S by its definition, [(F + q)^n - F^n] / q, in plain float64."""
    scored, method = random_scored(), VBoN(n=n)
    below, level = scored.log_below.exp(), scored.log_level.exp()
    ratio = (((below + level) ** n - below**n) / level).log()
    expected = ratio / (n - 1)
    usable = ratio.isfinite()
    assert usable.float().mean() > 0.3
    ours = method.reward(scored)
    torch.testing.assert_close(ours[usable], expected[usable], rtol=1e-4, atol=1e-9)
    assert method.kl_coef == 1 / (n - 1)


@pytest.mark.parametrize("n", SIZES)
def test_the_bound_pays_log_f(n):
    scored, method = random_scored(), VBoNL(n=n)
    assert torch.equal(method.reward(scored), scored.log_below)
    assert method.kl_coef == 1 / (n - 1)
    assert VBoNL(kl_coef=method.kl_coef).n == pytest.approx(n)


def test_the_bound_is_finite_for_the_lowest_string():
    scored = random_scored(batch=1)
    lowest = type(scored)(
        scored.reward, torch.tensor([-math.inf]).double(), scored.log_level, scored.log_prob_ref
    )
    for method in (VBoNL(n=4), VBoNL1(n=4)):
        assert method.reward(lowest).item() == pytest.approx(-math.log(1e6 + 1))


@pytest.mark.parametrize("n", [2, 3, 4])
def test_the_looser_bound_is_theorem_three_over_gamma(n):
    scored, method = random_scored(), VBoNL1(n=n)
    alpha, beta, gamma = (n + 2) * (n - 1) / 2, n * (n + 1) / 2, n * (n - 1) / 2
    ours, theirs = -torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0)).double()
    mask = torch.ones(3, 4, dtype=torch.bool)
    # gamma log F - alpha H - beta KL of one response: H is -log pi, KL is log pi - log ref.
    total = gamma * method.reward(scored)[:3] + gamma * method.token_rewards(
        ours, theirs, mask
    ).sum(1)
    by_theorem = (
        gamma * scored.log_below[:3] + alpha * ours.sum(1) - beta * (ours.sum(1) - theirs.sum(1))
    )
    torch.testing.assert_close(total, by_theorem)


def test_ppo_pays_the_reward_and_taxes_the_log_ratio():
    scored, method = random_scored(), PPO(kl_coef=0.3)
    assert torch.equal(method.reward(scored), scored.reward)
    ours, theirs = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.5, -1.0]])
    mask = torch.tensor([[True, True]])
    rewards = method.token_rewards(ours, theirs, mask)
    torch.testing.assert_close(rewards, torch.tensor([[-0.15, 0.3]]))


def test_the_win_rate_as_a_reward_averages_one_half_over_the_reference():
    log_ref = torch.tensor([0.2, 0.3, 0.1, 0.4], dtype=torch.float64).log()
    rewards = torch.tensor([0, 1, 1, 2], dtype=torch.float64)
    scored = Scored(rewards, *log_masses(rewards, log_ref), log_ref)
    ours = WinRate(kl_coef=0.3).reward(scored)
    torch.testing.assert_close(ours, torch.tensor([0.1, 0.4, 0.4, 0.8], dtype=torch.float64))
    assert (ours @ log_ref.exp()).item() == pytest.approx(0.5)


@pytest.mark.parametrize("cls", [VBoN, VBoNL, VBoNL1, BestOfN, QRPO])
def test_one_draw_is_the_reference(cls):
    assert cls(n=1).n == 1
    if cls.trained:
        assert cls(n=1).is_reference
        assert not cls(n=1.01).is_reference
        assert cls(n=1).kl_coef == math.inf
    assert Reference().is_reference


def test_best_of_n_takes_whole_numbers_only():
    assert BestOfN(n=4.0).n == 4
    with pytest.raises(ConfigError, match=r"methods\.best_of_n\.n: 2\.5 .* give a whole number"):
        BestOfN(n=2.5)


def test_the_bound_takes_one_of_its_two_settings():
    for given in ({}, {"n": 4, "kl_coef": 0.5}):
        with pytest.raises(ConfigError, match="exactly one of n and kl_coef"):
            VBoNL(**given)


def test_best_of_n_takes_the_first_of_equals():
    rewards = torch.tensor([[1.0, 1.0, 0.0, 2.0, 2.0, 2.0, 9.0]], dtype=torch.float64)
    assert BestOfN(n=3).choose(rewards, 5).tolist() == [[0, 3]]
    assert BestOfN(n=3).choose(rewards, 1).tolist() == [[0]]
    assert Reference().choose(rewards, 3).tolist() == [[0, 1, 2]]
    assert Reference().choose(rewards, 99).shape == (1, 7)

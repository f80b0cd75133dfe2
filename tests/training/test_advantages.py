"""Baselines: what they subtract must not depend on what they judge, and must reduce the noise."""

import dataclasses

import pytest
import torch
from support import Language, settings, until_converged

from vbon.batches import Rollouts
from vbon.methods.ppo import PPO
from vbon.methods.rloo import RLOO
from vbon.methods.vbon import VBoN
from vbon.objectives import oracle
from vbon.training.advantages import LeaveOneOut, ValueBaseline
from vbon.training.online import OnlineTrainer


def rollouts(values, mask):
    zeros = torch.zeros(mask.shape)
    rows = torch.arange(len(mask))
    return Rollouts(rows, zeros.long(), mask, mask[:, -1], zeros, values)


def value_baseline(whole_response, lam=1.0):
    return ValueBaseline(torch.nn.Identity(), whole_response, 1.0, lam, None)


@pytest.fixture
def batch(generator):
    mask = torch.arange(4) < torch.tensor([[4], [2], [1], [3], [4], [4]])
    rewards, values = torch.randn(2, 6, 4, generator=generator)
    return rewards * mask, rollouts(values * mask, mask)


def test_lambda_one_compares_the_whole_return_with_the_head(batch):
    rewards, drawn = batch
    found, targets = value_baseline(True).advantages(rewards, drawn)
    whole = rewards.sum(1, keepdim=True).expand_as(rewards)
    mask = drawn.response_mask
    torch.testing.assert_close(found[mask], (whole - drawn.values)[mask])
    torch.testing.assert_close(targets[mask], whole[mask])


def test_both_targets_are_one_method_with_shifted_heads(batch):
    """A head that predicts the whole response equals one that is told what is paid already."""
    rewards, drawn = batch
    so_far = rewards.cumsum(1) - rewards
    shifted = dataclasses.replace(drawn, values=drawn.values + so_far)
    for lam in (0.0, 0.7, 1.0):
        usual, _ = value_baseline(False, lam).advantages(rewards, drawn)
        whole, _ = value_baseline(True, lam).advantages(rewards, shifted)
        torch.testing.assert_close(whole, usual)


@pytest.mark.slow
def test_at_the_optimum_the_whole_response_leaves_no_noise():
    """With the optimal policy, reward minus price is one number for every response of a prompt."""
    language, method = Language(), VBoN(n=3.0)
    policy, _ = language.train(method, until_converged())
    spreads = {}
    for target in ("to_go", "response"):
        chosen = settings(value_target=target, lam=1.0, rollouts=512, draws_per_prompt=256)
        trainer = OnlineTrainer(policy, method, language.environment(), chosen, 1)
        drawn, _ = trainer._collect(0)
        spreads[target] = drawn.advantages.new_tensor(
            [part[mask].std() for part, mask in zip(
                drawn.targets.view(2, 256, -1), drawn.rollouts.response_mask.view(2, 256, -1),
                strict=True,
            )]
        ).max()  # fmt: skip
    assert spreads["response"] < 0.1 * spreads["to_go"]


def test_leave_one_out_is_the_mean_of_the_others(batch):
    rewards, drawn = batch
    found, targets = LeaveOneOut(3).advantages(rewards, dataclasses.replace(drawn, values=None))
    returns = rewards.sum(1).tolist()
    for row in range(6):
        others = [returns[i] for i in range(row // 3 * 3, row // 3 * 3 + 3) if i != row]
        length = int(drawn.response_mask[row].sum())
        expected = returns[row] - sum(others) / 2
        torch.testing.assert_close(found[row, :length], torch.full((length,), expected))
        assert not found[row, length:].any()
        torch.testing.assert_close(targets[row, :length], torch.full((length,), returns[row]))


def test_leave_one_out_learns_no_head():
    language, chosen = Language(), settings(whiten="none")
    trainer = OnlineTrainer(language.policy(), RLOO(kl_coef=0.5), language.environment(), chosen, 0)
    rows = list(trainer)
    assert trainer.baseline.head is None
    assert all(row["value_loss"] == 0 for row in rows)


def test_a_table_has_values_of_its_own_in_either_case():
    """What it is looked up by has no gradient, so a second table changes no bit."""
    tables = [
        Language().train(PPO(kl_coef=0.5), settings(value_model=value_model))[0].table
        for value_model in ("shared", "separate")
    ]
    assert torch.equal(*tables)


def test_a_method_chooses_its_baseline():
    language = Language()
    for value_model in ("shared", "separate"):
        chosen = settings(value_model=value_model)
        for method, kind in ((RLOO(kl_coef=0.5), LeaveOneOut), (PPO(kl_coef=0.5), ValueBaseline)):
            parts = language.policy(), method, language.environment(), chosen, 0
            baseline = OnlineTrainer(*parts).baseline
            assert isinstance(baseline, kind)
            assert (baseline.model is None) == (kind is LeaveOneOut or value_model == "shared")
    trained = OnlineTrainer(*parts).baseline.model
    assert all(part.requires_grad for part in trained.parameters())


@pytest.mark.parametrize("method", [PPO(kl_coef=0.5), VBoN(n=3.0)], ids=lambda method: method.name)
def test_the_whole_response_as_target_reaches_the_optimum(method):
    language = Language()
    policy, _ = language.train(method, until_converged(value_target="response"))
    for ours, log_ref, rewards in zip(
        language.log_probs(policy), language.log_ref, language.rewards, strict=True
    ):
        known = {"n": getattr(method, "n", None), "kl_coef": method.kl_coef}
        known = {name: value for name, value in known.items() if value is not None}
        best = oracle.optimum(method.optimum, log_ref.numpy(), rewards, **known)
        assert oracle.total_variation(ours.numpy(), best) < 0.05

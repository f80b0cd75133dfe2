"""Advantages against sums written out, losses against hand values, masks against indexing."""

import pytest
import torch

from vbon.objectives.policy_gradient import (
    clipped_policy_loss,
    clipped_value_loss,
    generalised_advantages,
    masked_mean,
    whiten,
)


def batch(seed=0, rows=6, tokens=7):
    """Random token rewards and values with masks that are prefixes of every length."""
    generator = torch.Generator().manual_seed(seed)
    rewards, values = torch.randn(2, rows, tokens, dtype=torch.float64, generator=generator)
    lengths = torch.randint(1, tokens + 1, (rows,), generator=generator)
    return rewards, values, torch.arange(tokens) < lengths[:, None]


def summed_advantages(rewards, values, gamma, lam):
    """One response's advantages as the double sum of the definition."""
    length = len(rewards)
    following = [*values[1:], 0.0]
    delta = [rewards[t] + gamma * following[t] - values[t] for t in range(length)]
    return [
        sum((gamma * lam) ** (k - t) * delta[k] for k in range(t, length)) for t in range(length)
    ]


@pytest.mark.parametrize("gamma", [1.0, 0.9])
@pytest.mark.parametrize("lam", [0.0, 0.95, 1.0])
def test_advantages_are_the_sums_of_their_definition(gamma, lam):
    rewards, values, mask = batch()
    advantages = generalised_advantages(rewards, values, mask, gamma, lam)
    for row, length in enumerate(mask.sum(1).tolist()):
        expected = summed_advantages(
            rewards[row, :length].tolist(), values[row, :length].tolist(), gamma, lam
        )
        assert advantages[row, :length].tolist() == pytest.approx(expected, abs=1e-12)
        assert not advantages[row, length:].any()


def test_at_lambda_one_advantages_are_returns_minus_values():
    rewards, values, mask = batch(1)
    rewards_to_go = torch.where(mask, rewards, 0.0).flip(1).cumsum(1).flip(1)
    advantages = generalised_advantages(rewards, values, mask, lam=1.0)
    expected = (rewards_to_go - values) * mask
    torch.testing.assert_close(advantages, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("junk", [0.0, 1e6, float("nan"), float("inf")])
def test_padding_and_what_stands_in_it_change_no_advantage(junk):
    rewards, values, mask = batch(2)
    expected = generalised_advantages(rewards, values, mask)
    wide = [torch.nn.functional.pad(part, (0, 4)) for part in (rewards, values, mask)]
    wide[0][~wide[2]], wide[1][~wide[2]] = junk, junk
    advantages = generalised_advantages(*wide)
    assert torch.equal(advantages[:, :-4], expected)
    assert not advantages[:, -4:].any()


@pytest.mark.parametrize("junk", [0.0, 1e6, float("nan")])
def test_masked_mean_is_the_mean_of_the_masked(junk):
    values, _, mask = batch(3)
    mean = masked_mean(torch.where(mask, values, junk), mask)
    assert mean.item() == pytest.approx(values[mask].mean().item(), abs=1e-15)


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e3])
def test_whitened_values_have_mean_zero_and_variance_one(scale):
    values, _, mask = batch(4)
    white = whiten(torch.where(mask, 5 + scale * values, float("nan")), mask)
    assert white[mask].mean().item() == pytest.approx(0, abs=1e-10)
    assert white[mask].var(correction=0).item() == pytest.approx(1, abs=2e-4)  # epsilon / variance
    assert not white[~mask].any()
    order = values[mask].argsort()
    assert (white[mask][order].diff() > 0).all()


def test_equal_values_are_whitened_to_zero():
    ones = torch.ones(3, 4)
    assert not whiten(ones, ones.bool()).any()


POLICY_CASES = [
    # importance, advantage, loss, clipped
    (1.0, 2.0, -2.0, False),
    (1.1, 2.0, -2.2, False),
    (1.5, 2.0, -2.4, True),  # a gain beyond the limit counts no further
    (0.5, 2.0, -1.0, False),  # lost probability of a good token is repaired in full
    (0.5, -2.0, 1.6, True),
    (1.5, -2.0, 3.0, False),
    (1.5, 0.0, 0.0, False),
]


@pytest.mark.parametrize(("importance", "advantage", "expected", "clipped"), POLICY_CASES)
def test_clipped_policy_loss_by_hand(importance, advantage, expected, clipped):
    log_importance = torch.tensor([importance]).double().log().requires_grad_()
    losses, share = clipped_policy_loss(log_importance, torch.tensor([advantage]).double(), 0.2)
    assert losses.item() == pytest.approx(expected)
    assert share.item() == clipped
    losses.sum().backward()
    slope = 0.0 if clipped else -advantage * importance
    assert log_importance.grad.item() == pytest.approx(slope)


def test_share_clipped_is_over_all_tokens():
    importance, advantage, _, clipped = torch.tensor(POLICY_CASES).unbind(1)
    _, share = clipped_policy_loss(importance.log(), advantage, 0.2)
    assert share.item() == pytest.approx(clipped.mean().item())


VALUE_CASES = [
    # value, old value, return, loss at clip 0.2, gradient
    (1.1, 1.0, 3.0, 0.5 * 1.9**2, -1.9),
    (2.0, 1.0, 3.0, 0.5 * 1.8**2, 0.0),  # towards the return, but too far from the old value
    (0.0, 1.0, 3.0, 0.5 * 3.0**2, -3.0),  # away from the return: the plain error is larger
    (2.0, 1.0, 1.0, 0.5 * 1.0**2, 1.0),
]


@pytest.mark.parametrize(("value", "old", "target", "expected", "slope"), VALUE_CASES)
def test_clipped_value_loss_by_hand(value, old, target, expected, slope):
    values = torch.tensor([value], dtype=torch.float64, requires_grad=True)
    others = torch.tensor([[old], [target]], dtype=torch.float64)
    losses = clipped_value_loss(values, *others, clip=0.2)
    assert losses.item() == pytest.approx(expected)
    losses.sum().backward()
    assert values.grad.item() == pytest.approx(slope)
    plain = clipped_value_loss(values.detach(), *others, clip=None)
    assert plain.item() == pytest.approx(0.5 * (value - target) ** 2)

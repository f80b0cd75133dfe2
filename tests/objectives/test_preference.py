"""Preference losses: hand values, gradients, extreme margins, and BoNBoN's constants."""

import math

import mpmath
import numpy as np
import pytest
import torch

from vbon.errors import ConfigError
from vbon.objectives import oracle
from vbon.objectives.best_of_n import log_bon_ratio
from vbon.objectives.preference import (
    bonbon_alpha,
    bonbon_beta,
    bonbon_loss,
    bonbon_margin,
    dpo_loss,
    ipo_loss,
)


def test_hand_values():
    assert dpo_loss(0.0, 0.0, 0.1) == pytest.approx(math.log(2), abs=1e-15)
    assert dpo_loss(3.0, 1.0, 0.5) == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-15)
    assert ipo_loss(3.0, 1.0, 0.5) == 1.0  # margin 1, gap 2
    assert ipo_loss(3.0, 1.0, math.inf) == 4.0
    assert bonbon_loss(-10.0, 0.0, 0.0, 2, 0.5) == 0.5 * 10 + 0.5 * 1**2
    assert bonbon_loss(-10.0, 5.5, 0.0, 4, 0.5, "sigmoid") == pytest.approx(
        5 + 0.5 * math.log(1 + math.exp(-0.5)), abs=1e-14
    )


@pytest.mark.parametrize("gap", [-1e6, -800.0, -30.0, 0.0, 30.0, 700.0])
def test_dpo_is_stable_at_any_margin(gap):
    with mpmath.workdps(400):
        exact = mpmath.log1p(mpmath.exp(-mpmath.mpf(gap)))
    assert dpo_loss(gap, 0.0, 1.0) == pytest.approx(float(exact), rel=1e-15, abs=0)
    ratio = torch.tensor(gap, dtype=torch.float64, requires_grad=True)
    dpo_loss(ratio, torch.zeros_like(ratio), 1.0).backward()
    assert ratio.grad.item() == pytest.approx(-1 / (1 + math.exp(min(gap, 709))), rel=1e-12)


@pytest.mark.parametrize("loss", ["ipo", "sigmoid"])
def test_gradients(loss):
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(5, generator=generator, dtype=torch.float64, requires_grad=True)
        for _ in range(3)
    ]
    assert torch.autograd.gradcheck(lambda *x: bonbon_loss(*x, 8, 0.3, loss), inputs)
    assert torch.autograd.gradcheck(lambda x, y: dpo_loss(x, y, 0.3), inputs[:2])
    losses = bonbon_loss(*inputs, 8, 0.3, loss)
    assert losses.shape == (5,)
    losses.sum().backward()
    assert torch.allclose(inputs[0].grad, torch.full((5,), -0.3).double())
    assert torch.allclose(inputs[1].grad, -inputs[2].grad)


@pytest.mark.parametrize("levels", [None, 3], ids=["distinct", "tied"])
def test_ipo_on_pairs_of_different_rewards_is_minimal_at_the_optimum_of_the_win_rate(levels):
    """The exact gradient over all pairs is 0 there, and not at the reference."""
    rng, beta = np.random.default_rng(0), 0.2
    log_ref = np.log(rng.dirichlet(np.full(8, 2.0)))
    rewards = rng.normal(size=8) if levels is None else rng.integers(0, levels, 8).astype(float)
    pairs = np.exp(log_ref[:, None] + log_ref) * (rewards[:, None] > rewards)
    sizes = []
    for policy in (oracle.optimum("win_rate", log_ref, rewards, kl_coef=beta), log_ref):
        ratio = torch.tensor(policy - log_ref, requires_grad=True)
        losses = ipo_loss(ratio[:, None].expand(8, 8), ratio.expand(8, 8), beta)
        (losses * torch.from_numpy(pairs)).sum().backward()
        sizes.append(ratio.grad.abs().max().item())
    assert sizes[0] < 1e-10 < 1e-2 < sizes[1]


def test_ipo_gradient_by_hand():
    chosen = torch.tensor([2.0], requires_grad=True)
    ipo_loss(chosen, torch.tensor([0.5]), 0.25).sum().backward()
    assert chosen.grad.item() == 2 * (1.5 - 2.0)


def test_losses_keep_dtype_and_kind():
    single = torch.zeros(2, dtype=torch.float32)
    assert dpo_loss(single, single, 0.1).dtype == torch.float32
    assert isinstance(dpo_loss(np.zeros(2), np.zeros(2), 0.1), np.ndarray)
    assert isinstance(ipo_loss(0, 1, 0.1), float)


@pytest.mark.parametrize(
    ("n", "margin"),
    [
        (1, 0),
        (2, 1),
        (3, 3),
        (4, 5.5),
        (8, 18.15),
        (512, 511 * math.fsum(1 / k for k in range(1, 512))),
    ],
)
def test_margin_is_a_harmonic_number(n, margin):
    assert bonbon_margin(n) == pytest.approx(margin, rel=1e-14, abs=0)
    assert bonbon_beta(n) == (pytest.approx(1 / (2 * margin), rel=1e-14) if margin else math.inf)


def test_beta_equals_the_released_value_at_eight():
    assert round(bonbon_beta(8), 10) == 0.0275482094


@pytest.mark.parametrize("n", [2, 3, 8])
def test_margin_is_what_best_of_n_has_on_average(n):
    """Mean log-ratio gap of best and worst under the reference, on a language of fine strings.

    The midpoint rule over quantiles stands in for continuous rewards.
    """
    cells = 200_000
    quantile = (np.arange(cells) + 0.5) / cells
    log_ratio = log_bon_ratio(np.log(quantile), -700.0, n)
    best, worst = n * quantile ** (n - 1), n * (1 - quantile) ** (n - 1)
    assert np.mean((best - worst) * log_ratio) == pytest.approx(bonbon_margin(n), rel=1e-3)


def test_alpha_balances_the_two_terms_at_the_reference():
    alpha = bonbon_alpha(8, mean_nll=120.0)
    start = float(ipo_loss(0.0, 0.0, bonbon_beta(8)))
    assert alpha * 120.0 == pytest.approx((1 - alpha) * start)
    assert bonbon_alpha(1, mean_nll=120.0) == 0


def test_one_draw_has_margin_zero():
    assert bonbon_loss(-7.0, 0.4, 0.4, 1, 0.25) == 0.25 * 7


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dpo_loss(0.0, 0.0, 0.0), "beta > 0, got 0.0"),
        (lambda: dpo_loss(0.0, 0.0, math.inf), "finite beta"),
        (lambda: ipo_loss(0.0, 0.0, math.nan), "beta > 0, got nan"),
        (lambda: bonbon_beta(0.5), "n >= 1"),
        (lambda: bonbon_alpha(2, 0.0), "mean_nll"),
        (lambda: bonbon_loss(0.0, 0.0, 0.0, 2, 1.5), r"\[0, 1\], got 1.5"),
        (lambda: bonbon_loss(0.0, 0.0, 0.0, 2, 0.5, "hinge"), "'hinge'; known: ipo, sigmoid"),
        (lambda: bonbon_loss(0.0, 0.0, 0.0, 1, 0.5, "sigmoid"), "finite beta"),
    ],
)
def test_impossible_settings_are_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()

"""KL estimators: exact means by enumerating a tiny autoregressive language, and their masks."""

import itertools
import math

import pytest
import torch

from vbon.objectives.kl import kl_full, kl_k3

VOCAB, LENGTH, END = 3, 3, 0


def enumerate_language(seed):
    """Every response of two random tables: tokens and masks, log-probs and full softmaxes.

    A response ends with token 0 or after three tokens; masked entries hold NaN and infinities.
    """
    generator = torch.Generator().manual_seed(seed)
    tables = [{}, {}]
    prefixes = [p for k in range(LENGTH) for p in itertools.product(range(1, VOCAB), repeat=k)]
    for table, prefix in itertools.product(tables, prefixes):
        logits = 2 * torch.randn(VOCAB, generator=generator, dtype=torch.float64)
        table[prefix] = torch.log_softmax(logits, 0)
    complete = [(*prefix, END) for prefix in prefixes]
    complete += list(itertools.product(range(1, VOCAB), repeat=LENGTH))
    mask = torch.zeros(len(complete), LENGTH, dtype=torch.bool)
    softmax = torch.full((2, len(complete), LENGTH, VOCAB), math.nan, dtype=torch.float64)
    softmax[1, ..., 0] = -math.inf
    chosen = torch.full((2, len(complete), LENGTH), math.nan, dtype=torch.float64)
    for row, response in enumerate(complete):
        for step, token in enumerate(response):
            mask[row, step] = True
            for model, table in enumerate(tables):
                softmax[model, row, step] = table[response[:step]]
                chosen[model, row, step] = table[response[:step]][token]
    log_probs = chosen.masked_fill(~mask, 0).sum(-1)
    return mask, chosen, softmax, log_probs


def kl_k1(log_probs, log_probs_ref, mask):
    """The plain estimator: the sum of log-ratios."""
    return (log_probs - log_probs_ref).masked_fill(~mask, 0).sum(-1)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_all_estimators_have_the_exact_kl_as_their_mean(seed):
    mask, chosen, softmax, log_probs = enumerate_language(seed)
    policy = log_probs[0].exp()
    assert policy.sum() == pytest.approx(1, abs=1e-14)
    exact = float(policy @ (log_probs[0] - log_probs[1]))
    k1, k3, full = kl_k1(*chosen, mask), kl_k3(*chosen, mask), kl_full(*softmax, mask)
    assert exact > 0.1
    for values in (k1, k3, full):
        assert float(policy @ values) == pytest.approx(exact, abs=1e-13)
    assert (k3 >= 0).all()
    assert (full >= 0).all()
    assert (k1 < 0).any()


def test_gradient_of_the_full_kl_is_that_of_its_kept_entries():
    """Masked NaN and infinities reach no gradient."""
    mask, chosen, softmax, _ = enumerate_language(3)
    for function, inputs in ((kl_full, softmax), (kl_k3, chosen)):
        left, right = inputs[0].clone().requires_grad_(), inputs[1].clone().requires_grad_()
        function(left, right, mask).sum().backward()
        for grad in (left.grad, right.grad):
            assert torch.isfinite(grad).all()
            assert (grad[~mask] == 0).all()
            assert (grad[mask] != 0).any()


def test_masked_equals_cut():
    generator = torch.Generator().manual_seed(1)
    policy, ref = -torch.rand(2, 4, 7, generator=generator).double()
    mask = (torch.arange(7) < 5).expand(4, 7)
    kept = torch.ones(4, 5, dtype=torch.bool)
    whole, cut = kl_k3(policy, ref, mask), kl_k3(policy[:, :5], ref[:, :5], kept)
    torch.testing.assert_close(whole, cut, rtol=0, atol=1e-15)


def test_tokens_that_the_policy_never_draws_count_zero_and_missing_support_is_infinite():
    mask = torch.ones(1, 1, dtype=torch.bool)
    banned = torch.tensor([[[-math.inf, 0.0]]])
    half = torch.full((1, 1, 2), 0.5).log()
    assert kl_full(banned, half, mask).item() == pytest.approx(math.log(2))
    assert kl_full(banned, banned, mask).item() == 0
    assert kl_full(half, banned, mask).item() == math.inf


def test_a_response_without_tokens_is_zero():
    mask = torch.zeros(2, 3, dtype=torch.bool)
    noise = torch.full((2, 3), math.nan)
    assert kl_k3(noise, noise, mask).tolist() == [0, 0]

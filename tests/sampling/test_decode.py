"""The sampler against exact probabilities: of single tokens, and of whole strings."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency
from support import Language, assert_ends, make_gpt2, make_table, p_value

from vbon.batches import Prompts
from vbon.errors import ConfigError, DataError
from vbon.models.language_model import hidden_states, make_value_head, pack, token_log_probs
from vbon.sampling import decode as sampling
from vbon.sampling.decode import inverse_cdf, sample

LEVEL = 1e-4  # of every chi-square test here: at fixed seeds a wrong sampler fails, luck does not
VOCABULARIES = [1, 2, 7, 1024, 1025, 1500, 5000]  # searched in two levels from 1025 on


def sparse_weights(rows, vocab, generator):
    """Unnormalised weights over several orders of magnitude, most of them zero."""
    weights = torch.rand(rows, vocab, generator=generator) ** 4
    weights *= torch.rand(rows, vocab, generator=generator) < 0.3
    weights[:, vocab // 2] += 0.01
    return weights


@pytest.mark.parametrize("vocab", VOCABULARIES)
def test_inverse_cdf_hits_each_token_as_often_as_its_probability(vocab, generator):
    weights = sparse_weights(1, vocab, generator)
    draws = 20_000
    uniform = torch.rand(draws, 1, generator=generator)
    tokens = inverse_cdf(weights.expand(draws, -1), uniform)
    probabilities = (weights[0].double() / weights.double().sum()).numpy()
    counts = np.bincount(tokens.numpy(), minlength=vocab)
    assert not counts[probabilities == 0].any()
    assert vocab == 1 or p_value(counts, probabilities) > LEVEL


@pytest.mark.parametrize("vocab", VOCABULARIES)
def test_inverse_cdf_is_the_inverse_of_the_cdf(vocab, generator):
    weights = sparse_weights(200, vocab, generator)
    uniform = torch.rand(200, 1, generator=generator)
    tokens = inverse_cdf(weights, uniform)[:, None]
    cumulative = weights.double().cumsum(1)
    total = cumulative[:, -1:]
    upto = cumulative.gather(1, tokens) / total
    below = upto - weights.double().gather(1, tokens) / total
    slack = 1e-6  # of float32 sums
    assert (below - slack <= uniform).all()
    assert (uniform <= upto + slack).all()


@pytest.mark.parametrize("vocab", VOCABULARIES)
@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-24, 1.0])
def test_tokens_of_probability_zero_are_never_drawn(vocab, uniform, generator):
    weights = sparse_weights(500, vocab, generator)
    weights[:, -1] = 0.0 if vocab > 2 else weights[:, -1]
    tokens = inverse_cdf(weights, torch.full((500, 1), uniform))
    assert (weights.gather(1, tokens[:, None]) > 0).all()
    positive = weights > 0
    if uniform == 0:
        assert torch.equal(tokens, positive.int().argmax(1))
    if uniform > 0.9:  # the weights left beyond such a number are within rounding
        after = weights.flip(1).cumsum(1).flip(1).gather(1, tokens[:, None]).squeeze(1)
        assert (after >= weights.gather(1, tokens[:, None]).squeeze(1)).all()
        last = vocab - 1 - positive.flip(1).int().argmax(1)
        gap = weights.double().flip(1).cumsum(1).flip(1) / weights.double().sum(1, keepdim=True)
        assert (gap.gather(1, tokens[:, None]).squeeze(1)[tokens != last] >= 2e-8).all()


def test_a_number_on_the_edge_of_a_block_draws_no_impossible_token(generator):
    """Rounding of block sums once put the target below the block, on its first, empty entry."""
    vocab, rows = 1100, 2000
    weights = torch.rand(rows, vocab, generator=generator)
    weights *= torch.rand(rows, vocab, generator=generator) < 0.2
    size = math.isqrt(vocab - 1) + 1
    blocks = torch.nn.functional.pad(weights, (0, -vocab % size)).view(rows, -1, size)
    edges = blocks.sum(2).cumsum(1)
    chosen = torch.randint(edges.shape[1] - 1, (rows, 1), generator=generator)
    for step in (-(2**-24), 0.0, 2**-24):
        uniform = (edges.gather(1, chosen) / edges[:, -1:] + step).clamp(0, 1 - 2**-24)
        tokens = inverse_cdf(weights, uniform)
        assert (weights.gather(1, tokens[:, None]) > 0).all()


def test_two_levels_find_the_tokens_of_one(generator, monkeypatch):
    weights = sparse_weights(2000, 900, generator).double()
    uniform = torch.rand(2000, 1, generator=generator, dtype=torch.float64)
    direct = inverse_cdf(weights, uniform)
    monkeypatch.setattr(sampling, "_DIRECT_VOCAB", 1)
    assert torch.equal(inverse_cdf(weights, uniform), direct)


def draw(model, prompts, draws=8, tokens=3, eos=3, seed=0, **options):
    limits = {"max_new_tokens": tokens, "eos_token_id": eos}
    return sample(model, prompts, draws=draws, seed=seed, **limits, **options)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_strings_are_drawn_with_their_joint_probabilities(language, temperature):
    draws = 20_000
    rollouts = draw(language.reference, language.prompts, draws, temperature=temperature)
    probabilities = language.log_probs(language.reference, temperature).exp().numpy()
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)
    place = {tuple(row): index for index, row in enumerate(language.responses)}
    drawn = np.array([place[tuple(row)] for row in rollouts.response_lists()])
    for prompt in range(2):
        rows = drawn[rollouts.prompt_index.numpy() == prompt]
        counts = np.bincount(rows, minlength=len(place))
        assert len(rows) == draws
        assert p_value(counts, probabilities[prompt]) > LEVEL


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("kind", ["tabular", "gpt2"])
def test_log_probs_and_values_are_those_of_the_full_forward(language, kind, temperature):
    model = language.reference if kind == "tabular" else make_gpt2()
    prompts, tokens = (language.prompts, 3) if kind == "tabular" else (gpt2_prompts(), 6)
    head = make_value_head(model, 0)
    with torch.no_grad():
        for number, parameter in enumerate(head.parameters()):
            parameter.normal_(generator=torch.Generator().manual_seed(number))
    options = {"temperature": temperature, "value_head": head}
    rollouts = draw(model, prompts, tokens=tokens, **options)
    asked = prompts.select(rollouts.prompt_index)
    ids, mask = rollouts.response_ids, rollouts.response_mask
    with torch.no_grad():
        expected = token_log_probs(model, asked, ids, mask, temperature)
        packed, index = pack(asked, ids)
        values = head(hidden_states(model, packed)).view(packed.shape).gather(1, index)
    torch.testing.assert_close(rollouts.token_log_probs, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(rollouts.values, values * mask, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(rollouts.log_prob, expected.double().sum(1), rtol=1e-4, atol=1e-4)


def gpt2_prompts():
    return Prompts.from_lists([[5, 6, 7], [8], [9, 10, 11, 12, 13]], ["a", "b", "c"])


def test_the_seed_decides_the_draws():
    model, prompts = make_gpt2(), gpt2_prompts()
    first, again, other = (draw(model, prompts, tokens=6, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.response_ids, again.response_ids)
    assert torch.equal(first.token_log_probs, again.token_log_probs)
    assert not torch.equal(first.response_ids, other.response_ids)
    state = torch.random.get_rng_state()
    draw(model, prompts)
    assert torch.equal(torch.random.get_rng_state(), state)  # no global generator is touched


@pytest.mark.parametrize("kind", ["tabular", "gpt2"])
def test_other_prompts_of_a_batch_do_not_change_the_draws(language, kind):
    model = language.reference if kind == "tabular" else make_gpt2()
    prompts = language.prompts if kind == "tabular" else gpt2_prompts()
    tokens = 3 if kind == "tabular" else 6
    together = draw(model, prompts, draws=16, tokens=tokens).response_lists()
    reversed_order = torch.arange(len(prompts)).flip(0)
    backwards = draw(model, prompts.select(reversed_order), draws=16, tokens=tokens)
    for index in range(len(prompts)):
        alone = draw(model, prompts.select(torch.tensor([index])), draws=16, tokens=tokens)
        assert alone.response_lists() == together[16 * index : 16 * (index + 1)]
        rows = backwards.prompt_index == len(prompts) - 1 - index
        assert [
            row for row, kept in zip(backwards.response_lists(), rows, strict=True) if kept
        ] == alone.response_lists()


def test_a_prompt_that_occurs_twice_in_a_batch_is_answered_differently(language):
    """Both once got the same uniform numbers, and so the same responses."""
    twice = language.prompts.select(torch.tensor([0, 1, 0]))
    rollouts = draw(language.reference, twice, draws=50)
    first, second = (rollouts.response_ids[rollouts.prompt_index == index] for index in (0, 2))
    assert not torch.equal(first, second)
    once = draw(language.reference, language.prompts, draws=50)
    assert torch.equal(once.response_ids[:50], first)


def test_draws_are_independent_of_each_other():
    """Across prompts, draws of a prompt, and tokens; all tokens are equally likely here."""
    model = make_table(scale=0.0, longest_prefix=3)
    prompts = Prompts.from_lists([[0], [0]], ["a", "b"])
    draws = 4000
    ids = draw(model, prompts, draws=draws, tokens=2, eos=99).response_ids.view(2, draws, 2)
    pairs = {
        "prompts": (ids[0, :, 0], ids[1, :, 0]),
        "draws": (ids[0, :-1, 0], ids[0, 1:, 0]),
        "tokens": (ids[0, :, 0], ids[0, :, 1]),
    }
    for name, (left, right) in pairs.items():
        table = np.histogram2d(left.numpy(), right.numpy(), bins=4)[0]
        assert chi2_contingency(table).pvalue > LEVEL, name


def test_a_response_ends_with_a_sampled_end_token():
    language = Language(tokens=4)
    rollouts = draw(language.reference, language.prompts, draws=200, tokens=4)
    assert set(rollouts.response_mask.sum(1).tolist()) == {1, 2, 3, 4}
    assert_ends(rollouts, language.eos, 4)


def test_responses_may_all_end_at_once():
    model = make_table(scale=0.0, longest_prefix=9)
    with torch.no_grad():
        model.table[:, 3] = 50.0
    rollouts = draw(model, Prompts.from_lists([[0]], ["a"]), tokens=9)
    assert rollouts.finished.all()
    assert rollouts.response_mask.sum() == len(rollouts)
    assert rollouts.response_ids.shape == (8, 9)


@pytest.mark.parametrize(
    ("ids", "options", "kind", "message"),
    [
        ([], {}, DataError, "prompt 'b' is empty; give at least one token, each from 0 to 19"),
        ([5, 20], {}, DataError, "prompt 'b' has id 20; give"),
        ([-1], {}, DataError, "prompt 'b' has id -1; give"),
        ([5] * 30, {}, ConfigError, "max_new_tokens: 3 after a prompt of 30 tokens exceeds .* 32;"),
        ([5], {"tokens": 0}, ConfigError, "max_new_tokens: 0 is not allowed; give a number of"),
        ([5], {"draws": 0}, ConfigError, "draws: 0 is not allowed"),
        ([5], {"temperature": 0}, ConfigError, "temperature: 0 is not allowed; give a number ab"),
        ([5], {"temperature": -0.5}, ConfigError, "temperature: -0.5 is not allowed"),
        ([5], {"temperature": math.nan}, ConfigError, "temperature: nan is not allowed"),
    ],
)
def test_what_a_model_cannot_answer_is_refused(ids, options, kind, message):
    prompts = Prompts.from_lists([[5], ids], ["a", "b"])
    with pytest.raises(kind, match=f"^{message}"):
        draw(make_gpt2(), prompts, **options)


def test_prompt_and_response_may_fill_the_context():
    assert len(draw(make_gpt2(), Prompts.from_lists([[5] * 29], ["a"]))) == 8

"""Tokens that end a response, from generation settings, configuration and tokenizer."""

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import GenerationConfig, GPT2Config, LlamaConfig, LlamaForCausalLM

from tests.support import make_gpt2, save_reference, tokenizer
from vbon.analysis.bounds import data_report
from vbon.batches import Prompts
from vbon.errors import ConfigError
from vbon.models.end_tokens import end_token_ids, tokenless_ids
from vbon.models.language_model import load_language_model, load_tokenizer, token_log_probs
from vbon.pool.draw import draw
from vbon.pool.score import scorer
from vbon.sampling import sample

WORDS = tokenizer()
END = WORDS.eos_token_id
PROMPTS = Prompts.from_lists([[5, 6], [7, 8, 9]], ["a", "b"])


def with_ends(generation=None, config=END):
    """A GPT-2 whose settings state some end tokens."""
    model = make_gpt2(vocab_size=len(WORDS), eos_token_id=config)
    model.generation_config.eos_token_id = generation
    return model


@pytest.mark.parametrize(
    ("generation", "config", "expected"),
    [
        (None, END, [END]),
        (END, END, [END]),
        ([END, 9], END, [END, 9]),
        ([9, 12], [12, 13], [END, 9, 12, 13]),  # as Llama 3: several, and the tokenizer's
        (9, None, [END, 9]),
        (-1, END, [END]),
        (GPT2Config.eos_token_id, GPT2Config.eos_token_id, [END]),  # the default of the class
    ],
)
def test_end_tokens_are_those_of_all_settings(generation, config, expected):
    assert end_token_ids(WORDS, with_ends(generation, config)) == tuple(sorted(expected))


def test_the_default_of_a_class_counts_if_the_tokenizer_has_that_special_token():
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    config = LlamaConfig(vocab_size=len(WORDS), intermediate_size=16, **sizes)
    assert config.eos_token_id == 2  # which a Llama has by default
    words = tokenizer()
    assert end_token_ids(words, LlamaForCausalLM(config)) == (2,)
    words.eos_token = words.convert_ids_to_tokens(9)  # now 2 is still an added token, here the end
    assert end_token_ids(words, LlamaForCausalLM(config)) == (2, 9)
    words.unk_token = words.convert_ids_to_tokens(2)
    assert end_token_ids(words, LlamaForCausalLM(config)) == (9,)


def test_a_tokenizer_without_end_token_needs_one_of_the_model():
    words = tokenizer()
    words.eos_token = None
    assert end_token_ids(words, with_ends([9])) == (END, 9)
    with pytest.raises(ConfigError, match=r"neither its tokenizer .* nor .* has an end token"):
        end_token_ids(words, with_ends(None, None))


def test_a_tokenizer_or_end_token_of_another_model_is_refused():
    with pytest.raises(ConfigError, match=rf"{len(WORDS)} tokens, its model only 10"):
        end_token_ids(WORDS, make_gpt2(vocab_size=10))
    with pytest.raises(ConfigError, match=rf"eos_token_id 999 .* has {len(WORDS)}; correct"):
        end_token_ids(WORDS, with_ends([END, 999]))


def test_any_end_token_ends_a_response_and_is_part_of_it():
    model, ends = make_gpt2(), [2, 5, 11]
    limits = {"draws": 400, "max_new_tokens": 6, "seed": 0}
    rollouts = sample(model, PROMPTS, eos_token_id=tuple(ends), **limits)
    free = sample(model, PROMPTS, eos_token_id=99, **limits)
    for row in range(len(rollouts)):
        drawn = free.response_ids[row].tolist()
        first = next((k for k, token in enumerate(drawn) if token in ends), None)
        length = len(drawn) if first is None else first + 1
        assert rollouts.response_lists()[row] == drawn[:length]
        assert rollouts.finished[row] == (first is not None)
    assert {row[-1] for row in rollouts.response_lists()} > set(ends)
    one = sample(model, PROMPTS, eos_token_id=2, **limits)
    assert torch.equal(
        one.response_ids, sample(model, PROMPTS, eos_token_id=[2], **limits).response_ids
    )


def test_ids_of_probability_zero_are_neither_drawn_nor_do_they_break_log_probs(monkeypatch):
    model = make_gpt2()
    bias = torch.zeros(20)
    bias[[0, 3, 19]] = -torch.inf
    head = torch.nn.Linear(32, 20)
    with torch.no_grad():
        head.weight.copy_(model.lm_head.weight)
        head.bias.copy_(bias)
    model.lm_head = head
    rollouts = sample(model, PROMPTS, draws=300, max_new_tokens=6, eos_token_id=2, seed=0)
    drawn = set(rollouts.response_ids[rollouts.response_mask].tolist())
    assert drawn.isdisjoint({0, 3, 19})
    assert len(drawn) > 10
    repeated = PROMPTS.select(rollouts.prompt_index)
    expected = token_log_probs(model, repeated, rollouts.response_ids, rollouts.response_mask)
    torch.testing.assert_close(rollouts.token_log_probs, expected, rtol=1e-4, atol=1e-5)
    assert expected.isfinite().all()


def drawn_from(folder, draws=200):
    table = pd.DataFrame({"prompt_id": ["a", "b"], "prompt_ids": [[5, 6], [7, 8, 9]]})
    settings = {"temperatures": [1.0], "backend": "native", "max_new_tokens": 5}
    settings |= {"prompts_per_batch": 2}
    (_, frame, _), *_ = draw(table, str(folder), settings, draws, seed=0)
    return table, frame


def test_ids_without_a_token_are_counted_and_warned_of(tmp_path, capsys):
    size = len(WORDS) + 30
    make_gpt2(vocab_size=size).save_pretrained(tmp_path)
    WORDS.save_pretrained(tmp_path)
    model, words = load_language_model(tmp_path), load_tokenizer(tmp_path)
    assert tokenless_ids(words, model) == set(range(len(WORDS), size))
    prompts, samples = drawn_from(tmp_path)
    counts = [sum(token >= len(WORDS) for token in set(ids)) for ids in samples["response_ids"]]
    share = np.mean(np.array(counts) > 0)
    assert samples["tokenless"].tolist() == counts
    assert 0.2 < share < 1
    warning = f"has 30 ids without a token of its tokenizer; {share:.2%}"
    assert warning in capsys.readouterr().out
    rewards = samples[["prompt_id", "draw"]].assign(reward=0.0, reward_prob=0.5)
    rewards["evaluator_reward"] = 0.0
    splits = {"train": prompts, "test": prompts[:0]}
    report = data_report({}, splits, samples, rewards, {}, {}).set_index("quantity")["value"]
    assert report["tokenless_share"] == share


def test_a_model_with_a_token_for_each_id_is_drawn_from_silently(tmp_path, capsys):
    _, samples = drawn_from(save_reference(tmp_path), draws=5)
    assert "tokenless" not in samples
    assert "warning" not in capsys.readouterr().out


def test_draws_end_at_the_end_tokens_of_the_generation_settings(tmp_path):
    folder = save_reference(tmp_path)
    GenerationConfig(eos_token_id=[9, 10]).save_pretrained(folder)
    _, samples = drawn_from(folder)
    finished = samples[samples["finished"]]
    assert set(finished["response_ids"].map(lambda ids: ids[-1])) == {END, 9, 10}
    assert not samples["response_ids"].map(lambda ids: {END, 9, 10} & set(ids[:-1])).any()


@pytest.mark.parametrize("ends", ["w2", [[2, 7]]])
def test_end_tokens_that_are_no_ids_are_one_line(ends):
    with pytest.raises(ConfigError, match=r"eos_token_id .* is not an id; give one number"):
        end_token_ids(WORDS, with_ends(ends))


def test_an_ordinary_token_that_ends_a_response_is_no_part_of_its_text(tmp_path):
    folder = save_reference(tmp_path)
    GenerationConfig(eos_token_id=[9]).save_pretrained(folder)
    prompts, samples = drawn_from(folder)
    last = samples["response_ids"].map(lambda ids: ids[-1])
    expected = [
        WORDS.decode([token for token in ids if token not in (END, 9)], skip_special_tokens=True)
        for ids in samples["response_ids"]
    ]
    assert (last == 9).any()
    assert WORDS.decode([9], skip_special_tokens=True)
    assert samples["response"].tolist() == expected
    source = "def count(responses):\n    return [len(text) for text in responses]\n"
    (tmp_path / "function.py").write_text(source)
    (tmp_path / "function.txt").write_text("count")
    settings = {"batch_size": 64, "transform": "identity"}
    scored, _ = scorer(prompts, str(folder), str(tmp_path), str(tmp_path), settings)(samples)
    assert scored["reward"].tolist() == [len(text) for text in expected]

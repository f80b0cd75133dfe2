"""Models of posts: training tokens of summaries, scalar rewards, and padding on the left."""

import math

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from vbon.batches import Prompts
from vbon.models.build import _completions, build_reference, build_scorer, build_tokenizer
from vbon.models.language_model import load_language_model, token_log_probs
from vbon.rewards import load_reward_model
from vbon.tasks.posts import load_posts, render

SMALL = {"layers": 1, "width": 32, "heads": 2, "batch_size": 16, "learning_rate": 0.01}
SMALL |= {"max_tokens": 96, "epochs": 2, "warmup": 0.1, "held_out": 0.1}
PARTS = {"reference": 0.4, "reward_model": 0.4, "evaluator": 0.1, "train": 0.05, "test": 0.05}


@pytest.fixture(scope="module")
def data():
    settings = {"source": "grammar", "num_posts": 600, "in_domain": ["dogs"], "fractions": PARTS}
    posts = load_posts(settings, seed=0)
    asked = [
        render(*row) for row in zip(posts["subreddit"], posts["title"], posts["post"], strict=True)
    ]
    tokenizer = build_tokenizer([*asked, *(" " + posts["summary"])], vocab_size=400, side="left")
    return posts.assign(prompt=asked), tokenizer


@pytest.fixture(scope="module")
def reference(data, tmp_path_factory):
    posts, tokenizer = data
    folder, own = tmp_path_factory.mktemp("reference"), posts[posts["part"] == "reference"]
    settings = {**SMALL, "architecture": "gpt_neox", "epochs": 2}
    answers = (" " + own["summary"]).tolist()
    numbers = build_reference(answers, tokenizer, settings, 0, folder, own["prompt"].tolist())
    return folder, numbers


@pytest.fixture(scope="module")
def scorer(data, tmp_path_factory):
    posts, tokenizer = data
    folder = tmp_path_factory.mktemp("scorer")
    pairs = posts[["prompt"]].assign(**{s: " " + posts[s] for s in ("chosen", "rejected")})
    settings = {**SMALL, "epochs": 2}
    numbers = build_scorer(pairs, tokenizer, settings, 0, folder)
    return folder, numbers


def test_only_summaries_and_their_end_are_learnt(data):
    _, tokenizer = data
    long, short = _completions([" my dog", " my dog"], ["POST: it", ""], tokenizer, limit=6)
    end = tokenizer.eos_token_id
    ids = tokenizer("POST: it my dog")["input_ids"]
    assert long["input_ids"] == [*ids, end]
    assert long["labels"] == [-100] * (len(ids) - 2) + [*ids[-2:], end]
    assert short["labels"] == short["input_ids"] == [*tokenizer(" my dog")["input_ids"], end]
    assert _completions([" my dog"], ["POST: it it it it it"], tokenizer, limit=6) == []


def test_the_reference_writes_summaries(reference):
    folder, numbers = reference
    assert numbers["perplexity"] < 12  # of 150 words
    model = load_language_model(folder)
    assert type(model).__name__ == "GPTNeoXForCausalLM"


def test_the_scorer_prefers_held_out_summaries(scorer):
    folder, numbers = scorer
    assert numbers["accuracy"] > 0.55
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert type(model).__name__ == "GPTNeoXForSequenceClassification"
    assert model.config.num_labels == 1


def test_scalar_rewards_have_no_probability_and_are_of_each_text_alone(scorer, data):
    folder, _ = scorer
    texts = [text[: 20 + 9 * k] for k, text in enumerate(data[0]["prompt"].head(12))]
    rewards = load_reward_model(folder, batch_size=5)(texts)
    assert np.isnan(rewards.prob).all()
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    words = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        alone = [model(**words(text, return_tensors="pt")).logits.item() for text in texts]
    np.testing.assert_allclose(rewards.reward, alone, atol=1e-5)  # padded on the left, masked


def test_a_text_that_is_too_long_loses_its_beginning(scorer, data):
    folder, _ = scorer
    text = " ".join(data[0]["prompt"].head(6))
    words = AutoTokenizer.from_pretrained(folder)
    ids = words(text)["input_ids"]
    assert len(ids) > words.model_max_length
    kept = words.decode(ids[-words.model_max_length :])
    model = load_reward_model(folder)
    np.testing.assert_allclose(model([text]).reward, model([kept]).reward, atol=1e-5)


def test_masked_padding_on_the_left_changes_no_log_prob(reference, data):
    """The library's own forward pass on a batch as its generation pads it, against ours."""
    folder, _ = reference
    posts, _ = data
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.padding_side == "left"
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    rows = posts.head(6)
    prompts = [text[-40 - 25 * k :] for k, text in enumerate(rows["prompt"])]
    ours = Prompts.from_lists(tokenizer(prompts)["input_ids"], list(rows["source_id"]))
    assert len(set(ours.lengths.tolist())) > 3
    responses = [tokenizer(" " + s)["input_ids"] for s in rows["summary"]]
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in responses], True)
    mask = torch.arange(ids.shape[1]) < torch.tensor([[len(row)] for row in responses])
    found = token_log_probs(load_language_model(folder), ours, ids, mask, temperature=0.7)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    joined = [f"{p} {s}" for p, s in zip(prompts, rows["summary"], strict=True)]
    batch = tokenizer(joined, padding=True, return_tensors="pt")
    assert (batch["attention_mask"][:, 0] == 0).any()
    for strange in (tokenizer.pad_token_id, 7):  # the content of masked places is never read
        filled = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, strange)
        with torch.no_grad():
            logits = model(filled, attention_mask=batch["attention_mask"]).logits
        log_probs = (logits[:, :-1] / 0.7).log_softmax(2)
        chosen = log_probs.gather(2, filled[:, 1:, None]).squeeze(2)
        for row, own in enumerate(responses):
            expected = chosen[row, -len(own) :]
            torch.testing.assert_close(found[row, : len(own)], expected, atol=1e-5, rtol=0)


def test_generation_of_a_padded_batch_is_that_of_each_prompt(reference, data):
    folder, _ = reference
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    prompts = [text[-40 - 30 * k :] for k, text in enumerate(data[0]["prompt"].head(4))]
    options = {"do_sample": False, "max_new_tokens": 8, "pad_token_id": tokenizer.pad_token_id}
    together = model.generate(**tokenizer(prompts, padding=True, return_tensors="pt"), **options)
    for row, prompt in zip(together, prompts, strict=True):
        single = tokenizer(prompt, return_tensors="pt")
        alone = model.generate(**single, **options)[0, single["input_ids"].shape[1] :]
        assert row[-8:][: len(alone)].tolist() == alone.tolist()
    assert math.isfinite(float(together.sum()))

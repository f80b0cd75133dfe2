"""Reward models: one score per text, independent of its batch, on the requested scale."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from support import TEXTS, save_classifier, tokenizer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from vbon.artifacts import write_table
from vbon.errors import ArtifactError, ConfigError, DataError
from vbon.rewards import RewardModel, full_texts, load_reward_model
from vbon.rewards.base import TRANSFORMS, transformed
from vbon.rewards.classifier import ClassifierReward
from vbon.rewards.table import TABLE, TableReward

_CUT = [" ".join(text.split(" ")[: 1 + index]) for index, text in enumerate(TEXTS)]
VARIED = _CUT[::-2] + _CUT[::2]  # of many lengths, in no order


@torch.no_grad()
def logits_alone(folder, texts):
    """Logits of each text in a forward pass of its own."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    words = AutoTokenizer.from_pretrained(folder)
    rows = [model(**words(text, return_tensors="pt")).logits[0].double() for text in texts]
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("batch_size", [1, 3, 256])
def test_rewards_are_the_positive_logits_of_each_text_alone(classifier_folder, batch_size):
    rewards = ClassifierReward(classifier_folder, batch_size)(VARIED)
    logits = logits_alone(classifier_folder, VARIED)
    np.testing.assert_allclose(rewards.reward, logits[:, 1], rtol=1e-4, atol=1e-5)
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(rewards.prob, probs[:, 1], rtol=1e-4, atol=1e-5)
    assert rewards.reward.dtype == rewards.prob.dtype == np.float64
    assert len(set(rewards.reward)) > 5


def test_the_positive_class_is_found_by_its_name(tmp_path):
    first = save_classifier(tmp_path / "first", labels=("positive", "negative"))
    rewards = ClassifierReward(first)(VARIED)
    expected = logits_alone(first, VARIED)[:, 0]
    np.testing.assert_allclose(rewards.reward, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match=r"none of the classes good, bad is POSITIVE"):
        ClassifierReward(save_classifier(tmp_path / "second", labels=("good", "bad")))


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms_keep_the_order_and_leave_the_probability(classifier_folder, transform):
    plain = ClassifierReward(classifier_folder)(VARIED)
    mapped = ClassifierReward(classifier_folder, transform=transform)(VARIED)
    assert (plain.reward.argsort() == mapped.reward.argsort()).all()
    assert len(set(mapped.reward)) == len(set(plain.reward))
    assert (plain.prob == mapped.prob).all()
    expected = {"identity": plain.reward, "exp": np.exp(plain.reward)}
    np.testing.assert_array_equal(mapped.reward, expected[transform])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1000.0])
def test_rewards_that_are_not_finite_name_their_text(bad):
    with pytest.raises(DataError, match=r"for text 'second'; rewards must be finite") as error:
        transformed(np.array([1.0, bad]), "exp" if bad == 1000 else "identity", ["first", "second"])
    assert "\n" not in str(error.value)


def test_a_classifier_with_broken_weights_is_noticed(tmp_path):
    folder = save_classifier(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        model.classifier.bias[1] = torch.nan
    model.save_pretrained(folder)
    with pytest.raises(DataError, match="reward: nan for text 'the film'"):
        ClassifierReward(folder)(["the film"])


def test_a_folder_without_a_classifier_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"nothing: no classifier could be loaded"):
        ClassifierReward(tmp_path / "nothing")


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    folder = save_classifier(tmp_path)
    words = tokenizer(classifier=True)
    words.add_tokens([f"word{index}" for index in range(5)])
    words.save_pretrained(folder)
    with pytest.raises(ConfigError, match=rf"{len(words)} tokens, its model only"):
        ClassifierReward(folder)


def test_long_texts_are_cut_to_what_the_model_can_read(classifier_folder):
    long = " ".join(TEXTS)
    rewards = ClassifierReward(classifier_folder)([long, long + " bad"])
    assert np.isfinite(rewards.reward).all()
    assert rewards.reward[0] == pytest.approx(rewards.reward[1])


def write_rewards(folder, **rewards):
    frame = pd.DataFrame({"text": list(rewards), "reward": list(rewards.values())})
    write_table(folder / TABLE, frame, "text_rewards")
    return folder


def test_a_table_of_rewards_looks_texts_up(tmp_path):
    model = TableReward(write_rewards(tmp_path, a=1.0, b=-2.0))
    rewards = model(["b", "a", "b"])
    assert rewards.reward.tolist() == [-2.0, 1.0, -2.0]
    assert np.isnan(rewards.prob).all()
    assert TableReward(tmp_path, "exp")(["b"]).reward.tolist() == [math.exp(-2)]
    with pytest.raises(DataError, match="text 'c' is not in the reward table"):
        model(["a", "c"])


def test_a_table_with_a_reward_that_is_not_finite_is_refused(tmp_path):
    model = TableReward(write_rewards(tmp_path, a=1.0, b=math.nan, c=1000.0))
    with pytest.raises(DataError, match="reward: nan for text 'b'"):
        model(["a", "b"])
    with pytest.raises(DataError, match="reward: inf for text 'c'"):
        TableReward(tmp_path, "exp")(["c"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transform": "log"}, "transform: 'log' is not allowed; accepted: identity, exp"),
        ({"batch_size": 0}, "batch_size: 0 is not allowed; give a number of at least 1"),
        ({"batch_size": -1}, "batch_size: -1 is not allowed"),
    ],
)
def test_options_that_no_reward_model_has_are_refused(tmp_path, options, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        load_reward_model(write_rewards(tmp_path, a=1.0), **options)


def test_the_kind_of_reward_model_follows_from_its_folder(tmp_path, classifier_folder):
    models = [
        load_reward_model(write_rewards(tmp_path, a=1.0), transform="exp"),
        load_reward_model(classifier_folder),
    ]
    assert [type(model) for model in models] == [TableReward, ClassifierReward]
    assert all(isinstance(model, RewardModel) for model in models)
    assert models[0](["a"]).reward[0] == math.e


def test_texts_are_prompt_and_response_without_special_tokens():
    words = tokenizer()
    prompt, response = (words(text)["input_ids"] for text in ("the film", " was good."))
    ended = [*response, words.eos_token_id]
    assert full_texts(words, [prompt, prompt], [response, ended]) == ["the film was good."] * 2
    arrays = [np.array(prompt)], [np.array(ended)]
    assert full_texts(words, *arrays) == ["the film was good."]
    with pytest.raises(ValueError, match="zip"):
        full_texts(words, [prompt], [response, ended])


def test_labels_survive_in_the_saved_config(classifier_folder):
    """The positive class is found in the config that any user's classifier has."""
    saved = json.loads((classifier_folder / "config.json").read_text())
    assert saved["id2label"] == {"0": "NEGATIVE", "1": "POSITIVE"}


def test_texts_are_encoded_as_the_tokenizer_itself_does(classifier_folder):
    """Including special tokens and truncation."""
    reward = ClassifierReward(classifier_folder)
    long = " ".join(TEXTS)
    words = AutoTokenizer.from_pretrained(classifier_folder)
    options = {"truncation": True, "max_length": reward._longest}
    expected = words([*VARIED, long], **options)["input_ids"]
    assert len(expected[-1]) == reward._longest
    assert reward._encode([*VARIED, long]) == expected


@pytest.mark.parametrize("side", ["left", "right"])
def test_batches_are_padded_on_the_right(classifier_folder, monkeypatch, side):
    """As the tokenizer itself does, whatever its side: padding on the left moves positions."""
    rewards = ClassifierReward(classifier_folder, batch_size=4)
    words, given = AutoTokenizer.from_pretrained(classifier_folder, padding_side="right"), []
    forward = type(rewards._model).forward
    monkeypatch.setattr(rewards._tokenizer, "padding_side", side)
    monkeypatch.setattr(
        type(rewards._model),
        "forward",
        lambda model, ids, attention_mask=None: (
            given.append((ids, attention_mask)) or forward(model, ids, attention_mask)
        ),
    )
    rewards(VARIED)
    order = sorted(VARIED, key=lambda text: len(words(text)["input_ids"]))  # keeps ties in order
    assert len(given) == -(-len(VARIED) // 4)
    for number, (ids, mask) in enumerate(given):
        expected = words(order[4 * number : 4 * number + 4], padding=True, return_tensors="pt")
        assert torch.equal(ids, expected["input_ids"])
        mask = torch.ones_like(ids) if mask is None else mask
        assert torch.equal(mask, expected["attention_mask"])
    assert any(mask is not None for _, mask in given)


def test_many_texts_are_scored_in_parts(classifier_folder, monkeypatch):
    reward = ClassifierReward(classifier_folder, batch_size=4)
    whole = reward(VARIED).reward
    monkeypatch.setattr("vbon.rewards.classifier._TEXTS", 5)
    np.testing.assert_allclose(reward(VARIED).reward, whole, rtol=1e-6, atol=1e-7)

"""Reward models of a configuration: keys of their reading, and the step that points to them."""

import json

import pytest
from checkout import ROOT
from safetensors.torch import load_file, save_file
from support import save_classifier, save_reference, tokenizer, with_seed
from transformers import BertConfig, BertModel

from vbon.cli import main
from vbon.errors import ArtifactError, ConfigError
from vbon.models.loading import POINTER
from vbon.planning.config import load
from vbon.rewards import load_reward_model
from vbon.tasks.steps import build


def configured(tmp_path, role="reward_model", **model):
    overlay = {"tasks": ["sentiment"], "sentiment": {role: model}}
    (tmp_path / "o.yaml").write_text(json.dumps(overlay))
    return load([ROOT / "config.yaml", tmp_path / "o.yaml"])


def built(tmp_path, role="reward_model", **model):
    section = configured(tmp_path, role, **model)["sentiment"]
    texts = tmp_path / "texts.parquet"
    texts.touch()
    task = {key: section[key] for key in ("kind", "reviews", role, "tokenizer", "prompts")}
    card = tmp_path / role / "card.json"
    build(role=role, task=task, texts=str(texts), seed=0, card=str(card))
    return card.parent


@pytest.mark.parametrize("role", ["reward_model", "evaluator"])
@pytest.mark.parametrize("base", ["causal", "encoder"])
def test_a_model_without_a_classifier_head_is_refused_before_any_draw(tmp_path, role, base):
    """Each process would draw another head at random (row 5)."""
    folder = save_reference(tmp_path / "causal")
    if base == "encoder":
        folder = tmp_path / "encoder"
        words = tokenizer(classifier=True)
        size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = BertConfig(vocab_size=len(words), intermediate_size=32, **size)
        with_seed(0, lambda: BertModel(config)).save_pretrained(folder)
        words.save_pretrained(folder)
    with pytest.raises(ArtifactError, match="no classifier head in the checkpoint") as error:
        built(tmp_path, role, id=str(folder))
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)
    assert not (tmp_path / role / "card.json").exists()


def test_the_command_prints_one_line(tmp_path, capsys):
    folder = save_reference(tmp_path / "causal")
    section = configured(tmp_path, id=str(folder))["sentiment"]
    task = {
        key: section[key] for key in ("kind", "reviews", "reward_model", "tokenizer", "prompts")
    }
    (tmp_path / "texts.parquet").touch()
    words = ["build", "--role", "reward_model", "--task", json.dumps(task), "--seed", "0"]
    paths = ["--texts", str(tmp_path / "texts.parquet"), "--card", str(tmp_path / "m/card.json")]
    assert main([*words, *paths]) != 0
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "no classifier head in the checkpoint" in printed


def test_a_classifier_without_its_head_is_refused_when_it_scores(tmp_path):
    folder = save_classifier(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    left = {key: value for key, value in weights.items() if "classifier" not in key}
    save_file(left, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ArtifactError, match="no classifier head"):
        load_reward_model(folder)


def test_label_and_chat_are_kept_with_the_pointer(tmp_path):
    """Also class 0, which is neither absent nor false."""
    folder = save_classifier(tmp_path / "model", labels=("bad", "good"))
    with pytest.raises(ConfigError, match="name the class whose logit is the reward by `label`"):
        built(tmp_path, id=str(folder))
    texts, rewards = ["the film was good", "a plot is weak"], []
    for label in (0, 1, "good"):
        pointed = built(tmp_path, id=str(folder), label=label)
        assert json.loads((pointed / POINTER).read_text())["label"] == label
        rewards.append(load_reward_model(pointed)(texts).reward.tolist())
    assert rewards[0] != rewards[1] == rewards[2]
    assert "chat" not in json.loads((pointed / POINTER).read_text())
    with pytest.raises(ConfigError, match="label: 'best' is none of the classes bad, good"):
        built(tmp_path, id=str(folder), label="best")
    with pytest.raises(ConfigError, match="chat: true, but its tokenizer has no chat template"):
        built(tmp_path, id=str(folder), label=1, chat=True)
    words = tokenizer(classifier=True)
    words.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    words.save_pretrained(folder)
    pointed = built(tmp_path, id=str(folder), label=1, chat=True)
    assert json.loads((pointed / POINTER).read_text())["chat"] is True


@pytest.mark.parametrize(("key", "value"), [("label", 0), ("label", "POSITIVE"), ("chat", True)])
@pytest.mark.parametrize("role", ["reward_model", "evaluator"])
def test_keys_of_a_published_classifier_need_an_id(tmp_path, role, key, value):
    message = rf"sentiment.{role}.{key}: {value!r} needs a classifier with an id"
    with pytest.raises(ConfigError, match=message):
        configured(tmp_path, role, **{key: value})
    with pytest.raises(ConfigError, match=message):
        configured(tmp_path, role, callable="rewards.py:length", **{key: value})


@pytest.mark.parametrize(("key", "value"), [("label", True), ("label", [1]), ("chat", "yes")])
def test_values_of_other_types_are_refused(tmp_path, key, value):
    with pytest.raises(ConfigError, match=rf"reward_model\.{key}"):
        configured(tmp_path, id="some/model", **{key: value})

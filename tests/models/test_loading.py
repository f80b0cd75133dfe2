"""Models have every weight from their checkpoint, or are refused in one line."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import make_gpt2, save_classifier, save_reference, tokenizer, with_seed
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertModel,
    GPT2Model,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    RobertaConfig,
)

from vbon.errors import ArtifactError
from vbon.models.language_model import load_language_model
from vbon.models.loading import load_pretrained
from vbon.rewards import load_reward_model

SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZE |= {"intermediate_size": 32, "max_position_embeddings": 32, "pad_token_id": 0}


def save(folder, build, config):
    """A model of random weights, with a tokenizer."""
    words = tokenizer(classifier=True)
    config.vocab_size = len(words)
    with_seed(0, lambda: build(config)).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def edit(folder, change):
    """Change the weights of a folder in place."""
    file = folder / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file({key: value.clone() for key, value in weights.items()}, file, {"format": "pt"})
    return folder


def message(load, folder):
    with pytest.raises(ArtifactError) as error:
        load(folder)
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith(str(folder))
    return text


LLAMA = LlamaConfig(**SIZE)


@pytest.mark.parametrize(
    ("build", "config", "missing"),
    [
        (LlamaForCausalLM, LLAMA, "score.weight missing, which has lm_head.weight instead"),
        (BertModel, BertConfig(**SIZE), "classifier.bias, classifier.weight missing"),
        (AutoModelForMaskedLM.from_config, RobertaConfig(**SIZE), "classifier.dense.bias"),
    ],
)
def test_a_reward_model_without_a_classifier_head_is_refused(
    tmp_path, caplog, build, config, missing
):
    """Its head would be random, and another in each process."""
    folder = save(tmp_path / "base", build, config)
    text = message(load_reward_model, folder)
    assert "no classifier head in the checkpoint" in text
    assert missing in text
    assert not caplog.records  # the library's own report


def test_a_reference_without_a_language_model_head_is_refused(tmp_path):
    folder = save(tmp_path / "classifier", LlamaForSequenceClassification, LLAMA)
    text = message(load_language_model, folder)
    assert "no language model head" in text
    assert "score.weight instead" in text
    tied = LlamaConfig(**SIZE, tie_word_embeddings=True)  # which lacks no weight
    folder = save(tmp_path / "tied", LlamaForSequenceClassification, tied)
    text = message(load_language_model, folder)
    assert "score.weight, which LlamaForCausalLM does not use" in text


def test_weights_that_are_absent_foreign_or_of_another_shape_are_refused(tmp_path):
    def halve(weights):
        for key in [key for key in weights if ".h.1." in key]:
            del weights[key]

    folder = edit(save_reference(tmp_path / "half"), halve)
    text = message(load_language_model, folder)
    assert "the checkpoint lacks transformer.h.1" in text
    assert " more, which would be random" in text

    folder = save_reference(tmp_path / "deep")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"n_layer": 1}))
    assert "has transformer.h.1." in message(load_language_model, folder)

    (folder / "config.json").write_text(json.dumps(config | {"n_positions": 16}))
    text = message(load_language_model, folder)
    assert "transformer.wpe.weight has shape [32, 32] in the checkpoint and [16, 32]" in text


def test_weights_that_the_model_does_not_need_are_left_over(tmp_path):
    """Tied heads, buffers of earlier versions of the library, unused poolers."""

    def old(weights):
        weights["transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)
        weights["transformer.version"] = torch.tensor(3.0)
        weights["transformer.h.0.attn.bias"] = torch.ones(1, 1, 32, 32)
        weights["lm_head.weight"] = weights["transformer.wte.weight"]
        weights["v_head.summary.weight"] = torch.ones(1, 32)

    plain = save_reference(tmp_path / "plain")
    expected = load_language_model(plain).state_dict()
    loaded = load_language_model(edit(save_reference(tmp_path / "old"), old)).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in expected.items())

    headless = tmp_path / "headless"  # its head is tied to the embeddings
    model = make_gpt2(vocab_size=len(tokenizer()))
    model.transformer.save_pretrained(headless)
    assert isinstance(model.transformer, GPT2Model)
    loaded = load_language_model(headless).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in model.state_dict().items())

    neox = save(tmp_path / "neox", GPTNeoXForCausalLM, GPTNeoXConfig(**SIZE))
    ones = {"gpt_neox.layers.0.attention.rotary_emb.inv_freq": torch.ones(4)}
    load_language_model(edit(neox, lambda weights: weights.update(ones)))

    roberta = RobertaConfig(**SIZE)
    build = AutoModelForSequenceClassification.from_config
    folder = save(tmp_path / "roberta", build, roberta)
    pooler = {f"roberta.pooler.dense.{key}": torch.ones(16) for key in ("weight", "bias")}
    edit(folder, lambda weights: weights.update(pooler))
    load_pretrained(AutoModelForSequenceClassification, folder, "classifier")


@pytest.mark.parametrize("load", [load_language_model, load_reward_model])
def test_code_in_a_folder_is_not_run_and_not_offered(tmp_path, monkeypatch, load):
    """Not after a question on the standard input either."""
    folder, ran = save_classifier(tmp_path / "model"), tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w')\n")
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "evil"}
    names = ("AutoModelForCausalLM", "AutoModelForSequenceClassification", "AutoModel")
    config["auto_map"] = {"AutoConfig": "evil.Config"} | dict.fromkeys(names, "evil.Model")
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    assert "it needs code from its folder, which is never run" in message(load, folder)
    assert not ran.exists()


class _Evil:
    def __reduce__(self):
        return Path.touch, (Path("ran"),)


def test_pickles_are_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = save_reference(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Evil()))
    text = message(load_language_model, folder)
    assert "its weights are a pickle with more than tensors" in text
    assert not Path("ran").exists()


@pytest.mark.parametrize("content", ["[]", "{", "null", '{"id": 3}', "{}"])
def test_a_damaged_pointer_is_named(tmp_path, content):
    (tmp_path / "pointer.json").write_text(content)
    text = message(load_language_model, tmp_path)
    assert "pointer.json" in text


def test_the_target_of_a_pointer_is_refused_likewise(tmp_path):
    folder = save(tmp_path / "base", LlamaForCausalLM, LLAMA)
    (tmp_path / "pointer.json").write_text(json.dumps({"id": str(folder)}))
    text = message(load_reward_model, tmp_path)
    assert str(folder) in text


def test_a_causal_model_of_any_head_is_loaded_whole(tmp_path):
    folder = save(tmp_path / "llama", LlamaForCausalLM, LLAMA)
    ours = load_language_model(folder).state_dict()
    theirs = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())


@pytest.mark.parametrize("content", ["{", "[]", "null", ""])
def test_damaged_generation_settings_are_named(tmp_path, content):
    """Without them a chat model would not end where it should."""
    folder = save(tmp_path / "model", LlamaForCausalLM, LlamaConfig(**SIZE))
    (folder / "generation_config.json").write_text(content)
    text = message(load_language_model, folder)
    assert "generation_config.json is not a JSON object" in text
    (folder / "generation_config.json").unlink()
    load_language_model(folder)

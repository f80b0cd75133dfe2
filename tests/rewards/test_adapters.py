"""Models saved as a base model with a low-rank adapter: merged, with every weight from a file."""

import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from support import TEXTS, tokenizer, with_seed
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    RobertaConfig,
    RobertaForMaskedLM,
)

from vbon.errors import ArtifactError, ConfigError
from vbon.models.language_model import load_language_model
from vbon.models.loading import POINTER
from vbon.planning.hub import fetch
from vbon.rewards import load_reward_model

SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZE |= {"intermediate_size": 64, "max_position_embeddings": 64, "pad_token_id": 0}
BASES = {
    "llama": (LlamaForCausalLM, LlamaConfig, ["q_proj", "v_proj"]),
    "bert": (BertModel, BertConfig, ["query", "value"]),
    "roberta": (RobertaForMaskedLM, RobertaConfig, ["query", "value"]),
}


def save_adapter(folder, base, targets, labels=1, task="SEQ_CLS", **changes):
    """A random adapter and head of a base model; returns the model in memory."""

    def build():
        auto = AutoModelForSequenceClassification
        model = auto.from_pretrained(base, num_labels=labels, dtype=torch.float32)
        if labels == 2:
            model.config.id2label = {0: "NEGATIVE", 1: "POSITIVE"}
        options = {"r": 4, "target_modules": targets, "task_type": task, **changes}
        model = get_peft_model(model, LoraConfig(**options))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name or parameter.requires_grad:
                    parameter.normal_(0.0, 0.3)
        return model

    model = with_seed(1, build).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(folder)
    return model


def save_base(folder, kind):
    build, config, targets = BASES[kind]
    words = tokenizer(classifier=True)
    model = with_seed(0, lambda: build(config(vocab_size=len(words), **SIZE)))
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return targets


@torch.no_grad()
def scores(model, label, texts=TEXTS):
    words = tokenizer(classifier=True)
    rows = [torch.tensor([words(text)["input_ids"]]) for text in texts]
    return np.array([model(row).logits[0, label].item() for row in rows])


@pytest.mark.parametrize("kind", BASES)
@pytest.mark.parametrize("labels", [1, 2])
def test_a_reward_model_may_be_an_adapter_of_a_base_model(tmp_path, kind, labels):
    """The base has no classifier head; the adapter has its own."""
    targets = save_base(tmp_path / "base", kind)
    model = save_adapter(tmp_path / "adapter", tmp_path / "base", targets, labels)
    given = {"label": 1} if labels == 2 else {}
    rewards = load_reward_model(tmp_path / "adapter", **given)(TEXTS).reward
    np.testing.assert_allclose(rewards, scores(model, labels - 1), rtol=1e-5, atol=1e-5)
    assert not np.allclose(rewards, scores(model.base_model.model, 0) * 0, atol=1e-2)
    with model.disable_adapter(), torch.no_grad():
        assert not np.allclose(rewards, scores(model, labels - 1), atol=1e-3)


def test_the_base_model_is_a_folder_below_the_adapter_s_or_one_of_the_machine(tmp_path):
    folder = tmp_path / "adapter"
    targets = save_base(folder / "base", "llama")
    model = save_adapter(folder, folder / "base", targets)
    settings = json.loads((folder / "adapter_config.json").read_text())
    for name in ("base", str(folder / "base")):
        changed = settings | {"base_model_name_or_path": name}
        (folder / "adapter_config.json").write_text(json.dumps(changed))
        rewards = load_reward_model(folder)(TEXTS).reward
        np.testing.assert_allclose(rewards, scores(model, 0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: [weights.pop(key) for key in list(weights) if "score" in key], "no class"),
        (lambda weights: weights.pop(next(key for key in weights if "lora_A" in key)), "lora_A"),
        (lambda weights: weights.update({"base_model.model.model.x.lora_A.weight": TWO}), "x.lora"),
    ],
)
def test_an_adapter_that_lacks_weights_or_has_others_is_refused(tmp_path, change, message):
    targets = save_base(tmp_path / "base", "llama")
    folder = tmp_path / "adapter"
    save_adapter(folder, tmp_path / "base", targets)
    weights = load_file(folder / "adapter_model.safetensors")
    change(weights)
    save_file(weights, folder / "adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(ArtifactError, match=message) as error:
        load_reward_model(folder)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(folder))


TWO = torch.ones(2, 2)


def test_adapters_that_cannot_be_merged_or_have_no_base_are_named(tmp_path):
    targets = save_base(tmp_path / "base", "llama")
    folder = tmp_path / "adapter"
    save_adapter(folder, tmp_path / "base", targets)
    settings = json.loads((folder / "adapter_config.json").read_text())
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(ArtifactError, match=r"base model of the adapter in .*, is not on this"):
        load_reward_model(folder)
    for broken in ([], settings | {"base_model_name_or_path": None}):
        (folder / "adapter_config.json").write_text(json.dumps(broken))
        with pytest.raises(ArtifactError, match="names no base model"):
            load_reward_model(folder)
    save_base(tmp_path / "base", "llama")
    base = LlamaForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=1)
    prompted = PromptTuningConfig(num_virtual_tokens=2, task_type="SEQ_CLS")
    shutil.rmtree(folder)
    get_peft_model(base, prompted).save_pretrained(folder)
    with pytest.raises(ArtifactError, match="adds prompts, which cannot be merged"):
        load_reward_model(folder)


def test_a_reference_may_be_an_adapter(tmp_path):
    targets = save_base(tmp_path / "base", "llama")
    model = LlamaForCausalLM.from_pretrained(tmp_path / "base").eval()
    options = {"r": 4, "target_modules": targets, "task_type": "CAUSAL_LM"}
    model = with_seed(2, lambda: get_peft_model(model, LoraConfig(**options)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0.0, 0.3)
    model.save_pretrained(tmp_path / "adapter")
    (tmp_path / "pointed").mkdir()
    pointer = {"id": str(tmp_path / "adapter")}
    (tmp_path / "pointed" / POINTER).write_text(json.dumps(pointer))
    loaded = load_language_model(tmp_path / "pointed")
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, model(ids).logits, rtol=1e-5, atol=1e-5)
    assert type(loaded) is LlamaForCausalLM
    with pytest.raises(ArtifactError, match="no classifier head"):
        load_reward_model(tmp_path / "adapter")


def test_the_class_of_an_adapter_s_reward_is_named_by_label(tmp_path):
    targets = save_base(tmp_path / "base", "llama")
    save_adapter(tmp_path / "adapter", tmp_path / "base", targets, labels=3)
    with pytest.raises(ConfigError, match="LABEL_0, LABEL_1, LABEL_2 is POSITIVE"):
        load_reward_model(tmp_path / "adapter")
    assert load_reward_model(tmp_path / "adapter", label="LABEL_2")(TEXTS).reward.std() > 0


def test_the_base_model_is_fetched_with_its_adapter(tmp_path, monkeypatch):
    commits, revision = {"me/adapter": "1" * 40, "you/base": "2" * 40}, "3" * 40
    settings = {"base_model_name_or_path": "you/base", "revision": revision}
    for name, commit in commits.items():
        (tmp_path / name / commit).mkdir(parents=True)
    folder = tmp_path / "me/adapter" / commits["me/adapter"]
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    requests = []

    def download(name, revision, **_):
        requests.append((name, revision))
        return str(tmp_path / name / commits[name])

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", lambda *_, **__: [])
    assert fetch("some.reward_model.id", "model", "me/adapter", None) == "1" * 40
    assert requests == [("me/adapter", None), ("you/base", revision)]
    settings["base_model_name_or_path"] = str(tmp_path)  # a folder is not fetched
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    fetch("some.reward_model.id", "model", "me/adapter", None)
    assert requests[2:] == [("me/adapter", None)]

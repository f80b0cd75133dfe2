"""Room for prompts and responses in a model's context, before any work."""

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoConfig,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MptConfig,
    OPTConfig,
    RobertaConfig,
    T5Config,
)

from tests.support import make_gpt2, save_classifier, tokenizer
from vbon.cli import main
from vbon.errors import ConfigError
from vbon.models.context import context_length
from vbon.planning.config import resolve
from vbon.pool.draw import draw

ROOT = Path(__file__).parents[2]
WORDS = tokenizer()
SMALL = {"vocab_size": 50, "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8}


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        (GPT2Config(n_positions=12), 12),
        (LlamaConfig(max_position_embeddings=12), 12),
        (LlamaConfig(max_position_embeddings=12, rope_parameters={"rope_type": "linear",
         "factor": 4.0, "rope_theta": 1e4}), 48),
        (LlamaConfig(max_position_embeddings=12, rope_parameters=YARN | {"rope_theta": 1e4}), 32),
        (OPTConfig(max_position_embeddings=12), 12),  # its table has two more rows
        (MptConfig(max_seq_len=12), 12),
        (RobertaConfig(max_position_embeddings=14, is_decoder=True), 12),
        (AutoConfig.for_model("falcon", alibi=True), None),
        (AutoConfig.for_model("falcon", alibi=False, max_position_embeddings=12), 12),
        (AutoConfig.for_model("gemma3", text_config={"max_position_embeddings": 12}), 12),
        *((config, None) for config in (T5Config(), MambaConfig())),
        *((AutoConfig.for_model(name), None) for name in ("bloom", "rwkv", "xlnet")),
    ],
    ids=lambda value: getattr(value, "model_type", str(value)),
)  # fmt: skip
def test_contexts_are_those_of_the_architecture(config, limit):
    assert context_length(config) == limit


def saved(folder, config):
    """Configuration and tokenizer of a model, of which no weight is read."""
    config.save_pretrained(folder)
    WORDS.save_pretrained(folder)
    return str(folder)


def checked(tmp_path, section, verb="check-config"):
    overlay = tmp_path / "mine.yaml"
    base = {"prompts": {"max_tokens": 8}, "sampling": {"max_new_tokens": 8}}
    overlay.write_text(yaml.safe_dump({"tasks": ["sentiment"], "sentiment": base | section}))
    return main([verb, str(overlay)])


@pytest.mark.parametrize("verb", ["check-config", "plan"])
@pytest.mark.parametrize("build", [
    lambda size: GPT2Config(n_positions=size, n_embd=16, n_head=2, n_layer=1),
    lambda size: LlamaConfig(max_position_embeddings=size, intermediate_size=16, **SMALL),
], ids=["GPT-2", "Llama"])  # fmt: skip
def test_a_reference_too_short_is_refused_before_any_work(
    tmp_path, capsys, monkeypatch, build, verb
):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("vbon.cli.inspect._outdated_files", lambda overlays: set())
    folder = saved(tmp_path / "model", build(15))
    assert checked(tmp_path, {"reference": {"id": folder}}, verb) == 1
    assert capsys.readouterr().err == (
        f"vbon {verb}: sentiment.reference: {folder} has a context of 15 tokens, too few for "
        "sentiment.prompts.max_tokens = 8 and sentiment.sampling.max_new_tokens = 8 together; "
        "lower one of them, or give another reference\n"
    )
    folder = saved(tmp_path / "model", build(16))
    assert checked(tmp_path, {"reference": {"id": folder}}, verb) == 0


def test_a_model_of_the_cache_is_checked_as_a_folder_is(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    commit = "0" * 40
    snapshot = tmp_path / f"models--me--tiny/snapshots/{commit}"
    saved(snapshot, GPT2Config(n_positions=12, n_embd=16, n_head=2, n_layer=1))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert checked(tmp_path, {"reference": {"id": "me/tiny", "revision": commit}}) == 1
    assert "me/tiny has a context of 12 tokens" in capsys.readouterr().err


def test_reward_models_that_cut_are_named(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    folder = save_classifier(tmp_path / "judge")
    section = {"reward_model": {"id": str(folder)}, "sampling": {"max_new_tokens": 30}}
    assert checked(tmp_path, section) == 0
    assert (
        f"warning: sentiment.reward_model: {folder} reads 32 tokens, and prompts with their "
        "responses may have 38; longer ones are cut"
    ) in capsys.readouterr().err


def test_a_reference_built_too_short_is_refused():
    runs = {"run_methods": ["reference"], "methods": {"reference": {}}, "seeds": [0]}
    section = {"reference": {"build": {"max_tokens": 48}}, "prompts": {"max_tokens": 8}}
    for tokens in (40, 41):
        config = {**runs, "sentiment": section | {"sampling": {"max_new_tokens": tokens}}}
        if tokens == 40:
            resolve({"tasks": ["sentiment"], **config})
        else:
            with pytest.raises(ConfigError, match=r"reference\.build\.max_tokens: 48 is too short"):
                resolve({"tasks": ["sentiment"], **config})


def test_draws_beyond_the_context_are_refused_before_the_first(tmp_path):
    make_gpt2(vocab_size=len(WORDS), n_positions=12).save_pretrained(tmp_path)
    WORDS.save_pretrained(tmp_path)
    table = pd.DataFrame({"prompt_id": ["a", "b"], "prompt_ids": [[5] * 6, [7] * 5]})
    settings = {"temperatures": [1.0], "backend": "native", "prompts_per_batch": 2}
    with pytest.raises(ConfigError, match=r"its context is 12 tokens, .* prompt of 6 tokens and"):
        next(draw(table, str(tmp_path), settings | {"max_new_tokens": 7}, 2, seed=0))
    _, frame, _ = next(draw(table, str(tmp_path), settings | {"max_new_tokens": 6}, 2, seed=0))
    assert len(frame) == 4


def test_the_special_tokens_of_prompts_are_named(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    folder = saved(tmp_path / "model", GPT2Config(n_embd=16, n_head=2, n_layer=1))
    assert checked(tmp_path, {"reference": {"id": folder}}) == 0
    assert "# sentiment: prompts begin with no special token" in capsys.readouterr().out
    words = tokenizer()
    words.backend_tokenizer.post_processor = TemplateProcessing(
        single="<eos> $A", special_tokens=[("<eos>", words.eos_token_id)]
    )
    words.save_pretrained(folder)
    assert checked(tmp_path, {"reference": {"id": folder}}) == 0
    assert "# sentiment: prompts begin with <eos>" in capsys.readouterr().out
    (tmp_path / "sums.jsonl").write_text('{"prompt": "a film"}\n{"prompt": "films"}\n')
    own = {
        "kind": "prompts",
        "prompts": {"source": str(tmp_path / "sums.jsonl"), "chat": True, "num_train": 1,
                    "num_test": 1},
        "reference": {"id": folder},
        "reward_model": {"id": folder},
    }  # fmt: skip
    overlay = tmp_path / "own.yaml"
    overlay.write_text(
        yaml.safe_dump({"tasks": ["sums"], "run_methods": ["reference"], "sums": own})
    )
    assert main(["check-config", str(overlay)]) == 1
    assert "sums.prompts.chat: true needs a chat template" in capsys.readouterr().err
    for template, warning in {
        "{{ messages[0].content }}.": "prompts end with '.*', since the reference's chat template ",
        "{{ raise_exception('no') }}": r"the reference's chat template refuses its messages \(no\)",
        "{% for m in messages %}{{ m.content }} {% endfor %}": None,
    }.items():
        words.chat_template = template
        words.save_pretrained(folder)
        assert main(["check-config", str(overlay)]) == 0
        lines = [line for line in capsys.readouterr().err.splitlines() if "template" in line]
        assert len(lines) == (warning is not None)
        assert all(re.match(f"warning: sums: {warning}", line) for line in lines)

import gguf
import numpy as np
import pytest
import torch
from gguf_files import TOKENS, random_model, write_gguf
from transformers import (
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
)

from vbon.errors import DataError
from vbon.models.end_tokens import end_token_ids
from vbon.models.gguf import convert, read_config, read_header
from vbon.models.language_model import load_language_model, load_tokenizer

SIZES = {
    "vocab_size": len(TOKENS), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    "rope_theta": 5000.0, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None,
}  # fmt: skip
IDS = torch.randint(0, len(TOKENS), (3, 40), generator=torch.Generator().manual_seed(0))


def llama(**changes):
    return LlamaConfig(**{**SIZES, "rms_norm_eps": 1e-5, **changes})


def log_probs(model):
    with torch.inference_mode():
        return model(IDS).logits.log_softmax(-1)


def converted(tmp_path, config, architecture, **options):
    """The model, the model of its file, and the folder that was written."""
    original = random_model(config)
    file = write_gguf(tmp_path / "tiny.gguf", original, architecture, **options)
    convert(file, tmp_path / "folder")
    return original, load_language_model(tmp_path / "folder"), tmp_path / "folder"


CONFIGS = {
    "llama": ("llama", llama()),
    "tied": ("llama", llama(tie_word_embeddings=True)),
    "biases": ("llama", llama(attention_bias=True, mlp_bias=True)),
    "ungrouped": ("llama", llama(num_key_value_heads=4)),
    "qwen2": ("qwen2", Qwen2Config(**SIZES)),
    "qwen3": ("qwen3", Qwen3Config(**SIZES, head_dim=16)),
    "phi3": ("phi3", Phi3Config(**SIZES, sliding_window=8)),
    "gpt2": (
        "gpt2",
        GPT2Config(
            vocab_size=len(TOKENS), n_embd=32, n_layer=2, n_head=4, n_positions=64,
            bos_token_id=0, eos_token_id=1,
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_unquantised_weights_give_the_same_log_probs(tmp_path, name):
    architecture, config = CONFIGS[name]
    fields = {"phi3.attention.sliding_window": 8} if name == "phi3" else {}
    drop = ["attention.head_count_kv"] if name == "ungrouped" else []
    original, loaded, _ = converted(tmp_path, config, architecture, fields=fields, drop=drop)
    assert torch.equal(log_probs(loaded), log_probs(original))


@pytest.mark.parametrize("kind", ["Q8_0", "Q5_0", "F16", "BF16"])
def test_quantised_weights_are_those_that_the_file_contains(tmp_path, kind):
    kind = gguf.GGMLQuantizationType[kind]
    original, loaded, _ = converted(tmp_path, llama(), "llama", kind=kind)
    with torch.no_grad():
        for parameter in original.parameters():
            if parameter.ndim == 2:  # permuting rows and quantising each of them commute
                array = gguf.quants.quantize(parameter.numpy(), kind)
                parameter.copy_(torch.from_numpy(gguf.quants.dequantize(array, kind)))
    assert torch.equal(log_probs(loaded), log_probs(original))


def test_quantised_log_probs_are_near_those_of_the_original(tmp_path):
    original, loaded, _ = converted(tmp_path, llama(), "llama", kind=gguf.GGMLQuantizationType.Q8_0)
    distance = (log_probs(loaded) - log_probs(original)).abs()
    assert 0 < distance.mean() < 0.05


@pytest.mark.parametrize("kind", ["linear", "yarn", "llama3"])
def test_scaled_rotary_positions(tmp_path, kind):
    scaling = {"rope_type": kind, "factor": 4.0, "rope_theta": 5000.0}
    fields = {"llama.rope.scaling.type": kind, "llama.rope.scaling.factor": 4.0}
    extra = {}
    if kind == "yarn":
        scaling["original_max_position_embeddings"] = 16
        fields["llama.rope.scaling.original_context_length"] = 16
    if kind == "llama3":
        scaling |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
        scaling |= {"original_max_position_embeddings": 8192, "rope_theta": 5e5}
    config = llama(rope_parameters=scaling, hidden_size=256, rope_theta=scaling["rope_theta"])
    if kind == "llama3":
        plain = LlamaForCausalLM(llama(hidden_size=256, rope_theta=5e5)).model.rotary_emb.inv_freq
        factors = plain / LlamaForCausalLM(config).model.rotary_emb.inv_freq
        assert {1.0, 4.0} < set(factors.tolist())
        fields, extra = {}, {"rope_freqs.weight": factors.numpy()}
    original, loaded, _ = converted(tmp_path, config, "llama", fields=fields, extra=extra)
    assert torch.equal(log_probs(loaded), log_probs(original))


def test_the_tokenizer_has_the_tokens_of_the_file_alone(tmp_path):
    _, model, folder = converted(tmp_path, llama(), "llama")
    tokenizer = load_tokenizer(folder)
    assert len(tokenizer) == len(TOKENS)
    assert end_token_ids(tokenizer, model) == (TOKENS.index("</s>"),)
    assert model.config.eos_token_id == TOKENS.index("</s>")
    ids = tokenizer("think fin")["input_ids"]
    assert [TOKENS[number] for number in ids] == ["th", "in", "k", "Ġf", "in"]
    assert tokenizer.decode(ids) == "think fin"
    assert tokenizer.bos_token == "<s>"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("gpt-2", ["Ġf", "12", "3"]),
        ("smollm", ["Ġf", "1", "2", "3"]),
        ("qwen2", ["Ġf", "1", "2", "3"]),
        ("llama-bpe", ["<s>", "Ġf", "12", "3"]),
    ],
)
def test_words_are_split_as_the_file_says(tmp_path, kind, expected):
    """GPT-2 keeps numbers whole, Llama 3 three digits; others make each digit a word."""
    fields = {"tokenizer.ggml.pre": kind}
    _, _, folder = converted(tmp_path, llama(), "llama", fields=fields)
    ids = load_tokenizer(folder)(" f123")["input_ids"]
    assert [TOKENS[number] for number in ids] == expected


@pytest.mark.parametrize(
    ("fields", "around"),
    [
        ({}, ([], [])),
        ({"tokenizer.ggml.add_bos_token": True}, ([0], [])),
        ({"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": True}, ([0], [1])),
    ],
)
def test_texts_begin_and_end_as_the_file_says(tmp_path, fields, around):
    _, _, folder = converted(tmp_path, llama(), "llama", fields=fields)
    tokenizer = load_tokenizer(folder)
    plain = tokenizer("think", add_special_tokens=False)["input_ids"]
    assert tokenizer("think")["input_ids"] == [*around[0], *plain, *around[1]]


PIECES = {"<unk>": 0.0, "<s>": 0.0, "</s>": 0.0}
PIECES |= {f"<0x{number:02X}>": 0.0 for number in range(256)}
PIECES |= {"th": -1.0, "in": -2.0, "\u2581th": -3.0, "\u2581": -4.0}
PIECES |= {letter: -5.0 - number for number, letter in enumerate("thinkf")}


@pytest.mark.parametrize(
    ("fields", "before"),
    [
        ({}, ["<s>", "\u2581th"]),  # llama.cpp's defaults for this kind of vocabulary
        ({"tokenizer.ggml.add_bos_token": False}, ["\u2581th"]),
        ({"tokenizer.ggml.add_space_prefix": False}, ["<s>", "th"]),
    ],
)
def test_sentencepiece_vocabularies(tmp_path, fields, before):
    ids = {"tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2}
    ids["tokenizer.ggml.unknown_token_id"] = 0
    config = llama(vocab_size=len(PIECES), bos_token_id=1, eos_token_id=2)
    _, model, folder = converted(tmp_path, config, "llama", pieces=PIECES, fields=ids | fields)
    tokenizer = load_tokenizer(folder)
    assert len(tokenizer) == len(PIECES)
    assert end_token_ids(tokenizer, model) == (2,)
    tokens = [list(PIECES)[number] for number in tokenizer("think é")["input_ids"]]
    assert tokens == [*before, "in", "k", "\u2581", "<0xC3>", "<0xA9>"]
    assert (
        tokenizer.decode(tokenizer("think é")["input_ids"], skip_special_tokens=True) == "think é"
    )


def test_the_chat_template_is_kept(tmp_path):
    template = "{% for m in messages %}<s>{{ m.content }}</s>{% endfor %}"
    fields = {"tokenizer.chat_template": template}
    _, _, folder = converted(tmp_path, llama(), "llama", fields=fields)
    assert load_tokenizer(folder).chat_template == template


def test_the_types_of_the_weights_are_described(tmp_path):
    kind = gguf.GGMLQuantizationType.Q8_0
    _, _, folder = converted(tmp_path, llama(), "llama", kind=kind)
    words = "tiny.gguf, dequantised to float32: 99.5% of the weights were Q8_0, 0.452% F32"
    assert words in (folder / "README.md").read_text()
    assert "quantization_config" not in (folder / "config.json").read_text()


def refused(path, *words):
    with pytest.raises(DataError) as error:
        read_config(read_header(path))
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_or_cut_file_is_refused(tmp_path):
    refused(tmp_path / "no.gguf", "no.gguf does not exist", "give a .gguf file")
    file = write_gguf(tmp_path / "tiny.gguf", random_model(llama()), "llama")
    content = file.read_bytes()
    for size in (0, 3, 100, 3000, len(content) - 5000):
        (tmp_path / "cut.gguf").write_bytes(content[:size])
        refused(tmp_path / "cut.gguf", "cut.gguf: is not a complete GGUF file", "fetch it again")


def test_what_the_loader_would_leave_out_is_refused(tmp_path):
    model = random_model(llama())
    for fields, words in (
        ({"llama.rope.scaling.type": "longrope"}, "scaled in a way that is not supported"),
        ({"llama.logit_scale": 0.25}, "llama.logit_scale = 0.25 would be ignored"),
        ({"tokenizer.ggml.pre": "nosuch"}, "splits texts in a way that transformers does not"),
        ({"split.count": 3}, "is one of 3 parts; join them with `llama-gguf-split --merge`"),
    ):
        refused(write_gguf(tmp_path / "a.gguf", model, "llama", fields=fields), words)
    refused(write_gguf(tmp_path / "b.gguf", model, "llama", drop=["tokenizer"]), "has no tokenizer")
    factors = {"rope_freqs.weight": np.array([1, 2, 3, 5], dtype=np.float32)}
    refused(write_gguf(tmp_path / "c.gguf", model, "llama", extra=factors), "not those of Llama 3")


@pytest.mark.parametrize("architecture", ["rwkv7", "t5", "nosuch"])
def test_other_architectures_are_refused(tmp_path, architecture):
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", architecture)
    writer.add_block_count(2)
    writer.add_token_list(TOKENS)
    writer.add_tensor("token_embd.weight", np.zeros((4, 4), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    refused(tmp_path / "a.gguf", f"architecture {architecture!r}")


@pytest.mark.parametrize("change", ["missing", "further"])
def test_every_weight_is_loaded(tmp_path, change):
    """No tensor is initialised at random or left out."""
    drop = ["blk.1.ffn_up.weight"] if change == "missing" else []
    extra = {"blk.0.attn_rot_embd.weight": np.ones(7, dtype=np.float32)}
    options = {"drop": drop, "extra": extra if change == "further" else {}}
    file = write_gguf(tmp_path / "tiny.gguf", random_model(llama()), "llama", **options)
    with pytest.raises(DataError, match=r"has \d+ weights, of which transformers loads \d+"):
        convert(file, tmp_path / "folder")

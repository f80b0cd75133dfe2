"""Tiny GGUF files, written as llama.cpp's converter writes them."""

from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode

BYTES = sorted(bytes_to_unicode().values())
TOKENS = ["<s>", "</s>", *BYTES, "th", "Ġf", "in", "12"]
MERGES = ["t h", "Ġ f", "i n", "1 2"]


def random_model(config, scale=0.3):
    """A causal model whose weights are large enough for every part to matter."""
    generator = torch.Generator().manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, scale, generator=generator)
    return model


def write_gguf(
    path: Path, model, architecture: str, kind=None, fields=None, drop=(), extra=None, pieces=None,
    words=(),
):  # fmt: skip
    """Write a model and a byte-level tokenizer.

    Args:
        path: File to write.
        model: A causal model of transformers.
        architecture: Its name in GGUF.
        kind: Quantised type of all matrices; None for F32.
        fields: Further values by key.
        drop: Keys of the architecture, or names of tensors, to leave out.
        extra: Further tensors by name.
        pieces: Scores by token of a SentencePiece vocabulary, instead of the byte-level one.
        words: Further byte-level tokens, which a model may draw and no text is split into.
    """
    config, writer = model.config, gguf.GGUFWriter(path, architecture)
    heads, keys = config.num_attention_heads, getattr(config, "num_key_value_heads", None)
    rope = getattr(config, "rope_parameters", None)
    values = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": getattr(config, "intermediate_size", None),
        "attention.head_count": heads,
        "attention.head_count_kv": keys,
        "attention.key_length": getattr(config, "head_dim", None),
        "attention.layer_norm_rms_epsilon": getattr(config, "rms_norm_eps", None),
        "attention.layer_norm_epsilon": getattr(config, "layer_norm_epsilon", None),
        "rope.freq_base": rope and rope["rope_theta"],
    }
    named = {f"{architecture}.{key}": value for key, value in values.items() if key not in drop}
    fields = dict(fields or {})
    pre = fields.pop("tokenizer.ggml.pre", "gpt-2")
    named |= {"tokenizer.ggml.bos_token_id": 0, "tokenizer.ggml.eos_token_id": 1, **fields}
    for key, value in named.items():
        if value is not None:
            types = {bool: "BOOL", int: "UINT32", float: "FLOAT32", str: "STRING"}
            writer.add_key_value(key, value, gguf.GGUFValueType[types[type(value)]])
    if pieces is not None:
        kinds = {"<unk>": 2, "<s>": 3, "</s>": 3}
        writer.add_tokenizer_model("llama")
        writer.add_token_list(list(pieces))
        writer.add_token_scores(list(pieces.values()))
        writer.add_token_types([kinds.get(piece, 6 if piece[0] == "<" else 1) for piece in pieces])
    elif "tokenizer" not in drop:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list([*TOKENS, *words])
        writer.add_token_merges(MERGES)
        writer.add_token_types([3, 3, *[1] * (len(TOKENS) + len(words) - 2)])
    names = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}
    mapped = gguf.get_tensor_name_map(names.get(architecture, 0), config.num_hidden_layers)
    tensors = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        array = tensor.numpy()
        if architecture == "llama" and (".q_proj." in name or ".k_proj." in name):
            parts = heads if ".q_proj." in name else keys
            shape = parts, 2, len(array) // parts // 2, *array.shape[1:]
            array = array.reshape(shape).swapaxes(1, 2).reshape(array.shape)
        if ".c_" in name and array.ndim == 2:
            array = array.T
        tensors[mapped.get_name(name, (".weight", ".bias"))] = np.ascontiguousarray(array)
    for name, array in {**tensors, **(extra or {})}.items():
        if name in drop:
            continue
        if kind is None or array.ndim != 2:
            writer.add_tensor(name, array)
        else:
            writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path

"""Tiny random models of many architectures, and docs/reference/models.md: the path of each.

``python docs/architectures.py`` writes the page; a test compares it with what is measured.
"""

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from vbon.errors import ConfigError
from vbon.models.paths import path_of

PAGE = Path(__file__).parent / "reference" / "models.md"
_SIZES = {
    **{"vocab_size": 67, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "max_position_embeddings": 64, "initializer_range": 0.3},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
    **dict.fromkeys(("hidden_dropout", "attention_dropout"), 0.0),
    **dict.fromkeys(("embd_pdrop", "resid_pdrop", "attn_pdrop"), 0.0),
}
_GROUPED = {"num_key_value_heads": 2, "head_dim": 8}
_WINDOW = {**_GROUPED, "sliding_window": 4}
_EXPERTS = {
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 32),
    **{"num_experts_per_tok": 2, "num_key_value_heads": 2},
}
_LATENT = {
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 16),
    **{"qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8, "head_dim": 4},
    **dict.fromkeys(("n_group", "topk_group", "first_k_dense_replace"), 1),
    **{"num_key_value_heads": 4},
}
_DECODER = {
    **{"d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 64},
    **{"encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 64},
}
_STATE = {"state_size": 8}
_CAUSAL = {"is_decoder": True}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    **{key: {} for key in ("gpt2", "gpt_neox", "gpt_bigcode", "openai-gpt", "bloom", "biogpt")},
    **{key: {} for key in ("bert", "roberta", "electra", "camembert", "xlm-roberta")},
    **dict.fromkeys(("llama", "qwen2", "qwen3", "smollm3", "gemma", "cohere"), _GROUPED),
    **dict.fromkeys(("phi", "phi3", "olmo", "olmo2", "stablelm", "persimmon"), _GROUPED),
    **dict.fromkeys(("nemotron", "helium", "glm", "glm4", "ernie4_5", "seed_oss"), _GROUPED),
    **dict.fromkeys(("arcee", "apertus", "diffllama", "hunyuan_v1_dense", "lfm2"), _GROUPED),
    **dict.fromkeys(("bitnet", "nanochat", "starcoder2"), _GROUPED),
    **dict.fromkeys(("gemma2", "gemma3_text", "vaultgemma", "cohere2", "olmo3"), _WINDOW),
    **dict.fromkeys(("exaone4", "modernbert-decoder"), _WINDOW),
    **dict.fromkeys(("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "granitemoe"), _EXPERTS),
    **dict.fromkeys(("phimoe", "ernie4_5_moe", "jetmoe", "minimax"), _EXPERTS),
    **dict.fromkeys(("bart", "mbart", "pegasus", "blenderbot", "trocr", "plbart"), _DECODER),
    **dict.fromkeys(("bigbird_pegasus", "blenderbot-small", "whisper"), _DECODER),
    **dict.fromkeys(("mamba", "falcon_mamba"), _STATE),
    **dict.fromkeys(("megatron-bert", "roformer", "rembert", "big_bird"), _CAUSAL),
    "mistral": {**_GROUPED, "sliding_window": None},
    "mistral, window": _WINDOW,
    "falcon": {"alibi": False},
    "falcon, alibi": {"alibi": True, "new_decoder_architecture": False},
    "bert, decoder": _CAUSAL,
    "roberta, decoder": {**_CAUSAL, "pad_token_id": 1},
    "granite": {**_GROUPED, "logits_scaling": 8.0},
    "gpt_oss": {**_EXPERTS, **_WINDOW},
    "deepseek_v2": {**_EXPERTS, **_LATENT},
    "deepseek_v3": {**_EXPERTS, **_LATENT},
    "llama4_text": {**_EXPERTS, "intermediate_size_mlp": 64, "attention_chunk_size": 4},
    "gpt_neo": {
        **{"num_layers": 2, "num_heads": 4, "window_size": 4},
        "attention_types": [[["global", "local"], 1]],
    },
    "gptj": {"rotary_dim": 4},
    "codegen": {"rotary_dim": 4},
    "ctrl": {"dff": 64},
    "mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 64},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "xglm": {"d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 64},
    "marian": {**_DECODER, "decoder_vocab_size": 67},
    "mamba2": {**_STATE, "num_heads": 8, "head_dim": 8, "n_groups": 2},
    "rwkv": {"attention_hidden_size": 32},
    "recurrent_gemma": {
        **{"num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 4},
        "intermediate_size": 96,
    },
    "jamba": {
        **{"num_hidden_layers": 8, "mamba_d_state": 8, "mamba_dt_rank": 4},
        **{"use_mamba_kernels": False, "num_experts": 4, "num_key_value_heads": 2},
    },
    "falcon_h1": {
        **{"mamba_d_state": 8, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8},
        **{"mamba_n_groups": 1, "num_key_value_heads": 2},
    },
    "xlm": {"emb_dim": 32, "n_layers": 2, "n_heads": 4},
    "reformer": {
        **{"is_decoder": True, "axial_pos_embds": False, "attn_layers": ["local", "local"]},
        **{"feed_forward_size": 64, "attention_head_size": 8},
    },
}  # fmt: skip
"""Settings of each model beside the common sizes; a variant of a type follows a comma."""
_PATHS = {
    "fast": (
        "Right and fast",
        "Forward pass and decoding of this package: a prompt is encoded once for all its draws.",
    ),
    "padded": (
        "Right, with the library's body",
        "The model's own modules, with a cache, in padded batches; a prompt is encoded once.",
    ),
    "by length": (
        "Right, by length",
        "The same in batches of prompts of one length: padding would change log-probs (windows, "
        "positions, biases by distance). Slow where prompts have many lengths.",
    ),
    "own forward": (
        "Right and slow",
        "The model's complete forward pass for each new token, without a cache.",
    ),
    "refused": ("Refused", "Before any work, in one line."),
}


def make(name: str) -> PreTrainedModel:
    """A tiny model with random weights, in evaluation mode."""
    kind = name.partition(",")[0]
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**_SIZES, **ARCHITECTURES[name]})
    return AutoModelForCausalLM.from_config(config).eval()


def outcome(model: PreTrainedModel) -> tuple[str, str]:
    """Name of a model's path, or ``refused``, and the reason of the latter."""
    try:
        return path_of(model).name, ""
    except ConfigError as error:
        return "refused", str(error).partition(" is refused, since ")[2].partition(";")[0]


def page(outcomes: dict[str, tuple[str, str]]) -> str:
    """docs/reference/models.md with lists of these models by path; its text stays.

    Args:
        outcomes: :func:`outcome` of each of :data:`ARCHITECTURES`.
    """
    parts = []
    for path, (title, text) in _PATHS.items():
        rows = sorted(name for name, (mine, _) in outcomes.items() if mine == path)
        names = [f"`{name}`" for name in rows]
        if path == "refused":
            names = [f"`{name}` ({outcomes[name][1]})" for name in rows]
        parts.append(f"## {title}: {len(rows)}\n\n{text}\n\n{', '.join(names)}.\n")
    return PAGE.read_text().partition("## ")[0] + "\n".join(parts)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    PAGE.write_text(page({name: outcome(make(name)) for name in ARCHITECTURES}))

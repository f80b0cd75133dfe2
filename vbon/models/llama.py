"""Llama and the models built of the same parts for :mod:`vbon.models.fast`.

These have RMS norms, rotary positions, grouped queries and a gated MLP; Qwen3 also norms queries
and keys, and some blocks of SmolLM3 have no positions.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from vbon.models import fast

_PREFIXES = ("Llama", "Mistral", "Ministral", "Qwen2", "Qwen3", "SmolLM3", "Cwm")
_MODULES = {
    f"transformers.models.{name.lower()}.modeling_{name.lower()}": name for name in _PREFIXES
}
# Frequencies that depend on the length of a batch ("dynamic", "longrope") cannot be cached.
_ROTATIONS = ("default", "linear", "llama3", "yarn")


def supports(model: nn.Module) -> bool:
    """Return True if ``model`` is of such a class and this module implements its configuration.

    Classes are compared exactly, since many others derive from these and compute something else.
    """
    prefix = _MODULES.get(type(model).__module__)
    if not _has_class(model, f"{prefix}ForCausalLM", f"{prefix}ForSequenceClassification"):
        return False
    config, body = model.config, model.model
    size = 2 * len(body.rotary_emb.inv_freq)
    return (
        getattr(config, "is_causal", True)
        and config.hidden_act in ("silu", "swish")
        and config.rope_parameters["rope_type"] in _ROTATIONS
        and not config.attention_dropout
        and not _slides(config, prefix)
        and _has_class(body, f"{prefix}Model")
        and len(body.layers) == config.num_hidden_layers
        and all(_consists_of(block, prefix, size) for block in body.layers)
    )


def _has_class(module: nn.Module, *names: str) -> bool:
    return type(module).__module__ in _MODULES and type(module).__name__ in names


def _slides(config: PreTrainedConfig, prefix: str) -> bool:
    """Return True if some layer attends to a window of the previous tokens only."""
    layers = getattr(config, "layer_types", None)
    if layers is None or prefix == "Mistral":  # which has one window for all layers
        return getattr(config, "sliding_window", None) is not None
    return set(layers) != {"full_attention"}


def _consists_of(block: nn.Module, prefix: str, size: int) -> bool:
    """Return True if a block has the modules that its class creates, and heads of this size."""
    return (
        _has_class(block, f"{prefix}DecoderLayer")
        and _has_class(block.self_attn, f"{prefix}Attention")
        and _has_class(block.mlp, f"{prefix}MLP")
        and _has_class(block.input_layernorm, f"{prefix}RMSNorm")
        and _has_class(block.post_attention_layernorm, f"{prefix}RMSNorm")
        and block.self_attn.head_dim == size
    )


class _Body(fast.Body):
    """RMS norms, rotary positions, grouped queries and a gated MLP."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.body = model.model
        self.blocks, self.final_norm = self.body.layers, self.body.norm

    def norm(self, module: nn.Module, x: Tensor) -> Tensor:
        """RMS norm, in float32 whatever the model's precision, as in the library."""
        eps = module.variance_epsilon
        if x.dtype == module.weight.dtype == torch.float32:
            return F.rms_norm(x, module.weight.shape, module.weight, eps)
        return module.weight * F.rms_norm(x.float(), module.weight.shape, eps=eps).to(x.dtype)

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        return self.body.embed_tokens(tokens)

    def rotation(self, positions: Tensor) -> fast.Rotation:
        return fast.Rotation(self.body.rotary_emb, self.body.embed_tokens.weight, positions)

    def qkv(self, block: nn.Module, x: Tensor, rotation: fast.Rotation) -> tuple[Tensor, ...]:
        attention, x = block.self_attn, self.norm(block.input_layernorm, x)
        projections = attention.q_proj, attention.k_proj, attention.v_proj
        query, key, value = (
            fast.linear(part, x).view(len(x), -1, attention.head_dim) for part in projections
        )
        if hasattr(attention, "q_norm"):
            query, key = self.norm(attention.q_norm, query), self.norm(attention.k_norm, key)
        if getattr(attention, "use_rope", True):
            query, key = rotation(query), rotation(key)
        return query, key, value

    def add(self, block: nn.Module, x: Tensor, attended: Tensor) -> Tensor:
        x = x + fast.linear(block.self_attn.o_proj, attended)
        mlp, inner = block.mlp, self.norm(block.post_attention_layernorm, x)
        gate = F.silu(fast.linear(mlp.gate_proj, inner))
        return x + fast.linear(mlp.down_proj, gate * fast.linear(mlp.up_proj, inner))


hidden_states, Decoder = partial(fast.hidden_states, _Body), partial(fast.Decoder, _Body)
output_logits = fast.output_logits

"""GPT-NeoX for :mod:`vbon.models.fast`; also the body of a scalar reward model."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GPTNeoXForCausalLM, GPTNeoXForSequenceClassification
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXLayer

from vbon.models import fast


def supports(model: torch.nn.Module) -> bool:
    """Return True if ``model`` is a GPT-NeoX whose configuration this module implements."""
    if type(model) not in (GPTNeoXForCausalLM, GPTNeoXForSequenceClassification):
        return False
    config = model.config
    return (
        getattr(config, "is_causal", True)
        and config.hidden_act == "gelu"
        and config.rope_parameters["rope_type"] == "default"
        and not (config.attention_dropout or config.hidden_dropout)
    )


class _Body(fast.Body):
    """GPT-NeoX's rotary positions and, if configured, parallel residuals."""

    def __init__(self, model: GPTNeoXForCausalLM | GPTNeoXForSequenceClassification) -> None:
        self.body = model.gpt_neox
        self.blocks, self.final_norm = self.body.layers, self.body.final_layer_norm

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        return self.body.embed_in(tokens)

    def rotation(self, positions: Tensor) -> fast.Rotation:
        return fast.Rotation(self.body.rotary_emb, self.body.embed_in.weight, positions)

    def qkv(self, block: GPTNeoXLayer, x: Tensor, rotation: fast.Rotation) -> tuple[Tensor, ...]:
        joined = fast.linear(block.attention.query_key_value, self.norm(block.input_layernorm, x))
        # The weights store query, key and value of a head side by side.
        joined = joined.view(len(x), self.body.config.num_attention_heads, -1)
        query, key, value = joined.chunk(3, -1)
        return rotation(query), rotation(key), value

    def add(self, block: GPTNeoXLayer, x: Tensor, attended: Tensor) -> Tensor:
        total = x + fast.linear(block.attention.dense, attended)
        inner = x if block.use_parallel_residual else total
        inner = fast.linear(
            block.mlp.dense_h_to_4h, self.norm(block.post_attention_layernorm, inner)
        )
        return total + fast.linear(block.mlp.dense_4h_to_h, F.gelu(inner))


hidden_states, Decoder = partial(fast.hidden_states, _Body), partial(fast.Decoder, _Body)
output_logits = fast.output_logits

"""GPT-NeoX for :mod:`vbon.models.fast`; also the body of a scalar reward model."""

from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import GPTNeoXForCausalLM, GPTNeoXForSequenceClassification, GPTNeoXModel
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXLayer

from vbon.models import fast


def supports(model: torch.nn.Module) -> bool:
    """Return True if ``model`` is a GPT-NeoX whose configuration this module implements."""
    if not isinstance(model, (GPTNeoXForCausalLM, GPTNeoXForSequenceClassification)):
        return False
    config = model.config
    return (
        config.hidden_act == "gelu"
        and config.rope_parameters["rope_type"] == "default"
        and not (config.attention_dropout or config.hidden_dropout)
    )


class _Rotary:
    """Rotary embedding of queries and keys at given positions."""

    def __init__(self, body: GPTNeoXModel, positions: Int[Tensor, "*positions"]) -> None:
        # In float32 whatever the model's precision, as in the library.
        angles = positions[..., None].float() * body.rotary_emb.inv_freq.float()
        kind = body.embed_in.weight.dtype
        both = angles.cos(), angles.sin()
        self._cos, self._sin = (torch.cat((part, part), -1).to(kind) for part in both)

    def __call__(self, x: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        size = self._cos.shape[-1]
        part = x[..., :size]
        first, second = part.chunk(2, -1)
        rotated = part * self._cos + torch.cat((-second, first), -1) * self._sin
        return rotated if size == x.shape[-1] else torch.cat((rotated, x[..., size:]), -1)


class _Body(fast.Body):
    """GPT-NeoX's rotary positions and, if configured, parallel residuals."""

    def __init__(self, model: GPTNeoXForCausalLM | GPTNeoXForSequenceClassification) -> None:
        self.body = model.gpt_neox
        self.blocks, self.final_norm = self.body.layers, self.body.final_layer_norm

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        return self.body.embed_in(tokens)

    def rotation(self, positions: Tensor) -> _Rotary:
        return _Rotary(self.body, positions)

    def qkv(self, block: GPTNeoXLayer, x: Tensor) -> tuple[Tensor, ...]:
        joined = block.attention.query_key_value(fast.norm(block.input_layernorm, x))
        # The weights store query, key and value of a head side by side.
        return joined.view(len(x), self.body.config.num_attention_heads, -1).chunk(3, -1)

    def add(self, block: GPTNeoXLayer, x: Tensor, attended: Tensor) -> Tensor:
        total = x + block.attention.dense(attended)
        inner = x if block.use_parallel_residual else total
        return total + block.mlp(fast.norm(block.post_attention_layernorm, inner))


hidden_states, Decoder = partial(fast.hidden_states, _Body), partial(fast.Decoder, _Body)

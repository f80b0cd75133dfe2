"""GPT-NeoX on the parameters of Hugging Face's module, with fewer and larger operations.

As :mod:`vbon.models.gpt2`, with rotary positions and, if the model has it, a parallel residual.
Also for the body of a scalar reward model. Agrees with the library's ``forward`` (a test).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from transformers import GPTNeoXForCausalLM, GPTNeoXForSequenceClassification, GPTNeoXModel
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXLayer

from vbon.batches import Prompts
from vbon.models.checkpointing import call
from vbon.models.prefix import PrefixCache, attend_once


def supports(model: torch.nn.Module) -> bool:
    """Whether ``model`` is a GPT-NeoX whose configuration this module implements."""
    if not isinstance(model, (GPTNeoXForCausalLM, GPTNeoXForSequenceClassification)):
        return False
    config = model.config
    return (
        config.hidden_act == "gelu"
        and config.rope_parameters["rope_type"] == "default"
        and not (config.attention_dropout or config.hidden_dropout)
    )


def _norm(module: torch.nn.LayerNorm, x: Tensor) -> Tensor:
    return F.layer_norm(x, module.normalized_shape, module.weight, module.bias, module.eps)


class _Rotary:
    """Turns queries and keys by their positions."""

    def __init__(self, body: GPTNeoXModel, positions: Int[Tensor, "*positions"]) -> None:
        # In single precision whatever the model's, as the library does it.
        angles = positions[..., None].float() * body.rotary_emb.inv_freq.float()
        kind = body.embed_in.weight.dtype
        both = angles.cos(), angles.sin()
        self._cos, self._sin = (torch.cat((part, part), -1).to(kind) for part in both)

    def __call__(self, x: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        turned = self._cos.shape[-1]
        part = x[..., :turned]
        first, second = part.chunk(2, -1)
        rotated = part * self._cos + torch.cat((-second, first), -1) * self._sin
        return rotated if turned == x.shape[-1] else torch.cat((rotated, x[..., turned:]), -1)


def _add(block: GPTNeoXLayer, x: Tensor, attended: Tensor) -> Tensor:
    """A block's output from its input and what its heads attended to."""
    attended = block.attention.dense(attended)
    if not block.use_parallel_residual:
        x = x + attended
        return x + block.mlp(_norm(block.post_attention_layernorm, x))
    return x + attended + block.mlp(_norm(block.post_attention_layernorm, x))


def _qkv(block: GPTNeoXLayer, x: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [..., heads, size]; a head's three stand together in the weights."""
    joined = block.attention.query_key_value(_norm(block.input_layernorm, x))
    return joined.view(*joined.shape[:-1], heads, -1).chunk(3, -1)


def hidden_states(
    model: GPTNeoXForCausalLM | GPTNeoXForSequenceClassification,
    input_ids: Int[Tensor, "batch tokens"],
    at: Int[Tensor, " counted"],
    one_a_row: bool = False,
) -> Float[Tensor, "counted width"]:
    """Final hidden states of right-padded sequences; positions count from the first token.

    The last block goes on with those at ``at`` alone: other positions are but keys and values. With
    ``one_a_row`` there is one for each sequence, and others are not asked what they attend to.
    """
    return encode(model.gpt_neox, input_ids, at, one_a_row=one_a_row)[0]


def encode(
    body: GPTNeoXModel,
    input_ids: Int[Tensor, "batch tokens"],
    at: Int[Tensor, " counted"],
    keep_cache: bool = False,
    one_a_row: bool = False,
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Final hidden states at some positions, and each layer's keys and values."""
    (batch, length), heads = input_ids.shape, body.config.num_attention_heads
    x = body.embed_in(input_ids)
    turn = _Rotary(body, torch.arange(length, device=x.device))
    cache = []

    def pass_through(block: GPTNeoXLayer, x: Tensor) -> Tensor:
        query, key, value = (part.transpose(1, 2) for part in _qkv(block, x, heads))
        query, key = turn(query), turn(key)
        if keep_cache:
            cache.append((key.contiguous(), value.contiguous()))
        last = block is body.layers[-1]
        if last and one_a_row:
            return _add(block, x.flatten(0, 1)[at], attend_once(query, key, value, at))
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        attended = attended.transpose(1, 2).reshape(batch, length, -1)
        if last:
            attended, x = (part.flatten(0, 1).index_select(0, at) for part in (attended, x))
        return _add(block, x, attended)

    for block in body.layers:
        x = call(body, pass_through, block, x)
    return _norm(body.final_layer_norm, x), cache


class Decoder:
    """Incremental decoding of ``draws`` responses to each prompt, row ``p * draws + d``."""

    def __init__(
        self, model: GPTNeoXForCausalLM, prompts: Prompts, draws: int, max_new_tokens: int
    ) -> None:
        self._body, self._step = model.gpt_neox, 0
        starts = torch.arange(len(prompts), device=prompts.ids.device) * prompts.ids.shape[1]
        last, prefix = encode(self._body, prompts.ids, starts + prompts.lengths - 1, True)
        self.hidden = last.repeat_interleave(draws, 0)
        self._position = prompts.lengths.repeat_interleave(draws)
        self._cache = PrefixCache(prefix, prompts, draws, max_new_tokens)

    def step(self, tokens: Int[Tensor, " rows"]) -> Float[Tensor, "rows width"]:
        """Append one token to each row; return the hidden state that predicts the next."""
        x = self._body.embed_in(tokens)
        turn = _Rotary(self._body, (self._position + self._step)[:, None])
        for layer, block in enumerate(self._body.layers):
            query, key, value = _qkv(block, x, self._body.config.num_attention_heads)
            x = _add(block, x, self._cache.attend(layer, turn(query), turn(key), value))
        self._step += 1
        self._cache.advance()
        self.hidden = _norm(self._body.final_layer_norm, x)
        return self.hidden

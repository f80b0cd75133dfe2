"""GPT-2 on the parameters of Hugging Face's module, with fewer and larger operations.

The forward pass needs no attention mask because batches are padded on the right, and the decoder
keeps one key-value cache for each *prompt* and one for each response, so a prompt that is answered
600 times is encoded and stored once. Both agree with ``GPT2LMHeadModel.forward`` (a test).
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from transformers import GPT2ForSequenceClassification, GPT2LMHeadModel
from transformers.models.gpt2.modeling_gpt2 import GPT2Block
from transformers.pytorch_utils import Conv1D

from vbon.batches import Prompts
from vbon.models.checkpointing import call
from vbon.models.prefix import PrefixCache, attend_once


def supports(model: torch.nn.Module) -> bool:
    """Whether ``model`` is a GPT-2 whose configuration this module implements."""
    if not isinstance(model, (GPT2LMHeadModel, GPT2ForSequenceClassification)):
        return False
    config = model.config
    return (
        config.activation_function in ("gelu_new", "gelu_pytorch_tanh")
        and config.scale_attn_weights
        and not config.scale_attn_by_inverse_layer_idx
        and not config.add_cross_attention
        and not (config.resid_pdrop or config.embd_pdrop or config.attn_pdrop)
    )


def _norm(module: torch.nn.LayerNorm, x: Tensor) -> Tensor:
    return F.layer_norm(x, module.normalized_shape, module.weight, module.bias, module.eps)


def _linear(module: torch.nn.Module, x: Tensor) -> Tensor:
    """Hugging Face's ``Conv1D``: its weight is stored [in, out]."""
    if type(module) is Conv1D:
        return torch.addmm(module.bias, x, module.weight)
    return _adapted(module, x)


def _adapted(module: torch.nn.Module, x: Tensor) -> Tensor:
    """The layer with its low-rank update, which is added in place of a second full product."""
    adapters = module.active_adapters
    if len(adapters) != 1 or module.merged or module.disable_adapters or module.lora_variant:
        return module(x)
    name = adapters[0]
    low = F.linear(module.lora_dropout[name](x), module.lora_A[name].weight)
    up, scale = module.lora_B[name].weight.to(low.dtype), module.scaling[name]
    return _linear(module.base_layer, x).addmm_(low, up.t(), alpha=scale)


def _mlp(block: GPT2Block, x: Tensor) -> Tensor:
    inner = _linear(block.mlp.c_fc, _norm(block.ln_2, x))
    return x + _linear(block.mlp.c_proj, F.gelu(inner, approximate="tanh"))


def hidden_states(
    model: GPT2LMHeadModel | GPT2ForSequenceClassification,
    input_ids: Int[Tensor, "batch tokens"],
    at: Int[Tensor, " counted"],
    one_a_row: bool = False,
) -> Float[Tensor, "counted width"]:
    """Final hidden states of right-padded sequences; positions count from the first token.

    The last block goes on with those at ``at`` alone: other positions are but keys and values. With
    ``one_a_row`` there is one for each sequence, and others are not asked what they attend to.
    """
    states, _ = _encode(model, input_ids, keep_cache=False, at=at, one_a_row=one_a_row)
    return states


def _encode(
    model: GPT2LMHeadModel | GPT2ForSequenceClassification,
    input_ids: Tensor,
    keep_cache: bool,
    at: Tensor,
    one_a_row: bool = False,
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Final hidden states, and each layer's keys and values [batch, heads, tokens, size]."""
    body, (batch, length) = model.transformer, input_ids.shape
    heads, width = body.config.n_head, body.config.n_embd
    x = F.embedding(input_ids, body.wte.weight) + body.wpe.weight[:length]
    x = x.view(batch * length, width)
    cache = []

    def pass_through(block: GPT2Block, x: Tensor) -> Tensor:
        qkv = _linear(block.attn.c_attn, _norm(block.ln_1, x))
        query, key, value = qkv.view(batch, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        if keep_cache:
            # Contiguous once, or every decoding step would copy them again.
            cache.append((key.contiguous(), value.contiguous()))
        last = block is body.h[-1]
        if last and one_a_row:
            attended = attend_once(query, key, value, at)
            return _mlp(block, x[at] + _linear(block.attn.c_proj, attended))
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        attended = attended.transpose(1, 2).reshape(batch * length, width)
        if last:
            attended, x = attended.index_select(0, at), x.index_select(0, at)
        return _mlp(block, x + _linear(block.attn.c_proj, attended))

    for block in body.h:
        x = call(model, pass_through, block, x)
    return _norm(body.ln_f, x), cache


class Decoder:
    """Incremental decoding of ``draws`` responses to each prompt, row ``p * draws + d``."""

    def __init__(
        self, model: GPT2LMHeadModel, prompts: Prompts, draws: int, max_new_tokens: int
    ) -> None:
        self._model, self._step = model, 0
        starts = torch.arange(len(prompts), device=prompts.ids.device) * prompts.ids.shape[1]
        last, prefix = _encode(model, prompts.ids, keep_cache=True, at=starts + prompts.lengths - 1)
        self.hidden = last.repeat_interleave(draws, 0)
        self._position = prompts.lengths.repeat_interleave(draws)
        self._cache = PrefixCache(prefix, prompts, draws, max_new_tokens)

    def step(self, tokens: Int[Tensor, " rows"]) -> Float[Tensor, "rows width"]:
        """Append one token to each row; return the hidden state that predicts the next."""
        body, rows = self._model.transformer, len(tokens)
        x = F.embedding(tokens, body.wte.weight) + body.wpe.weight[self._position + self._step]
        for layer, block in enumerate(body.h):
            qkv = _linear(block.attn.c_attn, _norm(block.ln_1, x))
            parts = qkv.view(rows, 3, body.config.n_head, -1).unbind(1)
            x = x + _linear(block.attn.c_proj, self._cache.attend(layer, *parts))
            x = _mlp(block, x)
        self._step += 1
        self._cache.advance()
        self.hidden = _norm(body.ln_f, x)
        return self.hidden

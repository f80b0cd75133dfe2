"""GPT-2 for :mod:`vbon.models.fast`."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GPT2ForSequenceClassification, GPT2LMHeadModel
from transformers.models.gpt2.modeling_gpt2 import GPT2Block
from transformers.pytorch_utils import Conv1D

from vbon.models import fast


def supports(model: torch.nn.Module) -> bool:
    """Return True if ``model`` is a GPT-2 whose configuration this module implements."""
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


def _linear(module: torch.nn.Module, x: Tensor) -> Tensor:
    """Output of Hugging Face's ``Conv1D``, whose weight is [in, out], or of its adapted form."""
    if type(module) is Conv1D:
        return torch.addmm(module.bias, x, module.weight)
    return _adapted(module, x)


def _adapted(module: torch.nn.Module, x: Tensor) -> Tensor:
    """Output of a layer with a low-rank update, added in place instead of by a full product."""
    adapters = module.active_adapters
    if len(adapters) != 1 or module.merged or module.disable_adapters or module.lora_variant:
        return module(x)
    name = adapters[0]
    low = F.linear(module.lora_dropout[name](x), module.lora_A[name].weight)
    up, scale = module.lora_B[name].weight.to(low.dtype), module.scaling[name]
    return _linear(module.base_layer, x).addmm_(low, up.t(), alpha=scale)


class _Body(fast.Body):
    """GPT-2's learned positions and sequential residuals."""

    def __init__(self, model: GPT2LMHeadModel | GPT2ForSequenceClassification) -> None:
        self.body = model.transformer
        self.blocks, self.final_norm = self.body.h, self.body.ln_f

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        return F.embedding(tokens, self.body.wte.weight) + self.body.wpe.weight[positions]

    def qkv(self, block: GPT2Block, x: Tensor) -> tuple[Tensor, ...]:
        joined = _linear(block.attn.c_attn, fast.norm(block.ln_1, x))
        return joined.view(len(x), 3, self.body.config.n_head, -1).unbind(1)

    def add(self, block: GPT2Block, x: Tensor, attended: Tensor) -> Tensor:
        x = x + _linear(block.attn.c_proj, attended)
        inner = _linear(block.mlp.c_fc, fast.norm(block.ln_2, x))
        return x + _linear(block.mlp.c_proj, F.gelu(inner, approximate="tanh"))


hidden_states, Decoder = partial(fast.hidden_states, _Body), partial(fast.Decoder, _Body)

"""GPT-2 for :mod:`vbon.models.fast`."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GPT2ForSequenceClassification, GPT2LMHeadModel
from transformers.models.gpt2.modeling_gpt2 import GPT2Block

from vbon.models import fast


def supports(model: torch.nn.Module) -> bool:
    """Return True if ``model`` is a GPT-2 whose configuration this module implements."""
    if type(model) not in (GPT2LMHeadModel, GPT2ForSequenceClassification):
        return False
    config = model.config
    return (
        getattr(config, "is_causal", True)
        and config.activation_function in ("gelu_new", "gelu_pytorch_tanh")
        and config.scale_attn_weights
        and not config.scale_attn_by_inverse_layer_idx
        and not config.add_cross_attention
        and not (config.resid_pdrop or config.embd_pdrop or config.attn_pdrop)
    )


class _Body(fast.Body):
    """GPT-2's learned positions and sequential residuals."""

    def __init__(self, model: GPT2LMHeadModel | GPT2ForSequenceClassification) -> None:
        self.body = model.transformer
        self.blocks, self.final_norm = self.body.h, self.body.ln_f

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        return F.embedding(tokens, self.body.wte.weight) + self.body.wpe.weight[positions]

    def qkv(self, block: GPT2Block, x: Tensor, rotation: None) -> tuple[Tensor, ...]:
        joined = fast.linear(block.attn.c_attn, self.norm(block.ln_1, x))
        return joined.view(len(x), 3, self.body.config.n_head, -1).unbind(1)

    def add(self, block: GPT2Block, x: Tensor, attended: Tensor) -> Tensor:
        x = x + fast.linear(block.attn.c_proj, attended)
        inner = fast.linear(block.mlp.c_fc, self.norm(block.ln_2, x))
        return x + fast.linear(block.mlp.c_proj, F.gelu(inner, approximate="tanh"))


hidden_states, Decoder = partial(fast.hidden_states, _Body), partial(fast.Decoder, _Body)
output_logits = fast.output_logits

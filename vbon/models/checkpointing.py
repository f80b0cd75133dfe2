"""Blocks whose insides are computed again for the gradient, where the model asks for it."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel


def call(
    model: PreTrainedModel, function: Callable[..., Tensor], block: torch.nn.Module, x: Tensor
) -> Tensor:
    """Call a function of a block, keeping only its input if checkpointing is on.

    Args:
        model: Whose ``gradient_checkpointing_enable`` decides.
        function: Of the block and the states that enter it.
        block: The block.
        x: These states.
    """
    if torch.is_grad_enabled() and model.is_gradient_checkpointing:
        return checkpoint(function, block, x, use_reentrant=False)
    return function(block, x)

"""Computation of an update: precision, rows per pass and activations kept for the gradient."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel

from vbon.errors import ConfigError
from vbon.training.parallel import share_of

COMPUTE = ("precision", "rows_per_pass", "activation_checkpointing")
"""Settings of a training loop that are fields of :class:`Compute`."""


@dataclass(frozen=True)
class Compute:
    """Settings that change the cost of an update, not the update.

    Attributes:
        precision: ``fp32``; ``tf32``, in which a GPU multiplies matrices with shorter mantissas; or
            ``bf16``, in which policy and reference are also forwarded in half precision. Weights,
            gradients, losses and rewards stay in single precision.
        rows_per_pass: Rows per backward pass, whose gradients are summed; None for all rows.
        activation_checkpointing: Recompute blocks in the backward pass instead of storing them.
    """

    precision: str = "fp32"
    rows_per_pass: int | None = None
    activation_checkpointing: bool = False

    def start(self, model: PreTrainedModel) -> None:
        """Prepare the process and a model for training.

        Raises:
            ConfigError: If the model's class cannot recompute its blocks.
        """
        torch.backends.cuda.matmul.allow_tf32 = self.precision != "fp32"
        torch.backends.cudnn.allow_tf32 = self.precision != "fp32"
        if self.activation_checkpointing:
            if not model.supports_gradient_checkpointing:
                raise ConfigError(
                    f"activation_checkpointing: true is not possible with {type(model).__name__}; "
                    "give false"
                )
            model.gradient_checkpointing_enable({"use_reentrant": False})

    def forward(self, device: torch.device) -> AbstractContextManager[Any]:
        """Context of forward passes of policy and reference."""
        half = self.precision == "bf16"
        return torch.autocast(device.type, torch.bfloat16) if half else nullcontext()

    @contextmanager
    def update(self, *models: PreTrainedModel) -> Iterator[None]:
        """Context of the forward and backward passes of an update of some models."""
        # The library's blocks recompute in training mode only; dropout is off.
        for model in models:
            model.train(self.activation_checkpointing)
        try:
            yield
        finally:
            for model in models:
                model.eval()

    def passes(self, weights: Int[Tensor, " rows"]) -> list[tuple[Int[Tensor, " pass"], float]]:
        """Row numbers of each pass of this process, and the share of its mean in the whole.

        Means over passes times their shares sum to the mean over all rows of all processes.

        Args:
            weights: Weight of each row in these means.

        Example:
            >>> parts = Compute(rows_per_pass=2).passes(torch.tensor([1, 2, 1]))
            >>> [(rows.tolist(), share) for rows, share in parts]
            [([0, 1], 0.75), ([2], 0.25)]
        """
        mine = share_of(len(weights))
        if not len(mine):  # fewer rows than processes, yet a gradient must exist
            return [(torch.arange(1), 0.0)]
        passes = mine.split(self.rows_per_pass or len(mine))
        if len(passes[0]) == len(weights):  # no synchronisation with the device
            return [(passes[0], 1.0)]
        total = weights.sum().item()
        return [(rows, weights[rows].sum().item() / total) for rows in passes]


PLAIN = Compute()
"""Single precision, all rows in one pass."""

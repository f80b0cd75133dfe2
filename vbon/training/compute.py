"""How an update is computed: precision, rows that pass at a time, what is kept for the gradient."""

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
"""Settings of a training loop that this module takes."""


@dataclass(frozen=True)
class Compute:
    """What is computed the same way, at other cost.

    Attributes:
        precision: ``fp32``; ``tf32``, in which a GPU multiplies matrices with shorter mantissas; or
            ``bf16``, in which policy and reference are also forwarded in half precision. Weights,
            gradients, losses and rewards stay in single precision.
        rows_per_pass: Rows whose gradients are taken at a time and added up; None for all.
        activation_checkpointing: Whether blocks are computed again for the gradient.
    """

    precision: str = "fp32"
    rows_per_pass: int | None = None
    activation_checkpointing: bool = False

    def start(self, model: PreTrainedModel) -> None:
        """Prepare the process and a model that is to be trained.

        Raises:
            ConfigError: If the model's class cannot compute its blocks again.
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
        """The precision of forward passes of policy and reference."""
        if self.precision == "bf16":
            return torch.autocast(device.type, torch.bfloat16)
        return nullcontext()

    @contextmanager
    def update(self, *models: PreTrainedModel) -> Iterator[None]:
        """Around the passes of an update of some models, forward and backward."""
        # The library's own blocks check it; nothing else does, since dropout is off.
        for model in models:
            model.train(self.activation_checkpointing)
        try:
            yield
        finally:
            for model in models:
                model.eval()

    def passes(self, weights: Int[Tensor, " rows"]) -> list[tuple[Int[Tensor, " pass"], float]]:
        """Row numbers of each pass of this process, and the share that its mean has in the whole.

        Means over passes, times their shares, add up to the mean over all rows of all processes.

        Args:
            weights: Of each row in these means.

        Example:
            >>> parts = Compute(rows_per_pass=2).passes(torch.tensor([1, 2, 1]))
            >>> [(rows.tolist(), share) for rows, share in parts]
            [([0, 1], 0.75), ([2], 0.25)]
        """
        mine = share_of(len(weights))
        if not len(mine):  # fewer rows than processes: all the same there must be a gradient
            return [(torch.arange(1), 0.0)]
        passes = mine.split(self.rows_per_pass or len(mine))
        if len(passes[0]) == len(weights):  # asks the device nothing
            return [(passes[0], 1.0)]
        total = weights.sum().item()
        return [(rows, weights[rows].sum().item() / total) for rows in passes]


PLAIN = Compute()
"""Single precision, everything at once."""

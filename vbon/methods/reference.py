"""The reference model itself: where every method starts."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from vbon.methods.base import Selection
from vbon.methods.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class Reference(Selection):
    """Return responses of the supervised fine-tuned reference in the order of drawing."""

    label = "Reference"
    colour = "#000000"
    dark_colour = "#f5f5f5"
    marker = "*"
    order = 0

    paper = "Amini et al. (2025), arXiv:2407.06057v3, section 2"
    optimum = "reference"
    rank_based = True
    n: ClassVar[int] = 1

    @property
    def is_reference(self) -> bool:
        """Always."""
        return True

    def choose(
        self, rewards: Float64[Tensor, "prompts draws"], num_responses: int, seed: int = 0
    ) -> Int[Tensor, "prompts chosen"]:
        """The first draws."""
        first = torch.arange(min(num_responses, rewards.shape[1]))
        return first.expand(len(rewards), -1)

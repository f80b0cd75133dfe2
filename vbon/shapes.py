"""Shapes of models: how many weights, operations and bytes a pass takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BYTES = 4  # of a weight, a gradient or a cached number: models are kept in single precision


@dataclass(frozen=True)
class Shape:
    """A transformer, as far as costs depend on it.

    Attributes:
        layers: Blocks.
        width: Size of the hidden states.
        vocab_size: Tokens.
        tied: Whether input and output embeddings are one matrix.
    """

    layers: int
    width: int
    vocab_size: int
    tied: bool = True

    @property
    def body(self) -> int:
        """Weights of the blocks: four matrices of attention, two of four times the size."""
        return 12 * self.layers * self.width**2

    @property
    def parameters(self) -> int:
        """All weights, but for biases, norms and positions."""
        return self.body + self.vocab_size * self.width * (1 if self.tied else 2)

    def forward(self, rows: float, prompt: float, response: float, head: bool = True) -> float:
        """Operations of one pass over ``rows`` sequences; logits are made of responses alone.

        Example:
            >>> gpt2 = Shape(12, 768, 50257)
            >>> iteration = gpt2.forward(128, 8, 40) * (1 + 1 + 4 * 3)  # draw, reference, 4 epochs
            >>> round(iteration / 1e12, 1)
            20.2
        """
        tokens = prompt + response
        attention = 2 * self.layers * self.width * tokens  # over half of the others on average
        logits = 2 * self.vocab_size * self.width * response if head else 0
        return rows * (tokens * (2 * self.body + attention) + logits)

    def decoding_reads(self, prompts: float, draws: float, prompt: float, response: float) -> float:
        """Bytes read while ``draws`` responses to each prompt are decoded in one batch.

        At every step the weights, each prompt's keys and values (once for all of its draws) and
        each response's own.
        """
        cache = 2 * self.layers * self.width * BYTES
        own = prompts * draws * cache * response**2 / 2
        return response * (self.parameters * BYTES + prompts * prompt * cache) + own


def shape_of(section: Mapping[str, Any], role: str, has_head: bool = True) -> Shape | None:
    """The shape of a model that is built here, described in the config, or at hand.

    Args:
        section: The task's section.
        role: ``reference``, ``reward_model`` or ``evaluator``.
        has_head: Whether the model has an output embedding.

    Returns:
        None if nothing is known of it without a network, or it is a function.
    """
    chosen = section[role]
    if chosen.get("callable") is not None:
        return None
    if chosen["id"] is None:
        build = chosen["build"]
        tied = build.get("architecture", "gpt_neox") != "gpt_neox" or not has_head
        return Shape(build["layers"], build["width"], section["tokenizer"]["vocab_size"], tied)
    if chosen["size"] is not None:
        return Shape(**chosen["size"])
    return _shape_at_hand(chosen["id"], chosen["revision"])


def _shape_at_hand(name: str, revision: str | None) -> Shape | None:
    """The shape that a local folder or the hub's cache tells."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(name, revision=revision, local_files_only=True)
    except (OSError, ValueError):
        return None
    sizes = config.num_hidden_layers, config.hidden_size, config.vocab_size
    return Shape(*sizes, tied=bool(config.tie_word_embeddings))

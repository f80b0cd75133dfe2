"""Number of tokens that a model can read, from its configuration."""

from collections.abc import Mapping
from typing import Any

_OFFSET = (
    "camembert", "data2vec-text", "roberta", "roberta-prelayernorm", "xlm-roberta",
    "xlm-roberta-xl", "xmod",
)  # fmt: skip
"""Models whose first positions are of padding, so that a text has fewer than are stated."""
_SCALED = ("linear", "yarn")
"""Scalings of rotary positions that extend the stated number of positions."""


def context_length(config: Any) -> int | None:
    """Most tokens of prompt and response together; None without a limit.

    Recurrent models, those with positions relative to each other, and those with alibi (BLOOM,
    Falcon) have none; MPT has one, since its biases are a table.

    Args:
        config: A model's configuration in transformers.
    """
    config = config.get_text_config(decoder=True)
    if config.model_type == "rwkv" or getattr(config, "alibi", False) is True:
        return None
    names = ("max_position_embeddings", "max_target_positions", "max_seq_len")
    stated = next(filter(None, (getattr(config, name, None) for name in names)), None)
    if stated is None or stated < 0:  # as XLNet's
        return None
    if config.model_type in _OFFSET:
        return stated - (config.pad_token_id or 0) - 1
    rope = getattr(config, "rope_parameters", None)
    kind = rope.get("rope_type") if isinstance(rope, Mapping) else None
    if kind is None:
        return stated
    name = "original_max_position_embeddings"
    original = rope.get(name) or getattr(config, name, None) or stated
    if kind == "longrope":
        # Beyond it the log-probs of early tokens depend on how long the text becomes; with dynamic
        # scaling, beyond the stated number.
        return min(stated, original)
    return max(stated, int(original * rope.get("factor", 1))) if kind in _SCALED else stated

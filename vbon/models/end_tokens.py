"""Tokens that end a response, and those of a model that its tokenizer does not have."""

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vbon.errors import ConfigError


def end_token_ids(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> tuple[int, ...]:
    """Ids of the tokens that end a response of a model, in ascending order.

    They are those of the model's generation settings and configuration, of which chat models have
    several, and the tokenizer's. A configuration that states none has its class's default, which
    counts only if the tokenizer has a special token of that id.

    Raises:
        ConfigError: If the tokenizer has more tokens than the model, there is no end token, or the
            model has no token of that id.
    """
    config = model.config.get_text_config(decoder=True)
    if len(tokenizer) > config.vocab_size:
        raise ConfigError(
            f"reference: its tokenizer has {len(tokenizer)} tokens, its model only "
            f"{config.vocab_size}; use the tokenizer saved with the model"
        )
    added = tokenizer.added_tokens_decoder
    special = {*tokenizer.all_special_ids, *added}
    special -= {tokenizer.unk_token_id, tokenizer.pad_token_id}
    ends = set(_listed(tokenizer.eos_token_id))
    for settings in (getattr(model, "generation_config", None), config):
        ids = set(_listed(getattr(settings, "eos_token_id", None)))
        if ids == set(_listed(getattr(type(config), "eos_token_id", None))):
            ids &= special
        ends |= ids
    if not ends:
        raise ConfigError(
            "reference: neither its tokenizer (eos_token) nor its generation_config.json "
            "(eos_token_id) has an end token, so responses could not end; set one"
        )
    if max(ends) >= config.vocab_size:
        raise ConfigError(
            f"reference: eos_token_id {max(ends)} in its generation_config.json or config.json is "
            f"not a token of its model, which has {config.vocab_size}; correct it"
        )
    return tuple(sorted(ends))


def tokenless_ids(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> frozenset[int]:
    """Ids that a model can draw and its tokenizer has no token for, such as padded embeddings."""
    size = model.config.get_text_config(decoder=True).vocab_size
    return frozenset(range(size)) - set(tokenizer.get_vocab().values())


def _listed(ids: Any) -> Sequence[int]:
    """Ids that are given as one, as several or not at all; negative ones are none."""
    several = ids if isinstance(ids, list | tuple | set) else [ids]
    wrong = [each for each in several if not (each is None or isinstance(each, int | float))]
    if wrong:
        raise ConfigError(
            f"reference: eos_token_id {wrong[0]!r} in its generation_config.json or config.json is "
            "not an id; give one number, or a list of them"
        )
    return [int(each) for each in several if each is not None and each >= 0]

"""Prompts: the first few tokens of reviews, with ids that survive changes of the data."""

import hashlib
import logging
import random
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from vbon.errors import ConfigError, DataError
from vbon.seeding import derive_seed

DOMAINS = {0: "negative", 1: "positive"}
_LOG = logging.getLogger(__name__)


def prompt_id(source_id: str, prompt_ids: Sequence[int]) -> str:
    """Name a prompt by its source and its tokens, so that other prompts never change its id.

    Example:
        >>> prompt_id("review-000001", [4, 17]) == prompt_id("review-000001", (4, 17))
        True
        >>> len(prompt_id("review-000001", [4, 17]))
        16
    """
    text = source_id + "\x1f" + " ".join(str(int(token)) for token in prompt_ids)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def make_prompts(
    reviews: pd.DataFrame,
    tokenizer: Any,
    num_prompts: int,
    min_tokens: int = 2,
    max_tokens: int = 8,
    seed: int = 0,
    exclude: Iterable[Sequence[int]] = (),
) -> pd.DataFrame:
    """Cut prompts of U{min..max} tokens from the beginnings of reviews (arXiv:2407.06057, Sec. 6).

    A review's length is drawn from a stream of its own, so a prompt stays what it is when other
    reviews come or go. Reviews of fewer than ``max_tokens`` tokens are left out, because they
    would make the lengths uneven. Prompts with the same tokens are kept once (the first one).

    Args:
        reviews: Rows of one part: ``source_id``, ``text``, ``label``.
        tokenizer: A Hugging Face tokenizer of the reference.
        num_prompts: How many prompts to return.
        min_tokens: Shortest prompt, in tokens; at least 2.
        max_tokens: Longest prompt, in tokens.
        seed: Of the lengths.
        exclude: Token ids of prompts that must not occur again (those of the other split).

    Returns:
        Schema "prompts": ``prompt_id``, ``prompt`` (the decoded ids), ``prompt_ids`` (list of
        int), ``source_id`` and ``domain`` (the source's label, ``negative`` or ``positive``).

    Raises:
        ConfigError: If the lengths or the number of prompts cannot work.
        DataError: If the reviews give fewer distinct prompts than asked for.

    Example:
        >>> from vbon.models.build import build_tokenizer
        >>> from vbon.tasks.grammar import write_reviews
        >>> reviews = write_reviews(60, seed=0)
        >>> tokenizer = build_tokenizer(reviews["text"], kind="words", vocab_size=400)
        >>> prompts = make_prompts(reviews, tokenizer, num_prompts=20, seed=0)
        >>> prompts["prompt_ids"].map(len).between(2, 8).all().item()
        True
    """
    if num_prompts < 1:
        raise ConfigError(f"prompts: {num_prompts} prompts are asked for; give at least 1")
    if min_tokens < 2:
        raise ConfigError(f"prompts.min_tokens is {min_tokens}; a prompt needs at least 2 tokens")
    if max_tokens < min_tokens:
        raise ConfigError(
            f"prompts.max_tokens is {max_tokens}; it must be at least min_tokens ({min_tokens})"
        )
    encoded = tokenizer(
        reviews["text"].tolist(), add_special_tokens=False, truncation=True, max_length=max_tokens
    )["input_ids"]
    excluded = {tuple(int(token) for token in ids) for ids in exclude}
    seen: set[tuple[int, ...]] = set()
    rows, short, repeated, shared = [], 0, 0, 0
    for source, label, ids in zip(reviews["source_id"], reviews["label"], encoded, strict=True):
        if len(ids) < max_tokens:
            short += 1
            continue
        lengths = random.Random(derive_seed(seed, "prompt", source))
        key = tuple(ids[: lengths.randint(min_tokens, max_tokens)])
        if key in seen or key in excluded:
            repeated, shared = repeated + (key in seen), shared + (key in excluded)
            continue
        seen.add(key)
        rows.append((prompt_id(source, key), list(key), source, DOMAINS[int(label)]))
    counts = f"{short} reviews too short, {repeated} repeated, {shared} in the other split"
    if len(rows) < num_prompts:
        raise DataError(
            f"prompts: {len(reviews)} reviews give {len(rows)} distinct prompts, {num_prompts} are "
            f"asked for ({counts}); raise reviews.num_reviews or lower the number of prompts"
        )
    _LOG.info("%d prompts from %d reviews (%s)", num_prompts, len(reviews), counts)
    frame = pd.DataFrame(
        rows[:num_prompts], columns=["prompt_id", "prompt_ids", "source_id", "domain"]
    )
    frame.insert(1, "prompt", tokenizer.batch_decode(frame["prompt_ids"].tolist()))
    return frame

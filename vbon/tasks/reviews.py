"""Labelled reviews: prompts are their first tokens, the reward is a classifier's logit."""

import logging
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vbon.errors import ConfigError, DataError
from vbon.seeding import derive_seed
from vbon.tasks.base import TextTask
from vbon.tasks.grammar import write_reviews
from vbon.tasks.registry import register
from vbon.tasks.texts import assign_parts, distinct, prompt_id, read_rows, with_test_rows

DOMAINS = {0: "negative", 1: "positive"}
_LOG = logging.getLogger(__name__)


@register
class Reviews(TextTask):
    """Continue the beginning of a review so that the reward model finds it positive."""

    section_name = "sentiment"
    schema = "reviews_section"
    texts_key = "reviews"
    figures = (
        *TextTask.figures, "figure3", "figure6", "figure7a", "figure7b", "figure4", "estimators"
    )  # fmt: skip
    tables = (*TextTask.tables, "equivalence", "table1", "shown_pools", "estimators")
    claims = ("tradeoff", "draws", "cost")

    def check(self, where: str) -> None:
        """Refuse also a longest prompt that is shorter than the shortest."""
        super().check(where)
        prompts = self.section["prompts"]
        if prompts["max_tokens"] < prompts["min_tokens"]:
            raise ConfigError(
                f"{where}.prompts.max_tokens: {prompts['max_tokens']} is below "
                f"{where}.prompts.min_tokens = {prompts['min_tokens']}"
            )

    def texts(self, seed: int) -> pd.DataFrame:
        """Labelled reviews."""
        settings = self.section["reviews"]
        reviews = load_reviews(
            settings["source"],
            settings["num_reviews"],
            settings["text_column"],
            settings["label_column"],
            seed,
            settings.get("revision"),
            settings.get("test_source"),
        )
        parts = assign_parts(reviews, "text", settings["fractions"], seed, "reviews")
        parts.attrs |= reviews.attrs
        return parts

    def prompts(
        self, texts: pd.DataFrame, tokenizer: Any, split: str, seed: int, taken: list[list[int]]
    ) -> pd.DataFrame:
        """Beginnings of the reviews of a split."""
        rows, settings = texts[texts["part"] == split], self.section["prompts"]
        limits = settings[f"num_{split}"], settings["min_tokens"], settings["max_tokens"]
        return make_prompts(rows, tokenizer, *limits, seed, exclude=taken)

    def train_model(
        self, role: str, texts: pd.DataFrame, seed: int, folder: Path
    ) -> dict[str, float]:
        """A language model of the texts, or a classifier of their labels."""
        from vbon.models.build import build_classifier, build_reference, build_tokenizer

        settings = self.section[role]["build"]
        options = {**self.section["tokenizer"], "max_tokens": settings["max_tokens"]}
        if role == "reference":
            tokenizer = build_tokenizer(texts["text"], **options)
            return build_reference(texts["text"], tokenizer, settings, seed, folder)
        tokenizer = build_tokenizer(texts["text"], **options, classifier=True)
        return build_classifier(texts, tokenizer, settings, seed, folder)

    def quantities(self, texts: pd.DataFrame) -> dict[str, float]:
        """Number of reviews and share of positive ones."""
        return {"num_reviews": len(texts), "positive_reviews": texts["label"].mean()}


def load_reviews(
    source: str,
    num_reviews: int | None = None,
    text_column: str = "text",
    label_column: str = "label",
    seed: int = 0,
    revision: str | None = None,
    test_source: str | None = None,
) -> pd.DataFrame:
    """Load labelled texts, check every row and drop repeated texts (the first one stays).

    Args:
        source: ``"grammar"``; a local ``.jsonl`` or ``.jsonl.gz`` file; or the id of a dataset
            for ``datasets.load_dataset``, with its split after a colon (``"name:train"``).
        num_reviews: At most this many, chosen by the seed after repeated texts are dropped;
            None keeps all. The grammar needs a number.
        text_column: Where a row keeps its text.
        label_column: Where a row keeps its label, 1 (positive) or 0 (negative).
        seed: Of the grammar, and of the choice among the rows of a file.
        revision: Commit of a dataset's id.
        test_source: As ``source``; all of its texts are for the test, and those that ``source``
            has as well are dropped there.

    Returns:
        Columns ``source_id`` (str), ``text`` (str), ``label`` (int), and with ``test_source``
        ``for_test`` (bool). ``attrs["duplicates"]`` is the number of rows that were dropped
        because their text had occurred before.

    Raises:
        DataError: In one line, with the number of the bad line (from 1), the columns found, or
            why a dataset could not be loaded.
        ConfigError: If ``num_reviews`` is below one or missing for the grammar.

    Example:
        >>> reviews = load_reviews("grammar", num_reviews=50, seed=1)
        >>> len(reviews), reviews.attrs["duplicates"]
        (50, 0)
    """
    if num_reviews is not None and num_reviews < 1:
        raise ConfigError(f"reviews.num_reviews is {num_reviews}; give at least 1")
    if source == "grammar":
        if num_reviews is None:
            raise ConfigError("reviews.num_reviews is null; the grammar needs a number of reviews")
        reviews = write_reviews(num_reviews, seed)
        reviews.attrs["duplicates"] = 0
        return reviews

    def read(source: str, key: str) -> pd.DataFrame:
        found = pd.DataFrame(
            [
                (name, *_checked(row, where, text_column, label_column))
                for name, where, row in read_rows(source, key, revision)
            ],
            columns=["source_id", "text", "label"],
        )
        if found.empty:
            raise DataError(f"{source} holds no reviews; one JSON object a line is expected")
        return found

    rows = distinct(read(source, "reviews.source"), "text", num_reviews, seed)
    if test_source is None:
        return rows
    return with_test_rows(rows, read(test_source, "reviews.test_source"), "text")


def _checked(row: Any, where: str, text_column: str, label_column: str) -> tuple[str, int]:
    if not isinstance(row, dict):
        raise DataError(f"{where}: is not a JSON object but {type(row).__name__}")
    for key, column in (("text_column", text_column), ("label_column", label_column)):
        if column not in row:
            raise DataError(
                f"{where}: no column {column!r} (reviews.{key}); columns found: {', '.join(row)}"
            )
    text, label = row[text_column], row[label_column]
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where}: column {text_column!r} is empty or not text; got {text!r}")
    if not isinstance(label, int | float) or label not in (0, 1):
        raise DataError(
            f"{where}: column {label_column!r} is {label!r}; accepted are 0 (negative) and "
            "1 (positive)"
        )
    return text, int(label)


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

"""Rows of text from files or a dataset hub, and their disjoint parts."""

import hashlib
import logging
import math
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from vbon.artifacts.snapshots import check_cache, snapshot
from vbon.errors import ArtifactError, ConfigError, DataError
from vbon.seeding import derive_seed
from vbon.tasks.base import PARTS
from vbon.tasks.files import ACCEPTED, files_in, folder_and_split, read_local, source_kind
from vbon.tasks.special_tokens import beginning, begun, first_ids

DOMAINS = {0: "negative", 1: "positive"}
"""Domain of a prompt by the label of its text, where texts have no domain."""
_LOG = logging.getLogger(__name__)


def local_files(source: str) -> list[str]:
    """Files of this machine that a source names; none for the grammar and datasets of the hub.

    Args:
        source: A file, which need not exist, or a folder, perhaps with a split after a colon.

    Returns:
        The file, or the folder's data files in alphabetical order; a folder without any itself.

    Example:
        >>> local_files("grammar"), local_files("stanfordnlp/imdb:test"), local_files("my.jsonl")
        ([], [], ['my.jsonl'])
    """
    if source_kind(source) != "local":
        return []
    folder, split = folder_and_split(source)
    if folder is None:
        return [os.path.expanduser(source)]
    return [str(file) for file in files_in(folder, split) or [folder]]


def with_test_rows(rows: pd.DataFrame, tested: pd.DataFrame, column: str) -> pd.DataFrame:
    """Rows with those of another source, which are for the test alone.

    Args:
        rows: Rows for models and training prompts; those with a text of the test are dropped.
        tested: Rows of the other source.
        column: Column of the text.

    Returns:
        Both, with a column ``for_test``; ``attrs["duplicates"]`` counts all that were dropped.

    Example:
        >>> ours, theirs = pd.DataFrame({"text": ["a", "b"]}), pd.DataFrame({"text": ["b", "b"]})
        >>> both = with_test_rows(ours.assign(source_id="x-1"), theirs.assign(source_id="x-1"),
        ...                       "text")
        >>> both["text"].tolist(), both["for_test"].tolist(), both["source_id"].tolist()
        (['a', 'b'], [False, True], ['x-1', 'test-x-1'])
    """
    test_rows = tested.drop_duplicates(column).assign(for_test=True)
    test_rows["source_id"] = "test-" + test_rows["source_id"]  # splits of a dataset share numbers
    kept = rows[~rows[column].isin(test_rows[column])].assign(for_test=False)
    both = pd.concat([kept, test_rows], ignore_index=True)
    dropped = len(rows) + len(tested) - len(both)
    both.attrs["duplicates"] = rows.attrs.get("duplicates", 0) + dropped
    return both


def distinct(rows: pd.DataFrame, column: str, count: int | None, seed: int) -> pd.DataFrame:
    """Rows without those that repeat a text, at most ``count`` of them, selected by the seed.

    Args:
        rows: All rows.
        column: Column of the text.
        count: Number of rows to keep; None for all.
        seed: Seed of the selection.

    Returns:
        The rows in their order; ``attrs["duplicates"]`` is the number of rows that repeated a text.
    """
    kept = rows.drop_duplicates(column, ignore_index=True)
    duplicates = len(rows) - len(kept)
    if count is not None and count < len(kept):
        selected = sorted(shuffled(kept[column], seed, "choice")[:count])
        kept = kept.loc[selected].reset_index(drop=True)
    kept.attrs["duplicates"] = duplicates
    return kept


def read_rows(source: str, key: str, revision: str | None = None) -> Iterator[tuple[str, str, Any]]:
    """Read local files, or a dataset by its id.

    Args:
        source: A file or folder that :mod:`vbon.tasks.files` reads, or an id with its split after a
            colon.
        key: Key of the source in the config, for messages.
        revision: Commit of the dataset.

    Yields:
        A name of each row that does not depend on other rows, its place in the source, and the row.

    Raises:
        DataError: If the source cannot be read, with the number of the bad line.
    """
    if source_kind(source) == "local":
        yield from read_local(source, key)
        return
    name = source.split(":")[0].replace("/", "-")
    for number, row in _read_dataset(source, key, revision):
        yield f"{name}-{number:06d}", f"{source}, row {number}", row


def check_rows(
    source: str | None, key: str, text_of: Callable[[Any, str], str], needed: int = 1
) -> int:
    """Check the first rows of a source of this machine.

    Args:
        source: The source; one of another kind is not checked.
        key: Its key in the config, for messages.
        text_of: Checks a row (with its place, for messages), and returns its text.
        needed: Number of distinct texts after which no more is read.

    Returns:
        Number of distinct texts, at most ``needed``.

    Raises:
        ConfigError: If a row cannot be read or used, or there is none.
    """
    if source is None or source_kind(source) != "local":
        return needed
    texts: set[str] = set()
    try:
        for _, place, row in read_local(source, key):
            texts.add(text_of(row, place))
            if len(texts) == needed:
                break
    except DataError as error:
        raise ConfigError(f"{key}: {error}") from error
    if not texts:
        raise ConfigError(f"{key}: {source!r} has no rows; give at least one")
    return len(texts)


def _read_dataset(source: str, key: str, revision: str | None) -> Iterator[tuple[int, Any]]:
    from datasets import config, load_dataset

    check_cache("datasets", config.HF_DATASETS_CACHE)
    name, _, split = source.partition(":")
    try:
        folder = snapshot(name, revision, "dataset")
    except ArtifactError as error:
        raise DataError(f"{key}: {error} or file") from error
    try:
        dataset = load_dataset(str(folder), split=split or "train")
    except Exception as error:  # the library raises many kinds: unknown split, damaged files
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{key} {source!r} could not be loaded ({type(error).__name__}: {reason}); give "
            f"{ACCEPTED}, or a dataset id with one of its splits"
        ) from error
    yield from enumerate(dataset, start=1)


def shuffled(texts: "pd.Series[str]", seed: int, name: str) -> list[int]:
    """Row numbers in an order that depends on the text of each row, not on its neighbours."""
    salt = str(derive_seed(seed, name)).encode()
    keys = [hashlib.sha256(salt + text.encode()).digest() for text in texts]
    return sorted(range(len(keys)), key=keys.__getitem__)


def assign_parts(
    rows: pd.DataFrame, column: str, fractions: Mapping[str, float], seed: int, kind: str
) -> pd.DataFrame:
    """Assign each row to one part; no text is in two parts.

    The classifiers, the reference and the prompts must not share text: the evaluator is held
    out from everything that the reward model has seen. Rows are ordered by a hash of their text,
    so adding rows moves only those near a boundary.

    Args:
        rows: Rows with distinct texts; those with ``for_test`` true are for the test alone.
        column: Column of the text.
        fractions: Share of each part in :data:`vbon.tasks.base.PARTS`; one in sum, and 0 for a
            part that is not needed.
        seed: Seed of the split.
        kind: Key of the configuration that describes the rows, in the plural.

    Returns:
        The rows with a column ``part``.

    Raises:
        ConfigError: If parts are missing or unknown, or shares are negative or not one in sum.
        DataError: If a text repeats or a part would be empty.

    Example:
        >>> shares = dict(reference=0.5, reward_model=0.2, evaluator=0.1, train=0.1, test=0.1)
        >>> rows = pd.DataFrame({"text": [f"text {number}" for number in range(100)]})
        >>> parts = assign_parts(rows, "text", shares, seed=0, kind="reviews")["part"]
        >>> parts.value_counts().to_dict()["reference"]
        50
    """
    if not rows[column].is_unique:
        raise DataError(f"{kind} repeat a text, so parts could share it; drop repeated texts first")
    if set(fractions) != set(PARTS):
        raise ConfigError(
            f"{kind}.fractions names {sorted(fractions)}; it must name each of {sorted(PARTS)}"
        )
    low = [f"{part}: {share}" for part, share in fractions.items() if not share >= 0]
    if low or not math.isclose(sum(fractions.values()), 1.0, abs_tol=1e-9):
        raise ConfigError(
            f"{kind}.fractions has {low[0] if low else f'sum {sum(fractions.values()):g}'}; "
            "shares must not be negative and add up to 1"
        )
    if "for_test" in rows:
        tested = rows.pop("for_test")
        parts = assign_parts(rows[~tested], column, fractions, seed, kind)
        return pd.concat([parts, rows[tested].assign(part="test")], ignore_index=True)
    order, parts = shuffled(rows[column], seed, "split"), [""] * len(rows)
    start, share = 0, 0.0
    for part in PARTS:
        share += fractions[part]
        stop = round(share * len(rows))
        if stop == start and fractions[part]:
            raise DataError(
                f"{kind}.fractions gives no {kind[:-1]} to part {part!r} of {len(rows)}; "
                f"raise {kind}.num_{kind} or its share"
            )
        for row in order[start:stop]:
            parts[row] = part
        start = stop
    return rows.assign(part=parts)


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
    rows: pd.DataFrame,
    tokenizer: Any,
    num_prompts: int,
    min_tokens: int = 2,
    max_tokens: int = 8,
    seed: int = 0,
    exclude: Iterable[Sequence[int]] = (),
) -> pd.DataFrame:
    """Cut prompts of U{min..max} tokens from the beginnings of texts (arXiv:2407.06057, Sec. 6).

    Each length is drawn from a separate stream, so a prompt does not change when other texts come
    or go. The special tokens that the tokenizer's template puts before a text come first. Texts
    with fewer tokens than the longest prompt has are left out, because they would make the lengths
    uneven. Of prompts with the same tokens the first is kept.

    Args:
        rows: Rows of one part: ``source_id``, ``text``, and perhaps ``domain`` or ``label``.
        tokenizer: A Hugging Face tokenizer of the reference.
        num_prompts: Number of prompts to return.
        min_tokens: Shortest beginning of a text, in tokens; at least 2.
        max_tokens: Longest prompt, in tokens, with special tokens that the tokenizer puts first.
        seed: Seed of the lengths.
        exclude: Token ids of prompts that must not occur again (those of the other split).

    Returns:
        Schema "prompts": ``prompt_id``, ``prompt`` (the text), ``prompt_ids`` (list of int),
        ``source_id`` and ``domain`` (the text's, or the name of its label, or ``all``).

    Raises:
        ConfigError: If special tokens leave fewer than ``min_tokens`` to the text.
        DataError: If the texts give fewer distinct prompts than requested.

    Example:
        >>> from vbon.models.build import build_tokenizer
        >>> from vbon.tasks.grammar import write_reviews
        >>> reviews = write_reviews(60, seed=0)
        >>> tokenizer = build_tokenizer(reviews["text"], kind="words", vocab_size=400)
        >>> prompts = make_prompts(reviews, tokenizer, num_prompts=20, seed=0)
        >>> prompts["prompt_ids"].map(len).between(2, 8).all().item()
        True
    """
    first = first_ids(tokenizer)
    longest = max_tokens - len(first)
    if longest < min_tokens:
        raise ConfigError(
            f"prompts.max_tokens: {max_tokens} is too few for prompts.min_tokens = {min_tokens} "
            f"after {beginning(tokenizer, first)}, with which the reference's prompts begin"
        )
    options = {"add_special_tokens": False, "truncation": True, "max_length": longest}
    encoded = tokenizer(rows["text"].tolist(), **options)["input_ids"]
    excluded = {tuple(map(int, ids)) for ids in exclude}
    seen: set[tuple[int, ...]] = set()
    prompts, short, repeated, shared = [], 0, 0, 0
    for source, domain, ids in zip(rows["source_id"], _domains(rows), encoded, strict=True):
        if len(ids) < longest:
            short += 1
            continue
        lengths = random.Random(derive_seed(seed, "prompt", source))
        key = tuple(begun(ids[: lengths.randint(min_tokens, longest)], first))
        if key in seen or key in excluded:
            repeated, shared = repeated + (key in seen), shared + (key in excluded)
            continue
        seen.add(key)
        prompts.append((prompt_id(source, key), list(key), source, domain))
    counts = f"{short} texts too short, {repeated} repeated, {shared} in the other split"
    if len(prompts) < num_prompts:
        raise DataError(
            f"prompts: {len(rows)} texts give {len(prompts)} distinct prompts, {num_prompts} are "
            f"requested ({counts}); give more texts or lower the number of prompts"
        )
    _LOG.info("%d prompts from %d texts (%s)", num_prompts, len(rows), counts)
    columns = ["prompt_id", "prompt_ids", "source_id", "domain"]
    frame = pd.DataFrame(prompts[:num_prompts], columns=columns)
    texts = [ids[len(first) :] for ids in frame["prompt_ids"]]
    frame.insert(1, "prompt", tokenizer.batch_decode(texts))
    return frame


def _domains(rows: pd.DataFrame) -> Iterable[str]:
    """Column ``domain``, else names of the labels, else one domain for all."""
    if "domain" in rows:
        return rows["domain"]
    return rows["label"].map(DOMAINS) if "label" in rows else ["all"] * len(rows)

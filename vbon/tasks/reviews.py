"""Labelled texts from the grammar, a JSON-lines file or a dataset hub, and their disjoint parts."""

import gzip
import hashlib
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from vbon.artifacts.snapshots import snapshot
from vbon.errors import ArtifactError, ConfigError, DataError
from vbon.seeding import derive_seed
from vbon.tasks.grammar import write_reviews

PARTS = ("reference", "reward_model", "evaluator", "train", "test")


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


def with_test_rows(rows: pd.DataFrame, tested: pd.DataFrame, column: str) -> pd.DataFrame:
    """Rows with those of another source, which are for the test alone.

    Args:
        rows: What models and training prompts are made of; what is tested on is dropped.
        tested: Rows of the other source.
        column: Where a row keeps its text.

    Returns:
        Both, with a column ``for_test``; ``attrs["duplicates"]`` counts all that were dropped.

    Example:
        >>> ours, theirs = pd.DataFrame({"text": ["a", "b"]}), pd.DataFrame({"text": ["b", "b"]})
        >>> both = with_test_rows(ours.assign(source_id="x-1"), theirs.assign(source_id="x-1"),
        ...                       "text")
        >>> both["text"].tolist(), both["for_test"].tolist(), both["source_id"].tolist()
        (['a', 'b'], [False, True], ['x-1', 'test-x-1'])
    """
    own = tested.drop_duplicates(column).assign(for_test=True)
    own["source_id"] = "test-" + own["source_id"]  # two splits of a dataset number rows alike
    kept = rows[~rows[column].isin(own[column])].assign(for_test=False)
    both = pd.concat([kept, own], ignore_index=True)
    dropped = len(rows) + len(tested) - len(both)
    both.attrs["duplicates"] = rows.attrs.get("duplicates", 0) + dropped
    return both


def distinct(found: pd.DataFrame, column: str, count: int | None, seed: int) -> pd.DataFrame:
    """Rows whose text had not occurred before, at most ``count`` of them chosen by the seed.

    Args:
        found: All rows.
        column: Where a row keeps its text.
        count: How many to keep; None for all.
        seed: Of the choice.

    Returns:
        The rows in their order; ``attrs["duplicates"]`` is the number of rows that repeated a text.
    """
    rows = found.drop_duplicates(column, ignore_index=True)
    duplicates = len(found) - len(rows)
    if count is not None and count < len(rows):
        chosen = sorted(_shuffled(rows[column], seed, "choice")[:count])
        rows = rows.loc[chosen].reset_index(drop=True)
    rows.attrs["duplicates"] = duplicates
    return rows


def read_rows(source: str, key: str, revision: str | None = None) -> Iterator[tuple[str, str, Any]]:
    """Read a local file of JSON lines, or a dataset by its id.

    Args:
        source: A ``.jsonl`` or ``.jsonl.gz`` file, or an id with its split after a colon.
        key: Where the source stands in the config, for messages.
        revision: Commit of the dataset's id.

    Yields:
        A name for each row that does not depend on others, where it stands, and the row.

    Raises:
        DataError: If the source cannot be read, with the number of the bad line.
    """
    if source.endswith((".jsonl", ".jsonl.gz")):
        rows = _read_json_lines(Path(source), key)
        name, unit = Path(source).name.split(".jsonl")[0], "line"
    else:
        rows = _read_dataset(source, key, revision)
        name, unit = source.split(":")[0].replace("/", "-"), "row"
    for number, row in rows:
        yield f"{name}-{number:06d}", f"{source}, {unit} {number}", row


def _read_json_lines(path: Path, key: str) -> Iterator[tuple[int, Any]]:
    if not path.is_file():
        raise DataError(f"{key} {str(path)!r} does not exist; give a .jsonl(.gz) file")
    opener = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with opener(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path}, line {number}: unreadable JSON ({reason}); each line must be one JSON object"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}, after line {number}: cannot be read ({error})") from error


def _read_dataset(source: str, key: str, revision: str | None) -> Iterator[tuple[int, Any]]:
    from datasets import load_dataset

    name, _, split = source.partition(":")
    try:
        folder = Path(name) if Path(name).is_dir() else snapshot(name, revision, "dataset")
    except ArtifactError as error:
        raise DataError(f"{key}: {error} or .jsonl(.gz) file") from error
    try:
        dataset = load_dataset(str(folder), split=split or "train")
    except Exception as error:  # the library raises many kinds: unknown split, damaged files
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{key} {source!r} could not be loaded ({type(error).__name__}: {reason}); give "
            "'grammar', a local .jsonl(.gz) file, or a dataset id with one of its splits"
        ) from error
    yield from enumerate(dataset, start=1)


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


def _shuffled(texts: "pd.Series[str]", seed: int, name: str) -> list[int]:
    """Row numbers in an order that depends on each row's own text, not on its neighbours."""
    salt = str(derive_seed(seed, name)).encode()
    keys = [hashlib.sha256(salt + text.encode()).digest() for text in texts]
    return sorted(range(len(keys)), key=keys.__getitem__)


def split_reviews(reviews: pd.DataFrame, fractions: Mapping[str, float], seed: int) -> pd.DataFrame:
    """Assign each review to one part; no text is in two parts.

    The classifiers, the reference and the prompts must not share text: the evaluator is held
    out from everything that the reward model has seen. Rows are ordered by a hash of their text,
    so adding reviews moves only those near a boundary.

    Args:
        reviews: As :func:`load_reviews` returns them.
        fractions: Share of each part in ``reference``, ``reward_model``, ``evaluator``,
            ``train``, ``test``; one in sum, and 0 for a part that is not needed.
        seed: Another seed gives another split.

    Returns:
        The reviews in their order, with a column ``part`` (schema "reviews").

    Raises:
        ConfigError: If parts are missing or unknown, or shares are negative or not one in sum.
        DataError: If a text repeats or a part would be empty.

    Example:
        >>> shares = dict(reference=0.5, reward_model=0.2, evaluator=0.1, train=0.1, test=0.1)
        >>> reviews = split_reviews(load_reviews("grammar", 100), shares, seed=0)
        >>> reviews["part"].value_counts().to_dict()["reference"]
        50
    """
    if not reviews["text"].is_unique:
        raise DataError("reviews repeat a text, so parts could share it; drop repeated texts first")
    return assign_parts(reviews, "text", fractions, seed, "reviews")


def assign_parts(
    rows: pd.DataFrame, column: str, fractions: Mapping[str, float], seed: int, kind: str
) -> pd.DataFrame:
    """Rows with a column ``part``; see :func:`split_reviews`.

    Args:
        rows: Rows with distinct texts.
        column: Where a row keeps its text.
        fractions: Share of each part.
        seed: Another seed gives another split.
        kind: What the rows are, which is also their section of the config.
    """
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
        own = assign_parts(rows[~tested], column, fractions, seed, kind)
        return pd.concat([own, rows[tested].assign(part="test")], ignore_index=True)
    order = _shuffled(rows[column], seed, "split")
    parts = [""] * len(rows)
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

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

from vbon.errors import ConfigError, DataError
from vbon.seeding import derive_seed
from vbon.tasks.grammar import write_reviews

PARTS = ("reference", "reward_model", "evaluator", "train", "test")


def load_reviews(
    source: str,
    num_reviews: int | None = None,
    text_column: str = "text",
    label_column: str = "label",
    seed: int = 0,
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

    Returns:
        Columns ``source_id`` (str), ``text`` (str), ``label`` (int). ``attrs["duplicates"]`` is
        the number of rows that were dropped because their text had occurred before.

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
    found = pd.DataFrame(
        [
            (name, *_checked(row, where, text_column, label_column))
            for name, where, row in read_rows(source, "reviews.source")
        ],
        columns=["source_id", "text", "label"],
    )
    if found.empty:
        raise DataError(f"{source} holds no reviews; one JSON object a line is expected")
    return distinct(found, "text", num_reviews, seed)


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


def read_rows(source: str, key: str) -> Iterator[tuple[str, str, Any]]:
    """Read a local file of JSON lines, or a dataset by its id.

    Args:
        source: A ``.jsonl`` or ``.jsonl.gz`` file, or an id with its split after a colon.
        key: Where the source stands in the config, for messages.

    Yields:
        A name for each row that does not depend on others, where it stands, and the row.

    Raises:
        DataError: If the source cannot be read, with the number of the bad line.
    """
    if source.endswith((".jsonl", ".jsonl.gz")):
        rows = _read_json_lines(Path(source), key)
        name, unit = Path(source).name.split(".jsonl")[0], "line"
    else:
        rows, name, unit = _read_dataset(source, key), source.split(":")[0].replace("/", "-"), "row"
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


def _read_dataset(source: str, key: str) -> Iterator[tuple[int, Any]]:
    from datasets import load_dataset

    name, _, split = source.partition(":")
    try:
        dataset = load_dataset(name, split=split or "train")
    except Exception as error:  # the library raises many kinds: no network, unknown id or split
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{key} {source!r} could not be loaded ({type(error).__name__}: {reason}); "
            "give 'grammar', a local .jsonl(.gz) file, or a dataset id that is cached or reachable"
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
            ``train``, ``test``; positive, and one in sum.
        seed: Another seed gives another split.

    Returns:
        The reviews in their order, with a column ``part`` (schema "reviews").

    Raises:
        ConfigError: If parts are missing or unknown, or shares are not positive or not one in sum.
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
    low = [f"{part}: {share}" for part, share in fractions.items() if not share > 0]
    if low or not math.isclose(sum(fractions.values()), 1.0, abs_tol=1e-9):
        raise ConfigError(
            f"{kind}.fractions has {low[0] if low else f'sum {sum(fractions.values()):g}'}; "
            "shares must be positive and add up to 1"
        )
    order = _shuffled(rows[column], seed, "split")
    parts = [""] * len(rows)
    start, share = 0, 0.0
    for part in PARTS:
        share += fractions[part]
        stop = round(share * len(rows))
        if stop == start:
            raise DataError(
                f"{kind}.fractions gives no {kind[:-1]} to part {part!r} of {len(rows)}; "
                f"raise {kind}.num_{kind} or its share"
            )
        for row in order[start:stop]:
            parts[row] = part
        start = stop
    return rows.assign(part=parts)

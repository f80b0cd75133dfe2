"""Labelled reviews: prompts are their first tokens, the reward is a classifier's logit."""

from typing import Any

import pandas as pd

from vbon.errors import ConfigError, DataError
from vbon.tasks.base import TextTask
from vbon.tasks.grammar import write_reviews
from vbon.tasks.registry import register
from vbon.tasks.texts import check_rows, distinct, read_rows, with_test_rows


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

    def check_rows(self, where: str) -> None:
        """Refuse sources whose first row is no labelled review."""
        settings = self.section["reviews"]
        columns = settings["text_column"], settings["label_column"]
        for key in ("source", "test_source"):
            place = f"{where}.reviews.{key}"
            check_rows(settings[key], place, lambda row, at: _checked(row, at, *columns)[0])

    def texts(self, seed: int) -> pd.DataFrame:
        """Labelled reviews."""
        names = ("source", "num_reviews", "text_column", "label_column", "revision", "test_source")
        settings = {name: self.section["reviews"].get(name) for name in names}
        return self.divided(load_reviews(**settings, seed=seed), seed)

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
        source: ``"grammar"``; a file or folder that :mod:`vbon.tasks.files` reads; or the id of
            a dataset, with its split after a colon (``"name:train"``).
        num_reviews: At most this many, selected by the seed after repeated texts are dropped;
            None keeps all. The grammar needs a number.
        text_column: Column of the text.
        label_column: Column of the label, 1 (positive) or 0 (negative).
        seed: Seed of the grammar, and of the selection from the rows of a file.
        revision: Commit of a dataset.
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
        rows = read_rows(source, key, revision)
        checked = [(name, *_checked(row, at, text_column, label_column)) for name, at, row in rows]
        reviews = pd.DataFrame(checked, columns=["source_id", "text", "label"])
        if reviews.empty:
            raise DataError(f"{source} holds no reviews; give at least one row")
        return reviews

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
    if label in ("0", "1"):  # as in CSV
        label = int(label)
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where}: column {text_column!r} is empty or not text; got {text!r}")
    if not isinstance(label, int | float) or label not in (0, 1):
        raise DataError(
            f"{where}: column {label_column!r} is {label!r}; accepted are 0 (negative) and "
            "1 (positive)"
        )
    return text, int(label)

"""Every column of every table has a description."""

from pathlib import Path

import pytest

from vbon.artifacts import SCHEMAS
from vbon.artifacts.columns import COMMON, OWN, TABLES, meaning
from vbon.errors import ArtifactError
from vbon.planning.config import resolve, tasks_of
from vbon.tasks.base import TextTask

ONE_NAME = {f"table{number}": "table2" for number in range(4, 8)}
OPTIONAL = {
    "pairs": {"num_below", "num_level"},
    "points": {"m", "estimator"},
    "prompts": {"messages", "row"},
}
PUBLISHED = Path(__file__).parent.parent.parent / "published"


def columns() -> dict[str, list[str]]:
    """Columns by table: those of the schemas, of texts of every kind, and of published tables."""
    tables = {name: list(schema.columns) for name, schema in SCHEMAS.items()}
    named = {"tasks": ["sentiment", "summarization"], "run_methods": ["reference"], "methods": {}}
    few = {"num_train": 2, "num_test": 4}
    small = {"sentiment": {"reviews": {"num_reviews": 400}, "prompts": few},
             "summarization": {"posts": {"num_posts": 400}, "prompts": few}}  # fmt: skip
    for task in tasks_of(resolve({**named, **small})).values():
        assert isinstance(task, TextTask)
        tables["texts"] += [name for name in task.texts(0) if name not in tables["texts"]]
    for file in sorted(PUBLISHED.glob("*/tables/*.csv")):
        name = ONE_NAME.get(file.stem, file.stem)
        tables[name] = file.read_text().partition("\n")[0].split(",")
    return tables


def test_every_table_and_column_is_described():
    known = columns()
    assert set(known) <= set(TABLES)
    for table, names in known.items():
        for name in names:
            assert meaning(table, name)


def test_every_description_belongs_to_a_table_and_column():
    known = columns()
    assert set(OWN) <= set(TABLES)
    for table, texts in OWN.items():
        if table in known:  # else not yet published
            more = OPTIONAL.get(table, set())
            assert set(texts) <= {*known[table], *more}, table
    anywhere = {name for names in known.values() for name in names}
    assert set(COMMON) <= anywhere


def test_a_column_without_a_description_is_refused():
    with pytest.raises(ArtifactError, match=r"points.mood: the column has no description"):
        meaning("points", "mood")

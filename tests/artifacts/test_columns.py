"""Every column of every table has a description."""

from pathlib import Path

import pytest

from vbon.artifacts import SCHEMAS
from vbon.artifacts.columns import COMMON, OWN, TABLES, meaning
from vbon.errors import ArtifactError

ONE_NAME = {"samples": "shown_samples", **{f"table{number}": "table2" for number in range(4, 8)}}
NEW = {"key", "rule_high", "rule_low"}
"""Described columns of tables of claims that the published copies do not have yet."""
PUBLISHED = Path(__file__).parent.parent.parent / "published"


def columns() -> dict[str, list[str]]:
    """Columns by table: those of the schemas, and those of published tables without one."""
    tables = {name: list(schema.columns) for name, schema in SCHEMAS.items()}
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
            more = {"m", "estimator"} if table == "points" else set()
            assert set(texts) <= {*known[table], *more}, table
    anywhere = {name for names in known.values() for name in names}
    assert set(COMMON) <= anywhere | NEW


def test_a_column_without_a_description_is_refused():
    with pytest.raises(ArtifactError, match=r"points.mood: the column has no description"):
        meaning("points", "mood")

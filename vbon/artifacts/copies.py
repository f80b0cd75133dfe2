"""Copies of table artifacts as CSV, for where only these are at hand."""

from pathlib import Path

import pandas as pd

from vbon.artifacts.schemas import BOOL, FLOAT, INT, LONG, SCHEMAS, STRING
from vbon.artifacts.tables import read_table
from vbon.errors import ArtifactError

_TYPES = {STRING: "str", BOOL: "bool", INT: "int64", LONG: "int64", FLOAT: "float64"}


def read_copy(path: str | Path, schema: str) -> pd.DataFrame:
    """Read the CSV copy of a table with the types of its schema, numbers to the last bit.

    Args:
        path: A ``.csv`` file.
        schema: A name in :data:`vbon.artifacts.SCHEMAS` without lists among its columns.

    Raises:
        ArtifactError: With the file and the column that is missing or of another type.
    """
    columns = SCHEMAS[schema].columns
    found = pd.read_csv(path, nrows=0).columns
    for column in columns:
        if column not in found:
            raise ArtifactError(f"{path}: column {column!r} is missing; it has {list(found)}")
    types = {name: _TYPES[kind] for name, kind in columns.items()}
    try:
        return pd.read_csv(path, dtype=types, float_precision="round_trip")
    except ValueError as error:
        raise ArtifactError(
            f"{path}: not a copy of table {schema!r} ({error}); copy it again"
        ) from error


def read_either(path: str | Path) -> pd.DataFrame:
    """A table artifact, the CSV copy of one, or a small table, told apart by the file's name."""
    path = Path(path)
    if path.suffix == ".parquet":
        return read_table(path, path.stem)
    return read_copy(path, path.stem) if path.stem in SCHEMAS else pd.read_csv(path)

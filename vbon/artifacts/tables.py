"""Reading and writing of table artifacts: atomic, checked, with provenance in the footer."""

import csv
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from vbon.artifacts.fingerprint import MEASURED, UNREADABLE, content_hash, data_hash
from vbon.artifacts.markdown import TEXTS
from vbon.artifacts.measured import measured
from vbon.artifacts.schemas import BOOL, FLOAT, INT, LONG, SCHEMAS, STRING, Schema
from vbon.artifacts.storage import file_mode, naming
from vbon.errors import ArtifactError

_FOOTER = b"vbon"
_TYPES = {STRING: "str", BOOL: "bool", INT: "int64", LONG: "int64", FLOAT: "float64"}


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it only if the block succeeds.

    The data are flushed to disk before the rename, so that a crash or a full disk leaves the old
    file or the new one, never part of one.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "note.txt"
        >>> with atomic_path(target) as temporary:
        ...     _ = temporary.write_text("done")
        >>> target.read_text()
        'done'
    """
    path = Path(path)
    prefix, temporary = f".{path.name}.", None
    try:
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=path.suffix)
            os.close(handle)
            temporary = Path(name)
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            temporary.chmod(file_mode())
            os.replace(temporary, path)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write a JSON file atomically, keys sorted, with a final newline."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


def read_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON file of names and values.

    Raises:
        ArtifactError: If it is missing or is not such a file.
    """
    path = Path(path)
    if not path.exists():
        raise ArtifactError(f"{path} does not exist; make it with: {rebuilding()}")
    try:
        value = json.loads(path.read_text())
    except UNREADABLE as error:
        raise _damaged(path, error) from error
    if not isinstance(value, dict):
        raise _damaged(path, "it has no key")
    return value


def read_record(path: str | Path) -> dict[str, Any]:
    """Read a ``run.json`` or ``card.json``.

    Raises:
        ArtifactError: If it is missing, is not JSON, or has no ``key``.
    """
    record = read_json(path)
    if "key" not in record:
        raise _damaged(path, "it has no key")
    if not isinstance(record.get("parts", {}), dict):
        raise _damaged(path, "its parts have no names")
    return record


def write_record(path: str | Path, record: dict[str, Any]) -> None:
    """Write the record of a folder: ``record`` and a content hash of every other file in it.

    Write it last, when the folder is complete.

    Args:
        path: ``run.json`` or ``card.json``; the other files and folders beside it are its parts.
        record: Must have a ``key``.
    """
    path = Path(path)
    parts = [part for part in path.parent.iterdir() if part.name[0] != "." and part != path]
    hashes = {part.name: content_hash(part) for part in sorted(parts)}
    write_json(path, {**record, "parts": hashes})


def damaged_parts(path: str | Path) -> list[str]:
    """Names of the parts of a record that are missing or have changed.

    Raises:
        ArtifactError: If the record itself is missing or damaged.
    """
    parts = {Path(path).parent / k: v for k, v in read_record(path).get("parts", {}).items()}
    return [p.name for p in parts if not p.exists() or content_hash(p) != parts[p]]


def write_csv(path: str | Path, frame: pd.DataFrame, provenance: dict[str, Any]) -> None:
    """Write a small table as CSV in full precision, and its provenance beside it.

    Args:
        path: A ``.csv`` file; its provenance gets the suffix ``.json``.
        frame: The rows.
        provenance: Provenance of the table (:func:`vbon.artifacts.fingerprint.provenance`).
    """
    with atomic_path(path) as temporary:
        frame.to_csv(temporary, index=False, quoting=quoting(frame))
    write_card(path, provenance)


def quoting(frame: pd.DataFrame) -> int:
    r"""How the cells of a CSV file are quoted: all words if a carriage return is in one.

    Readers take it for the end of a row, and :mod:`pandas` does not quote it.

    Example:
        >>> [quoting(pd.DataFrame({"a": [text, 0.5]})) for text in ("b\n", "b\r")]
        [0, 2]
    """
    words = frame.select_dtypes(exclude="number").astype(str)
    has_return = any(words[name].str.contains("\r", regex=False).any() for name in words)
    return csv.QUOTE_NONNUMERIC if has_return else csv.QUOTE_MINIMAL


def write_card(path: str | Path, provenance: dict[str, Any]) -> None:
    """Write the provenance of a file that has no footer as ``{stem}.json`` beside it."""
    content = {"content": content_hash(path), MEASURED: measured()}
    write_json(Path(path).with_suffix(".json"), {**provenance, **content})


def _schema(name: str) -> Schema:
    if name not in SCHEMAS:
        raise ArtifactError(f"unknown table schema {name!r}; known: {', '.join(SCHEMAS)}")
    return SCHEMAS[name]


def write_table(
    path: str | Path, frame: pd.DataFrame, schema: str, provenance: dict[str, Any] | None = None
) -> None:
    """Write a table atomically, its columns checked and cast, provenance in the footer.

    Args:
        path: A ``.parquet`` file; its folder is created.
        frame: The rows. Columns beyond the schema are kept unchanged.
        schema: A name in :data:`vbon.artifacts.schemas.SCHEMAS`.
        provenance: Provenance of the table (:func:`vbon.artifacts.fingerprint.provenance`). The
            footer also gets a hash of the data, time and memory; equal data have the same
            :func:`~vbon.artifacts.fingerprint.content_hash` whatever the footer.

    Raises:
        ArtifactError: If a column is missing or cannot be cast, or a key repeats. Nothing is
            written then.
    """
    spec = _schema(schema)
    missing = [column for column in spec.columns if column not in frame.columns]
    if missing:
        raise ArtifactError(
            f"{path}: table {schema!r} lacks column {missing[0]!r}; nothing written"
        )
    keys = frame[list(spec.keys)].map(lambda key: tuple(key) if isinstance(key, list) else key)
    if keys.duplicated().any():
        raise ArtifactError(
            f"{path}: table {schema!r} repeats a key ({', '.join(spec.keys)}); nothing written"
        )
    extra = [column for column in frame.columns if column not in spec.columns]
    arrays = {}
    for column in [*spec.columns, *extra]:
        kind = spec.columns.get(column)
        try:
            arrays[column] = pa.array(frame[column], type=kind, from_pandas=True)
        except pa.ArrowException as error:
            wanted = kind or "of one type"
            raise ArtifactError(
                f"{path}: column {column!r} is not {wanted} ({error}); nothing written"
            ) from error
    footer = {"schema": schema, "version": spec.version, "file": Path(path).name}
    with atomic_path(path) as temporary:
        _write_parquet(temporary, pa.table(arrays), footer | (provenance or {}))


def _write_parquet(path: Path, table: pa.Table, footer: dict[str, Any]) -> None:
    """Write the columns, then a footer with their hash."""
    with open(path, "wb+") as file, pq.ParquetWriter(file, table.schema, compression="zstd") as out:
        out.write_table(table)
        file.seek(0)
        content = {"content": data_hash(file.read(), table.schema), MEASURED: measured()}
        out.add_key_value_metadata({_FOOTER: json.dumps({**footer, **content}, sort_keys=True)})


def read_provenance(path: str | Path) -> dict[str, Any]:
    """Provenance of a table, from its footer.

    Raises:
        ArtifactError: If the file is missing, truncated, or was not written by this project.
    """
    path = Path(path)
    if not path.exists():
        raise ArtifactError(f"{path} does not exist; make it with: {rebuilding()}")
    try:
        metadata = pq.read_metadata(path).metadata or {}
        footer = json.loads(metadata.get(_FOOTER, b"{}"))
    except UNREADABLE as error:
        raise _damaged(path, error) from error
    if _FOOTER not in metadata:
        raise ArtifactError(
            f"{path} was not written by vbon, or has changed since: its footer has no provenance; "
            f"rebuild it with: {rebuilding()}"
        )
    if not isinstance(footer, dict):
        raise _damaged(path, "its footer has no names")
    return footer


def check_table(path: str | Path) -> dict[str, Any]:
    """Compare a table's data with the hash in its footer, and return that footer.

    Raises:
        ArtifactError: If the table is missing or damaged, was changed by another program, or was
            written under another name.
    """
    footer = read_provenance(path)
    name = Path(path).name
    if footer.get("file", name) != name:
        raise _damaged(path, f"it was written as {footer['file']}")
    if "content" in footer and footer["content"] != content_hash(path):
        raise _damaged(path, "its data do not match the hash in its footer")
    return footer


def _damaged(path: str | Path, why: object) -> ArtifactError:
    """Error for a damaged file, which the workflow sets aside and makes again."""
    reason = " ".join(str(why).split())[:200] or type(why).__name__
    return ArtifactError(f"{path} is damaged ({reason}); rebuild it with: {rebuilding()}")


def rebuilding() -> str:
    """Command that makes artifacts again: the one that started this process, if known."""
    return os.environ.get("VBON_COMMAND", "vbon workflow --cores all")


def read_table(path: str | Path, schema: str, columns: list[str] | None = None) -> pd.DataFrame:
    """Read a table, refusing another schema, another version, a missing column or damage.

    Args:
        path: A file written by :func:`write_table`.
        schema: The schema the caller expects.
        columns: Only these columns; all of them by default.

    Raises:
        ArtifactError: If the file is missing or damaged, or has another schema, another version
            or no such column.
    """
    spec = _schema(schema)
    footer = check_table(path)
    name, version = footer.get("schema"), footer.get("version")
    if (name, version) != (schema, spec.version):
        raise ArtifactError(
            f"{path}: contains table {name!r} version {version}, expected {schema!r} version "
            f"{spec.version}; delete it and run: {rebuilding()}"
        )
    try:
        _check_columns(path, pq.read_schema(path).names, columns or spec.columns)
        return pq.read_table(path, columns=columns, use_threads=False).to_pandas()
    except ArtifactError:
        raise
    except UNREADABLE as error:
        raise _damaged(path, error) from error


def _check_columns(path: str | Path, names: Iterable[str], needed: Iterable[str]) -> None:
    missing = [column for column in needed if column not in names]
    if missing:
        raise ArtifactError(
            f"{path}: column {missing[0]!r} is missing; the table has {', '.join(names)}"
        )


def read_copy(path: str | Path, schema: str) -> pd.DataFrame:
    """Read the CSV copy of a table with the types of its schema, numbers exact to the last bit.

    Args:
        path: A ``.csv`` file.
        schema: A name in :data:`vbon.artifacts.schemas.SCHEMAS` without lists among its columns.

    Raises:
        ArtifactError: If a column is missing or has another type.
    """
    columns = SCHEMAS[schema].columns
    _check_columns(path, _read_csv(path, nrows=0).columns, columns)
    types = {name: _TYPES[kind] for name, kind in columns.items()}
    try:
        return pd.read_csv(path, dtype=types, float_precision="round_trip")
    except ValueError as error:
        raise ArtifactError(
            f"{path}: not a copy of table {schema!r} ({error}); copy it again"
        ) from error


def read_either(
    path: str | Path, schema: str | None = None, columns: list[str] | None = None
) -> pd.DataFrame:
    """Read a table artifact, its CSV copy or a small table; its schema is by default its name."""
    schema = schema or Path(path).stem
    if Path(path).suffix == ".parquet":
        return read_table(path, schema, columns)
    return read_copy(path, schema) if schema in SCHEMAS else read_small(path)


def read_small(path: str | Path, *columns: str) -> pd.DataFrame:
    """Read a small table: texts as they are written, even if they are "NA" or all digits.

    Args:
        path: A ``.csv`` file.
        columns: Columns that it must have.

    Raises:
        ArtifactError: If it is no table, or lacks one of the columns.
    """
    frame = _read_csv(path)
    _check_columns(path, frame.columns, columns)
    names = [name for name in TEXTS if name in frame]
    if names:
        frame[names] = _read_csv(path, usecols=names, dtype=str, keep_default_na=False)[names]
    return frame


def _read_csv(path: str | Path, **options: Any) -> pd.DataFrame:
    """Read a CSV file.

    Raises:
        ArtifactError: If it cannot be read as one.
    """
    try:
        return pd.read_csv(path, **options)
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:200]
        raise ArtifactError(
            f"{path}: cannot be read as a CSV table ({reason}); copy or make it again"
        ) from error


def write_both(path: str, frame: pd.DataFrame, schema: str, record: dict[str, Any]) -> None:
    """Write a table as Parquet, and as CSV beside it with the columns in the same order."""
    columns = [*SCHEMAS[schema].columns, *frame.columns.difference(SCHEMAS[schema].columns)]
    missing = frame.columns.symmetric_difference(columns)
    if len(missing):
        raise ArtifactError(f"{path}: column {missing[0]!r} was not computed")
    write_table(path, frame[columns], schema, record)
    with atomic_path(Path(path).with_suffix(".csv")) as temporary:
        frame[columns].to_csv(temporary, index=False, quoting=quoting(frame))

"""Read and write table artifacts: atomic, checked, with provenance in the parquet footer."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from vbon.artifacts.schemas import SCHEMAS, Schema
from vbon.errors import ArtifactError

_FOOTER = b"vbon"


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it only if the block succeeds.

    The data are flushed to disk before the rename, so that a crash or a full disk leaves either
    the old file or the new one, never half of one.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "note.txt"
        >>> with atomic_path(target) as temporary:
        ...     _ = temporary.write_text("done")
        >>> target.read_text()
        'done'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write a JSON file atomically, keys sorted, with a final newline."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


def _schema(name: str) -> Schema:
    if name not in SCHEMAS:
        raise ArtifactError(f"unknown table schema {name!r}; known: {', '.join(SCHEMAS)}")
    return SCHEMAS[name]


def write_table(
    path: str | Path, frame: pd.DataFrame, schema: str, provenance: dict[str, Any] | None = None
) -> None:
    """Write a table atomically, its columns checked and cast, provenance in the footer.

    Args:
        path: A ``.parquet`` file; its folder is made.
        frame: The rows. Columns beyond the schema are kept as they are.
        schema: A name in :data:`vbon.artifacts.SCHEMAS`.
        provenance: What made the table (seed, settings, input hashes). No times belong here:
            the same inputs must give the same bytes.

    Raises:
        ArtifactError: If a column is missing, has a type that cannot be cast, or keys repeat.
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
            raise ArtifactError(f"{path}: column {column!r} is not {wanted}: {error}") from error
    footer = {"schema": schema, "version": spec.version, **(provenance or {})}
    table = pa.table(arrays).replace_schema_metadata(
        {_FOOTER: json.dumps(footer, sort_keys=True).encode()}
    )
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_provenance(path: str | Path) -> dict[str, Any]:
    """Return what the footer of a table says about its making.

    Raises:
        ArtifactError: If the file is missing, truncated, or was not written by this project.
    """
    path = Path(path)
    if not path.exists():
        raise ArtifactError(f"{path} does not exist; make it with: snakemake --cores 1 -- {path}")
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (pa.ArrowInvalid, OSError) as error:
        raise ArtifactError(
            f"{path} is damaged ({error}); delete it and run: snakemake --cores 1 -- {path}"
        ) from error
    if _FOOTER not in metadata:
        raise ArtifactError(f"{path} was not written by vbon: its footer has no provenance")
    return json.loads(metadata[_FOOTER])


def read_table(path: str | Path, schema: str, columns: list[str] | None = None) -> pd.DataFrame:
    """Read a table, refusing another schema, another version or a missing column.

    Args:
        path: A file written by :func:`write_table`.
        schema: The schema the caller expects.
        columns: Only these columns; all of them by default.

    Raises:
        ArtifactError: With the file, the column or version, and the command that rebuilds it.
    """
    spec = _schema(schema)
    footer = read_provenance(path)
    found = (footer.get("schema"), footer.get("version"))
    if found != (schema, spec.version):
        raise ArtifactError(
            f"{path}: holds table {found[0]!r} version {found[1]}, expected {schema!r} version "
            f"{spec.version}; delete it and run: snakemake --cores 1 -- {path}"
        )
    try:
        names = pq.read_schema(path).names
        for column in columns if columns is not None else spec.columns:
            if column not in names:
                raise ArtifactError(f"{path}: column {column!r} is missing; it has {names}")
        return pq.read_table(path, columns=columns, use_threads=False).to_pandas()
    except (pa.ArrowInvalid, OSError) as error:
        raise ArtifactError(
            f"{path} is damaged ({error}); delete it and run: snakemake --cores 1 -- {path}"
        ) from error

"""Rows of the user's files: JSON lines, JSON, Parquet, CSV and Arrow, also compressed by gzip."""

import csv
import gzip
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from vbon.artifacts.encoding import Repeating, decoded, foreign, parsed, repeated
from vbon.errors import DataError, reason

ENDINGS = (".jsonl", ".json", ".parquet", ".csv", ".arrow")
"""Endings of files that are read, in either case; each may be followed by ``.gz``."""
OTHER_ENDINGS = (
    ".txt", ".tsv", ".xml", ".yaml", ".yml", ".xls", ".xlsx", ".zip", ".tar", ".tgz", ".bz2", ".xz",
    ".zst", ".7z", ".pkl", ".pickle", ".npy", ".npz", ".feather", ".orc", ".db", ".sqlite", ".gz",
    ".ndjson", ".py", ".md",
)  # fmt: skip
"""Endings of files that are not read."""
ACCEPTED = f"a file that ends in {', '.join(ENDINGS)} (perhaps with .gz), or a folder of them"

_LONGEST_LINE = 2**24  # bytes
_ARROW_FILE = b"ARROW1"  # begins the format for files; the other is a stream
_LARGEST_FILE = 2**29  # bytes of a file that is read at once
_DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
"""Files that the library ``datasets`` writes beside the rows."""


def source_kind(source: str) -> Literal["grammar", "local", "hub"]:
    """Origin of the rows of a source: the grammar, files of this machine, or a dataset of the hub.

    Example:
        >>> [source_kind(name) for name in ("grammar", "my.JSONL", "./folder", "notes.txt")]
        ['grammar', 'local', 'local', 'local']
        >>> source_kind("stanfordnlp/imdb:train")
        'hub'
    """
    if source == "grammar":
        return "grammar"
    path = source.partition(":")[0]
    is_path = source.startswith(("/", ".", "~")) or path.endswith("/") or path.count("/") > 1
    is_file = path.lower().endswith((*ENDINGS, *OTHER_ENDINGS))
    return "local" if is_path or is_file or Path(path).exists() else "hub"


def is_data(path: Path) -> bool:
    """Return True if a file's name has an ending that is read.

    Example:
        >>> is_data(Path("a/My.JSONL.gz")), is_data(Path("README.md"))
        (True, False)
    """
    name = path.name.lower()
    return name.removesuffix(".gz").endswith(ENDINGS) and name not in _DESCRIPTIONS


def folder_and_split(source: str) -> tuple[Path | None, str]:
    """Folder that a source names, and the split after its colon; None for a file.

    Example:
        >>> folder_and_split("absent.jsonl")
        (None, '')
    """
    path, _, split = source.rpartition(":")
    for name, part in ((source, ""), (path, split)):
        if name and Path(name).expanduser().is_dir():
            return Path(name).expanduser(), part
    return None, ""


def files_in(folder: Path, split: str) -> list[Path]:
    """Data files below a folder, in alphabetical order.

    Args:
        folder: Folder; what is hidden in it is left out.
        split: Word in the names of the files, or of their folders; without one, the files of
            ``train`` if there are any, and else all.
    """
    below = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if is_data(path)]
    shown = [path for path in below if not any(part.startswith(".") for part in path.parts)]

    def of(name: str) -> list[Path]:
        word = re.compile(rf"(?:^|[^a-z0-9]){re.escape(name.lower())}(?:[^a-z0-9]|$)")
        return [folder / path for path in shown if word.search(str(path).lower())]

    return of(split) if split else of("train") or [folder / path for path in shown]


def refusal(source: str) -> str | None:
    """Reason for which a local source cannot be read whatever its rows, with the remedy.

    Example:
        >>> refusal("notes.txt")[:40]
        "'notes.txt' has an unknown ending; give "
    """
    path, (folder, split) = Path(source).expanduser(), folder_and_split(source)
    if folder is not None:
        of_split = f" of split {split!r}" if split else ""
        return None if files_in(folder, split) else (
            f"{source!r} has no data files{of_split}; give {ACCEPTED}, or a dataset id"
        )  # fmt: skip
    if is_data(path):
        return None
    is_named = path.is_file() or path.name.lower().endswith(OTHER_ENDINGS)
    why = "has an unknown ending" if is_named else "does not exist"
    return f"{source!r} {why}; give {ACCEPTED}, or a dataset id"


def read_local(source: str, key: str) -> Iterator[tuple[str, str, Any]]:
    """Read a file, or the files of a folder.

    Args:
        source: Path of the file; or of the folder, perhaps with a split after a colon.
        key: Key of the source in the config, for messages.

    Yields:
        A name of each row that does not depend on other rows, its place in the source, and the row.

    Raises:
        DataError: If there is no such file or it cannot be read, with the number of the bad line.
    """
    folder, split = folder_and_split(source)
    path = Path(source).expanduser()
    files = [path] if folder is None else files_in(folder, split)
    if why := refusal(source):
        raise DataError(f"{key} {why}")
    if not files[0].is_file():
        raise DataError(f"{key} {source!r} does not exist; give {ACCEPTED}, or a dataset id")
    names = [
        _stem(Path(file.name) if folder is None else file.relative_to(folder)) for file in files
    ]
    counts = Counter(names)
    for file, name in zip(files, names, strict=True):
        unique = name if counts[name] == 1 else f"{name}-{file.name.lower().split('.')[-1]}"
        for unit, number, row in _read(file):
            yield f"{unique}-{number:06d}", f"{file}, {unit} {number}", row


def _stem(path: Path) -> str:
    """Name of a file without its ending, after those of its folders."""
    name = path.name[: -len(".gz")] if path.name.lower().endswith(".gz") else path.name
    return "-".join((*path.parts[:-1], name[: name.rindex(".")]))


def _read(path: Path) -> Iterator[tuple[str, int, Any]]:
    """Unit, number from 1, and content of each row of a file."""
    name = path.name.lower()
    reader = _READERS[name.removesuffix(".gz")[name.removesuffix(".gz").rindex(".") :]]
    unit, number = "line", 0
    try:
        with open(path, "rb") as raw:
            _check_beginning(raw)
            with gzip.open(raw) if name.endswith(".gz") else nullcontext(raw) as file:
                _check_beginning(file)
                for unit, number, row in reader(file):
                    _check_row(row, f"{unit} {number}")
                    yield unit, number, row
    except DataError as error:
        raise DataError(f"{path}, {error}") from error
    except UnicodeEncodeError as error:
        raise DataError(
            f"{path}, {unit} {number}: has half of a character ({error.object[error.start]!r}), as "
            "where a text was cut within an emoji; correct it"
        ) from error
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise DataError(
            f"{path}, after {unit} {number}: cannot be read ({reason(error)})"
        ) from error


def _check_beginning(file: io.BufferedReader | gzip.GzipFile) -> None:
    """Refuse a file that stands in place of that with the data, or is in another encoding."""
    if what := foreign(file.peek(64)):
        raise DataError(f"line 1: the file {what}")


def _check_row(value: Any, place: str) -> None:
    """Refuse a row that gives a key twice, or (UnicodeEncodeError) has half of a character."""
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, Repeating):
        raise DataError(f"{place}: {value}; give each key once")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_row(key, place)
            _check_row(item, place)
    elif isinstance(value, list):
        for item in value:
            _check_row(item, place)


def _json_lines(file: io.BufferedIOBase) -> Iterator[tuple[str, int, Any]]:
    number = 0
    while line := file.readline(_LONGEST_LINE + 1):
        number += 1
        if len(line) > _LONGEST_LINE:
            raise DataError(
                f"line {number}: is longer than {_LONGEST_LINE // 2**20} MB; each line must be one "
                "JSON object"
            )
        if line.strip():
            line = line.rstrip(b"\r\n")  # an error at the end is in this line
            yield "line", number, _content(line, number, "; each line must be one JSON object")


def _content(data: bytes, number: int, remedy: str = "") -> Any:
    """Content of JSON that begins in a line of this number."""
    text = decoded(data, number)
    try:
        return parsed(text)
    except (ValueError, RecursionError, MemoryError) as error:
        what = reason(error)
        if isinstance(error, json.JSONDecodeError):
            number, what = number + error.lineno - 1, f"{error.msg}: column {error.colno}"
        raise DataError(f"line {number}: unreadable JSON ({what}){remedy}") from error


def _json(file: io.BufferedIOBase) -> Iterator[tuple[str, int, Any]]:
    """A list of objects, or JSON lines."""
    start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    file.seek(0)
    if not start.startswith(b"["):
        yield from _json_lines(file)
        return
    for number, row in enumerate(_content(_whole(file), 1), start=1):
        yield "row", number, row


def _whole(file: io.BufferedIOBase) -> bytes:
    data = file.read(_LARGEST_FILE + 1)
    if len(data) > _LARGEST_FILE:
        raise DataError(
            f"line 1: the file has more than {_LARGEST_FILE // 2**20} MB; give .jsonl or .parquet "
            "(not compressed by gzip)"
        )
    return data


def _csv(file: io.BufferedIOBase) -> Iterator[tuple[str, int, Any]]:
    """Rows of a table with a header; every cell is a text."""
    csv.field_size_limit(_LONGEST_LINE)
    with io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        reader = csv.reader(text, strict=True)
        header: list[str] = []
        while True:
            first = reader.line_num + 1
            try:
                cells = next(reader, None)
            except UnicodeDecodeError:
                file.seek(0)
                for number, line in enumerate(file, start=1):
                    decoded(line, number)
                raise
            except csv.Error as error:
                raise DataError(f"line {first}: unreadable CSV ({reason(error)})") from error
            if cells is None:
                return
            if not cells:
                continue
            if not header:
                header = cells
                _check_names(header, f"line {first}")
                continue
            if len(cells) != len(header):
                raise DataError(
                    f"line {first}: has {len(cells)} cells, the header {len(header)} "
                    f"({', '.join(header)}); write commas within a text in double quotes"
                )
            yield "line", first, dict(zip(header, cells, strict=True))


def _check_names(names: list[str], place: str) -> None:
    """Refuse columns of which two have one name."""
    if (name := repeated(names)) is not None:
        raise DataError(f"{place}: two columns are named {name!r}; give each a name of its own")


def _parquet(file: io.BufferedIOBase) -> Iterator[tuple[str, int, Any]]:
    with pq.ParquetFile(_from_end(file)) as table:
        yield from _rows(table.schema_arrow, table.iter_batches(1024))


def _from_end(file: io.BufferedIOBase) -> io.BufferedIOBase:
    """A file that can be read from its end, as one that is compressed cannot."""
    return io.BytesIO(_whole(file)) if isinstance(file, gzip.GzipFile) else file


def _arrow(file: io.BufferedIOBase) -> Iterator[tuple[str, int, Any]]:
    """Rows of either format, the stream (as of ``datasets``) or the file (as of Feather)."""
    is_stream = file.read(len(_ARROW_FILE)) != _ARROW_FILE
    file.seek(0)
    if is_stream:
        with pa.ipc.open_stream(file) as batches:
            yield from _rows(batches.schema, iter(batches))
        return
    with pa.ipc.open_file(_from_end(file)) as table:
        yield from _rows(table.schema, map(table.get_batch, range(table.num_record_batches)))


def _rows(schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[str, int, Any]]:
    _check_names(schema.names, "row 1")
    number = 0
    for batch in batches:
        try:
            rows = batch.to_pylist()
        except (UnicodeDecodeError, ValueError, OverflowError) as error:
            raise DataError(f"after row {number}: unreadable ({reason(error)})") from error
        for row in rows:
            number += 1
            yield "row", number, row


_READERS: dict[str, Callable[[io.BufferedIOBase], Iterator[tuple[str, int, Any]]]] = {
    ".jsonl": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
    ".arrow": _arrow,
}

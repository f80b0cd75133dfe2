"""Folders that are written whole or not at all, and messages for errors of storage."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_WRITABLE = "make it writable, or give results_dir a folder that is"
_REMEDIES = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space there, or request a larger quota",
    errno.ENOTDIR: _WRITABLE,
    errno.EROFS: _WRITABLE,
    errno.EACCES: _WRITABLE,
    errno.EPERM: _WRITABLE,
}

_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}(\.\w+)?")
"""Names of the temporary files of :func:`vbon.artifacts.tables.atomic_path`."""


def explain(error: BaseException) -> str | None:
    """Message for an error of storage and its remedy, in one line; None for any other error.

    Example:
        >>> explain(OSError(errno.ENOSPC, "No space left on device", "results/a.parquet"))
        'results/a.parquet: No space left on device; free some space there and run it again'
    """
    number = _number(error)
    if number not in _REMEDIES:
        return None
    where = getattr(error, "filename", None) or os.getcwd()
    return f"{where}: {os.strerror(number)}; {_REMEDIES[number]} and run it again"


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Name this path in storage errors raised inside: many name none, or a temporary file."""
    try:
        yield
    except Exception as error:
        number = _number(error)
        if number not in _REMEDIES:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def _number(error: BaseException) -> int | None:
    """Number of an error of the system (``errno``)."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    match = re.search(r"os error (\d+)", str(error))  # messages of safetensors and tokenizers
    return int(match[1]) if match else None


def file_mode() -> int:
    """Permissions of a new file of this process; temporary and safetensors files have fewer."""
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask


def being_written(folder: str | Path) -> Path:
    """Temporary folder in which :func:`atomic_folder` collects the content of ``folder``.

    Example:
        >>> str(being_written("runs/seed0"))
        'runs/.seed0.partial'
    """
    folder = Path(folder)
    return folder.with_name(f".{folder.name}.partial")


@contextmanager
def atomic_folder(folder: str | Path) -> Iterator[Path]:
    """Yield an empty folder beside ``folder`` that replaces it only if the block succeeds.

    Everything is flushed to disk before the rename, so that a folder of that name is complete.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "model"
        >>> with atomic_folder(target) as partial:
        ...     _ = (partial / "card.json").write_text("{}")
        >>> [file.name for file in target.iterdir()]
        ['card.json']
    """
    folder, partial = Path(folder), being_written(folder)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with naming(folder):
            partial.mkdir(parents=True)
            yield partial
            for file in (path for path in partial.rglob("*") if path.is_file()):
                file.chmod(file_mode())
                with open(file, "rb+") as handle:
                    os.fsync(handle.fileno())
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def clear_leftovers(folder: str | Path) -> None:
    """Delete temporary files of killed writers below a folder in which no process writes."""
    for path in list(Path(folder).rglob(".*")):
        if path.name.endswith(".partial") and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif _TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)

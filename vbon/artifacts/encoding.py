"""Texts of the user's files: UTF-8, and JSON that gives each key once."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vbon.errors import DataError

POINTER = b"version https://git-lfs"
"""Beginning of the files of which Git LFS keeps the content elsewhere."""
_FOREIGN = {
    POINTER: (
        "is a pointer of Git LFS in place of the file; call `git lfs pull` where it was cloned"
    ),
    **dict.fromkeys((b"\xff\xfe", b"\xfe\xff"), "is UTF-16; save the file in UTF-8"),
}
"""Kind of file by its beginning, with the remedy."""


def foreign(beginning: bytes) -> str | None:
    """Kind of a file whose beginning shows that it is not the one that was meant, with the remedy.

    Example:
        >>> foreign("seed: 1".encode("utf-16"))
        'is UTF-16; save the file in UTF-8'
        >>> foreign(b"seed: 1") is None
        True
    """
    return next((what for mark, what in _FOREIGN.items() if beginning.startswith(mark)), None)


def beginning(file: str | Path) -> bytes:
    """The first bytes of a file, for :func:`foreign`."""
    with open(file, "rb") as opened:
        return opened.read(64)


def decoded(data: bytes, line: int = 1) -> str:
    r"""Text of a file in UTF-8, or of one of its lines, without a byte order mark.

    Args:
        data: The file, or a line.
        line: Number of its first line in the file.

    Raises:
        DataError: If it is not UTF-8, with the line.

    Example:
        >>> decoded(b"\xef\xbb\xbfa")
        'a'
        >>> decoded("a\né".encode("latin-1"))
        Traceback (most recent call last):
        vbon.errors.DataError: line 2: is not UTF-8; save the file in UTF-8
    """
    try:
        return data.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        line += error.object[: error.start].count(b"\n")
        raise DataError(f"line {line}: is not UTF-8; save the file in UTF-8") from error


@dataclass(frozen=True)
class Repeating:
    """An object of JSON that gives a key twice."""

    key: str

    def __str__(self) -> str:
        return f"an object gives {self.key!r} twice"


def repeated(names: Iterable[str]) -> str | None:
    """The first of some names that is given more than once; None if there is none.

    Example:
        >>> repeated(["text", "label", "text"]), repeated(["text"])
        ('text', None)
    """
    return next((name for name, count in Counter(names).items() if count > 1), None)


def parsed(text: str) -> Any:
    """Content of JSON, with :class:`Repeating` for each object that gives a key twice.

    Raises:
        ValueError: If it is no JSON.

    Example:
        >>> print(parsed('{"a": [1]}'), parsed('{"a": 1, "b": 2, "a": 3}'))
        {'a': [1]} an object gives 'a' twice
    """
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | Repeating:
    row = dict(pairs)
    return row if len(row) == len(pairs) else Repeating(repeated(key for key, _ in pairs) or "")

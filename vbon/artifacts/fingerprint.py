"""Hashes that decide whether a result is still the result: of code, and of content."""

import ast
import hashlib
import json
import platform
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

PACKAGE = Path(__file__).parent.parent
MEASURED = "measured"
"""Field of footers, cards and records that says how long something took: not what it is."""
_AROUND = (MEASURED, "modules", "paths", "versions")
_PACKAGES = ("numpy", "pandas", "pyarrow", "torch", "transformers", "vbon")
_OPTIONAL = ("vllm",)  # told where they were used
_TAIL = 8  # length of a parquet footer in 4 bytes, then 4 of magic


def digest(value: Any) -> str:
    """Hash of a JSON value; the order of keys does not matter.

    Example:
        >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
        True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def code_fingerprint(*modules: str | Path) -> str:
    """Hash of modules of this package and everything in it that they import.

    Comments, docstrings and formatting do not count; any other change does.

    Args:
        modules: Names such as ``"vbon.training.online"``, or files outside the package.

    Example:
        >>> code_fingerprint("vbon.seeding") == code_fingerprint("vbon.seeding", "vbon.errors")
        False
    """
    return digest(sorted(_parsed(file)[0] for file in code_files(*modules)))


def code_files(*modules: str | Path) -> set[Path]:
    """Files of modules and of everything in this package that they import."""
    found: set[Path] = set()
    queue = [_file(module) for module in modules]
    while queue:
        file = queue.pop()
        if file is None or file in found:
            continue
        found.add(file)
        queue.extend(_file(name) for name in _parsed(file)[1])
    return found


def _file(module: str | Path) -> Path | None:
    """Source of a module of this package; None for any other module."""
    if isinstance(module, Path):
        return module
    if module.partition(".")[0] != PACKAGE.name:
        return None
    path = PACKAGE.joinpath(*module.split(".")[1:])
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None  # a name inside a module, not a module


@cache
def _parsed(file: Path) -> tuple[str, tuple[str, ...]]:
    """Hash of a file's syntax tree without docstrings, and what it imports."""
    tree = ast.parse(file.read_text())
    imports: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imports.append(node.module)
            imports += [f"{node.module}.{alias.name}" for alias in node.names]
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [child for child in body if not _is_docstring(child)]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), tuple(imports)


def _is_docstring(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def content_hash(path: str | Path) -> str:
    """Hash of what a file says, or of every file below a folder with its name.

    Of a table these are its data and columns, of a card all but where and in what time it was
    made: that does not tell an artifact from another. Of any other file it is every byte.

    Raises:
        FileNotFoundError: If there is nothing at ``path``.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        names = [file for file in files if not file.name.startswith(".")]
        return digest([(str(file.relative_to(path)), content_hash(file)) for file in names])
    status = path.stat()
    return _file_hash(str(path), status.st_size, status.st_mtime_ns)


@cache
def _file_hash(path: str, _size: int, _mtime: int) -> str:
    """Hash of a file, remembered while its size and time stay what they are."""
    try:
        if path.endswith(".parquet"):
            return _table_hash(path)
        if path.endswith("/card.json"):
            card = json.loads(Path(path).read_text())
            return digest({name: value for name, value in card.items() if name not in _AROUND})
    except (pa.ArrowInvalid, ValueError, AttributeError):
        pass  # damaged: then it equals nothing that is whole
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:20]


def _table_hash(path: str) -> str:
    schema = pq.read_schema(path)
    with open(path, "rb") as file:
        file.seek(-_TAIL, 2)
        end = file.tell() - int.from_bytes(file.read(4), "little")
        file.seek(0)
        return data_hash(file.read(end), schema)


def data_hash(data: bytes, schema: pa.Schema) -> str:
    """Hash of a table's columns: what precedes a parquet file's footer, with names and types."""
    columns = [[field.name, _type_name(field.type)] for field in schema]
    return digest([hashlib.sha256(data).hexdigest(), columns])


def _type_name(kind: pa.DataType) -> str:
    """Name of a type; what parquet calls the elements of a list is no part of it."""
    return f"list of {kind.value_type}" if pa.types.is_list(kind) else str(kind)


def provenance(
    settings: Any, inputs: dict[str, str | Path], modules: tuple[str | Path, ...]
) -> dict[str, Any]:
    """What made an artifact: settings, content of its inputs, code and versions. No times.

    Args:
        settings: Everything that shapes it and is not an input.
        inputs: File or folder by the name of what it is.
        modules: As in :func:`code_fingerprint`.

    Returns:
        ``settings``, ``inputs`` (hashes) and ``code``, which make up ``key``; and ``paths`` of the
        inputs, ``modules`` and ``versions``, which do not.

    Raises:
        FileNotFoundError: If an input is not there.

    Example:
        >>> sorted(provenance({"seed": 0}, {}, ("vbon.seeding",)))
        ['code', 'inputs', 'key', 'modules', 'paths', 'settings', 'versions']
    """
    record = {
        "settings": settings,
        "inputs": {name: content_hash(path) for name, path in inputs.items()},
        "code": code_fingerprint(*modules),
    }
    paths = {name: str(path) for name, path in inputs.items()}
    around = {"paths": paths, "modules": list(map(_name, modules)), "versions": versions()}
    return {**record, "key": digest(record), **around}


def _name(module: str | Path) -> str:
    """A module of the package as such, whether it was given as a name or as a file."""
    if isinstance(module, Path) and module.is_relative_to(PACKAGE):
        parts = module.relative_to(PACKAGE).with_suffix("").parts
        return ".".join((PACKAGE.name, *parts))
    return str(module)


def versions() -> dict[str, str]:
    """Of Python and of the packages that numbers may depend on."""
    optional = {name: sys.modules[name].__version__ for name in _OPTIONAL if name in sys.modules}
    return _fixed_versions() | optional


@cache
def _fixed_versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}

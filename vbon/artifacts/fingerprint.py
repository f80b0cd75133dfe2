"""Hashes that decide whether a result is still the result: of code, and of content."""

import ast
import hashlib
import json
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent.parent
_PACKAGES = ("numpy", "torch", "transformers")


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
    found: dict[str, str] = {}
    queue = [_file(module) for module in modules]
    while queue:
        file = queue.pop()
        if file is None or str(file) in found:
            continue
        code, imports = _parsed(file)
        found[str(file)] = code
        queue.extend(_file(name) for name in imports)
    return digest(sorted(found.values()))


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
    """Hash of a file's bytes, or of every file below a folder with its name.

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
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:20]


def provenance(
    settings: Any, inputs: dict[str, str | Path], modules: tuple[str | Path, ...]
) -> dict[str, Any]:
    """What made an artifact: settings, content of its inputs, code and versions. No times.

    Example:
        >>> sorted(provenance({"seed": 0}, {}, ("vbon.seeding",)))
        ['code', 'inputs', 'key', 'settings', 'versions']
    """
    record = {
        "settings": settings,
        "inputs": {name: content_hash(path) for name, path in inputs.items()},
        "code": code_fingerprint(*modules),
    }
    versions = {name: version(name) for name in _PACKAGES}
    return {**record, "key": digest(record), "versions": versions}

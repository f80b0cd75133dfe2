"""Hashes that decide whether a result is still the result: of code, and of content."""

import ast
import hashlib
import json
import platform
import sys
from dataclasses import dataclass, field
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


def code_fingerprint(*roots: str | Path) -> str:
    """Hash of code: the definitions that are named and all in this package that they reach.

    Comments, docstrings, formatting and the text of errors do not count; nor does the module in
    which a definition stands, so that moving it changes nothing. Any other change does.

    Args:
        roots: Modules (``"vbon.training.online"``), definitions of one
            (``"vbon.pool.steps:score"``), or files.

    Example:
        >>> code_fingerprint("vbon.seeding") == code_fingerprint("vbon.seeding", "vbon.errors")
        False
    """
    return digest(sorted(_module(file).hashes[name] for file, name in reached(*roots)))


def reached(*roots: str | Path) -> set[tuple[Path, str]]:
    """Definitions that :func:`code_fingerprint` hashes: file and name of each."""
    seen: set[tuple[Path, str]] = set()
    queue = [place for root in roots for place in _places(str(root))]
    while queue:
        file, name = queue.pop()
        module = _module(file)
        if name in module.imported:
            queue += _places(module.imported[name])
        elif name in module.hashes and (file, name) not in seen:
            seen.add((file, name))
            queue += [(file, other) for other in module.statements]  # run by every import
            queue += [place for use in module.uses[name] for place in _used(file, use)]
    return seen


def _used(file: Path, use: str) -> list[tuple[Path, str]]:
    """Definitions that a use of a name, or of an attribute of one, refers to."""
    name, _, attribute = use.partition(".")
    if ":" in use:
        return _places(use)
    target = _module(file).imported.get(name, "")
    if attribute and target and _file(target) is not None:  # of a module that was imported
        return [(_file(target), attribute)]
    return [(file, name)]


def _places(root: str) -> list[tuple[Path, str]]:
    """The definition that is named after a colon, or all of a module; none outside the package."""
    named, _, name = root.partition(":")
    if name and _file(f"{named}.{name}") is not None:  # a module of a package
        named, name = f"{named}.{name}", ""
    file = _file(named)
    if file is None:
        return []
    module = _module(file)
    return [(file, name)] if name else [(file, own) for own in (*module.hashes, *module.imported)]


def _file(module: str) -> Path | None:
    """Source of a module of this package, or a file as it is; None for any other module."""
    if module.endswith(".py"):
        return Path(module)
    first, *rest = module.split(".")
    if first != PACKAGE.name or not rest:  # the package itself holds its version alone
        return None
    path = PACKAGE.joinpath(*rest)
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@dataclass
class _Module:
    """Top-level statements of a file.

    Attributes:
        hashes: Hash of each definition; of each other statement under a made-up name.
        uses: Names, and attributes of names, that each mentions; ``module:name`` if it imports it.
        imported: Source (``module:name``) of each name that is imported from this package.
        statements: Made-up names of statements that are no definitions.
    """

    hashes: dict[str, str] = field(default_factory=dict)
    uses: dict[str, set[str]] = field(default_factory=dict)
    imported: dict[str, str] = field(default_factory=dict)
    statements: list[str] = field(default_factory=list)


@cache
def _module(file: Path) -> _Module:
    """The statements of a file, hashed without docstrings and without the text of errors."""
    module = _Module()
    for number, node in enumerate(ast.parse(file.read_text()).body):
        if _is_docstring(node):
            continue
        own = _imported(node) if isinstance(node, ast.ImportFrom) else {}
        module.imported |= own
        if own:
            continue
        names = _defined(node)
        if not names:
            names = [f"<{number}>"]
            module.statements += names
        uses = _uses(node)
        text = hashlib.sha256(ast.dump(_bare(node)).encode()).hexdigest()
        for name in names:
            module.hashes[name] = text
            module.uses[name] = uses
    return module


def _imported(node: ast.ImportFrom) -> dict[str, str]:
    """Source of each name that a statement imports from this package."""
    if node.level or (node.module or "").partition(".")[0] != PACKAGE.name:
        return {}
    return {alias.asname or alias.name: f"{node.module}:{alias.name}" for alias in node.names}


def _defined(node: ast.stmt) -> list[str]:
    """Names that a statement defines and does nothing beside."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):  # of other packages
        names = [alias.asname or alias.name.partition(".")[0] for alias in node.names]
        return [] if PACKAGE.name in names else names
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        found = [name for target in targets for name in ast.walk(target)]
        plain = all(isinstance(name, ast.Name | ast.Tuple | ast.expr_context) for name in found)
        return [name.id for name in found if isinstance(name, ast.Name)] if plain else []
    return []


def _uses(node: ast.stmt) -> set[str]:
    """Names that a statement mentions, and what it imports from this package."""
    uses: set[str] = set()
    local = {argument.arg for argument in _arguments(node)}
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name):
            uses.add(f"{inner.value.id}.{inner.attr}")
        elif isinstance(inner, ast.Name):
            uses.add(inner.id)
        elif isinstance(inner, ast.ImportFrom):
            uses |= set(_imported(inner).values())
        elif isinstance(inner, ast.Import):
            uses |= {f"{alias.name}:" for alias in inner.names}
    return {use for use in uses if use.partition(".")[0] not in local}


def _arguments(node: ast.stmt) -> list[ast.arg]:
    """Arguments of a function, which hide definitions of the same name."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return []
    given = node.args
    rest = [argument for argument in (given.vararg, given.kwarg) if argument is not None]
    return [*given.posonlyargs, *given.args, *given.kwonlyargs, *rest]


def _bare(node: ast.stmt) -> ast.stmt:
    """A statement without docstrings, texts of errors, and modules of this package."""
    for inner in ast.walk(node):
        body = getattr(inner, "body", None)
        if isinstance(body, list):
            inner.body = [child for child in body if not _is_docstring(child)]
        if isinstance(inner, ast.ImportFrom) and _imported(inner):
            inner.module = PACKAGE.name
        is_error = isinstance(inner, ast.Call) and ast.unparse(inner.func).endswith("Error")
        if is_error or isinstance(inner, ast.Raise):
            _blank_texts(inner)
    return node


def _blank_texts(node: ast.AST) -> None:
    """Empty the strings of an error, with what stands in their braces."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            inner.value = ""
        elif isinstance(inner, ast.JoinedStr):
            inner.values = []


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

"""Hashes of code and of content, which decide whether a result is up to date."""

import ast
import copy
import hashlib
import json
import os
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
"""Field of footers, cards and records with times and memory, which no hash includes."""
LOOK = ("label", "colour", "dark_colour", "marker", "hollow", "dashes", "order")
"""Attributes of a method's class that are its look; figures depend on them, runs do not."""
_UNUSED = ("paper", "example", "figures", "tables", "claims")
"""Attributes of methods and tasks that no result depends on."""
_PLUMBING = ("artifacts.steps", "artifacts.plugins", "methods.registry", "tasks.registry")
"""Modules that find code and pass arguments to it; no result depends on them."""
_LOOK = "<look>"  # name for the look in a method's file
_AROUND = (MEASURED, "modules", "paths", "versions")
_PACKAGES = ("numpy", "pandas", "pyarrow", "torch", "transformers", "vbon")
_OPTIONAL = ("vllm",)  # recorded only where they were used
UNREADABLE = (
    pa.ArrowException, OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError,
    MemoryError,
)  # fmt: skip
"""Errors of libraries that read a damaged file: bits may be flipped anywhere in it."""
_TAIL = 8  # end of a parquet file: 4 bytes with the footer's length, 4 magic bytes


def digest(value: Any) -> str:
    """Hash of a JSON value; the order of keys does not matter.

    Example:
        >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
        True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def code_fingerprint(*roots: str | Path) -> str:
    """Hash of definitions and of everything in this package that they use, directly or not.

    Comments, docstrings, formatting and error messages do not count, nor does the module that
    contains a definition, so that moving it changes nothing. The look of methods counts only for
    code that draws them. Any other change counts.

    Args:
        roots: Modules (``"vbon.training.online"``), definitions in modules
            (``"vbon.pool.steps:score"``), or files.

    Example:
        >>> code_fingerprint("vbon.seeding") == code_fingerprint("vbon.seeding", "vbon.errors")
        False
    """
    return digest(sorted(_module(file).hashes[name] for file, name in reached(*roots)))


def reached(*roots: str | Path) -> set[tuple[Path, str]]:
    """File and name of each definition that :func:`code_fingerprint` hashes."""
    seen: set[tuple[Path, str]] = set()
    queue = [place for root in roots for place in _places(str(root))]
    while queue:
        file, name = queue.pop()
        module = _module(file)
        if name in module.imported:
            queue += _places(module.imported[name])
        elif name in module.hashes and (file, name) not in seen:
            seen.add((file, name))
            queue += [(file, other) for other in module.statements]  # every import runs them
            queue += [place for use in module.uses[name] for place in _used(file, use)]
            if (file, name) == (PACKAGE / "figures/style.py", "method_styles"):
                queue += [(method, _LOOK) for method in _method_files()]
        elif name not in module.hashes and "." in name:
            queue += _inherited(file, name)
        if "." in name and "super" in module.uses.get(name, ()):
            queue += _inherited(file, name)
    return seen


def _inherited(file: Path, name: str) -> list[tuple[Path, str]]:
    """A method in the bases of a class, and the methods of the class that it calls in turn."""
    owner, _, method = name.partition(".")
    places: list[tuple[Path, str]] = []
    for base in _module(file).bases.get(owner, ()):
        for source, parent in map(_original, _used(file, base)):
            places.append((source, f"{parent}.{method}"))
            uses = _module(source).uses.get(f"{parent}.{method}", ())
            calls = [use.partition("!")[2] for use in uses if use.startswith(f"{parent}!")]
            places += [(file, f"{owner}.{called}") for called in calls if called != method]
    return places


def uses_of(root: str) -> set[str]:
    """Names, and attributes of names, that one definition mentions, including its arguments."""
    [(file, name)] = _places(root)
    node = next(node for node in ast.parse(file.read_text()).body if name in _defined(node))
    return _uses(node, with_arguments=True)


def _original(place: tuple[Path, str]) -> tuple[Path, str]:
    """The definition of a name that a module imports."""
    file, name = place
    while len(places := _places(_module(file).imported.get(name, ""))) == 1:
        file, name = places[0]
    return file, name


def _method_files() -> list[Path]:
    """Files that may contain methods with their looks."""
    folders = [PACKAGE / "methods", *map(Path, filter(None, [os.environ.get("VBON_METHODS")]))]
    return [file for folder in folders for file in sorted(folder.glob("*.py"))]


def _used(file: Path, use: str) -> list[tuple[Path, str]]:
    """Definitions to which a mention of a name or of its attribute may refer."""
    name, _, attribute = use.partition(".")
    if ":" in use:
        return _places(use)
    if "!" in use:
        return [(file, use.replace("!", "."))]
    source = _file(_module(file).imported.get(name, "").replace(":", "."))
    if attribute and source is not None:  # an attribute of an imported module
        return [(source, attribute)]
    return [(file, name)]


def _places(root: str) -> list[tuple[Path, str]]:
    """The definition after a colon, or all of a module; none for modules outside the package."""
    module_name, _, name = root.partition(":")
    if name and _file(f"{module_name}.{name}") is not None:  # a module of a package
        module_name, name = f"{module_name}.{name}", ""
    if (file := _file(module_name)) is None:
        return []
    names = [name] if name else [*_module(file).hashes, *_module(file).imported]
    return [(file, name) for name in names if name != _LOOK]


def _file(module: str) -> Path | None:
    """Source file of a module of this package, or the file itself; None for other modules."""
    if module.endswith(".py"):
        return Path(module)
    first, _, rest = module.partition(".")
    if first != PACKAGE.name or not rest or rest in _PLUMBING:  # vbon/__init__.py: the version
        return None
    path = PACKAGE.joinpath(*rest.split("."))
    return next(filter(Path.is_file, (path.with_suffix(".py"), path / "__init__.py")), None)


@dataclass
class _Module:
    """Top-level statements of a file; methods (``Class.method``) are definitions as well."""

    hashes: dict[str, str] = field(default_factory=dict)
    """Hash of each definition, and of each other statement under a name ``<number>``."""
    uses: dict[str, set[str]] = field(default_factory=dict)
    """Names, ``name.attribute`` and ``module:name`` of imports that each mentions."""
    imported: dict[str, str] = field(default_factory=dict)  # source (`module:name`) by name
    statements: list[str] = field(default_factory=list)  # names `<number>`
    bases: dict[str, list[str]] = field(default_factory=dict)  # of each class


@cache
def _module(file: Path) -> _Module:
    """Top-level statements of a file, hashed without docstrings and error messages."""
    module = _Module()
    for number, node in enumerate(ast.parse(file.read_text()).body):
        if _is_docstring(node):
            continue
        _resolve(node, file)
        if imported := _imported(node) if isinstance(node, ast.ImportFrom) else {}:
            module.imported |= imported
            continue
        if isinstance(node, ast.ClassDef) and (is_registered(node) or file.stem == "base"):
            module.hashes[_LOOK] = _hash(*(part for part in node.body if assigned(part) in LOOK))
            module.uses[_LOOK] = set()
            node.body = [part for part in node.body if assigned(part) not in (*LOOK, *_UNUSED)]
        names = _defined(node)
        if not names:
            names = [f"<{number}>"]
            module.statements += names
        module.uses |= dict.fromkeys(names, _uses(node))
        if isinstance(node, ast.ClassDef):
            _add_methods(module, node)
        module.hashes |= dict.fromkeys(names, _hash(_bare(node)))
    return module


def _add_methods(module: _Module, node: ast.ClassDef) -> None:
    """Add the methods of a class as definitions, each with the attributes of the class."""
    module.bases[node.name] = [ast.unparse(base) for base in node.bases]
    methods = [child for child in node.body if isinstance(child, ast.FunctionDef)]
    rest = [child for child in node.body if child not in methods and not _is_docstring(child)]
    attributes = [_bare(copy.deepcopy(child)) for child in rest]
    for child in methods:
        name = f"{node.name}.{child.name}"
        uses = {use for part in (*rest, *child.decorator_list) for use in _uses(part)}
        uses |= _uses(child) | {f"{node.name}!__init__"}
        for use in _uses(child, with_arguments=True):
            owner, _, attribute = use.partition(".")
            if owner in ("self", "cls") and attribute:
                uses.add(f"{node.name}!{attribute}")  # of the same object
        module.hashes[name] = _hash(_bare(copy.deepcopy(child)), *attributes)
        module.uses[name] = uses


def _hash(*nodes: ast.AST) -> str:
    return hashlib.sha256("".join(map(ast.dump, nodes)).encode()).hexdigest()


def is_registered(node: ast.ClassDef) -> bool:
    """Return True if a class is decorated with ``register``, as methods are."""
    return any(ast.unparse(name).rpartition(".")[2] == "register" for name in node.decorator_list)


def assigned(statement: ast.stmt) -> str:
    """Name of the one variable that a statement assigns; empty for other statements.

    Example:
        >>> [assigned(statement) for statement in ast.parse("a = 1; b: int = 2; f()").body]
        ['a', 'b', '']
    """
    if getattr(statement, "value", None) is None:
        return ""
    targets = getattr(statement, "targets", [getattr(statement, "target", None)])
    return targets[0].id if len(targets) == 1 and isinstance(targets[0], ast.Name) else ""


def _imported(node: ast.ImportFrom) -> dict[str, str]:
    """Source ``module:name`` of each name imported from this package or a file beside it."""
    source = node.module or ""
    if not source.endswith(".py") and source.partition(".")[0] != PACKAGE.name:
        return {}
    return {alias.asname or alias.name: f"{source}:{alias.name}" for alias in node.names}


def _resolve(node: ast.stmt, file: Path) -> None:
    """Replace the names of files by their paths in imports from the same folder."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.ImportFrom) and inner.level == 1 and inner.module:
            inner.level, inner.module = 0, str(file.parent / f"{inner.module}.py")


def _defined(node: ast.stmt) -> list[str]:
    """Names that a statement defines; none if it may have other effects."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):  # of other packages
        names = [alias.asname or alias.name.partition(".")[0] for alias in node.names]
        return [] if PACKAGE.name in names else names
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        nodes = [name for target in targets for name in ast.walk(target)]
        plain = all(isinstance(name, ast.Name | ast.Tuple | ast.expr_context) for name in nodes)
        return [name.id for name in nodes if isinstance(name, ast.Name)] if plain else []
    return []


def _uses(node: ast.AST, with_arguments: bool = False) -> set[str]:
    """Names that a statement mentions, unless arguments hide them, and sources that it imports."""
    uses: set[str] = set()
    is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    signature = ast.walk(node.args) if is_function and not with_arguments else ()
    local = {argument.arg for argument in signature if isinstance(argument, ast.arg)}
    bases: set[ast.expr] = set()  # names of which only an attribute is used
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name):
            uses.add(f"{inner.value.id}.{inner.attr}")
            bases.add(inner.value)
        elif isinstance(inner, ast.Name) and inner not in bases:
            uses.add(inner.id)
        elif isinstance(inner, ast.ImportFrom):
            uses |= set(_imported(inner).values())
        elif isinstance(inner, ast.Import):
            uses |= {f"{alias.name}:" for alias in inner.names}
    return {use for use in uses if use.partition(".")[0] not in local}


def _bare(node: ast.AST) -> ast.AST:
    """Remove docstrings, error messages and the module names of this package from a statement."""
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
    """Empty the strings of an error, including the expressions inside f-strings."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            inner.value = ""
        elif isinstance(inner, ast.JoinedStr):
            inner.values = []


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(getattr(node.value, "value", None), str)


def content_hash(path: str | Path) -> str:
    """Hash of the content of a file, or of the names and contents of all files below a folder.

    The content of a table is its data and columns; that of a ``card.json`` excludes times, paths,
    modules and versions, so that equal artifacts have equal hashes. The content of any other file
    is its bytes.

    Raises:
        FileNotFoundError: If ``path`` does not exist.
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
    """Hash of a file, cached for as long as its size and modification time do not change."""
    try:
        if path.endswith(".parquet"):
            return _table_hash(path)
        if path.endswith("/card.json"):
            card = json.loads(Path(path).read_text())
            return digest({name: value for name, value in card.items() if name not in _AROUND})
    except UNREADABLE:
        pass  # damaged: the hash of its bytes equals no hash of an intact file
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
    """Hash of a table: the bytes before the parquet footer, and the columns' names and types."""
    columns = []
    for name, kind in zip(schema.names, schema.types, strict=True):
        is_list = pa.types.is_list(kind)  # parquet gives a name to its elements
        columns.append([name, f"list of {kind.value_type}" if is_list else str(kind)])
    return digest([hashlib.sha256(data).hexdigest(), columns])


def provenance(
    settings: Any, inputs: dict[str, str | Path], modules: tuple[str | Path, ...]
) -> dict[str, Any]:
    """Provenance of an artifact: settings, content of its inputs, code and versions; no times.

    Args:
        settings: Everything except inputs that determines the artifact.
        inputs: Files or folders, by role.
        modules: As in :func:`code_fingerprint`.

    Returns:
        ``settings``, ``inputs`` (hashes) and ``code``, whose hash is ``key``; and, outside the
        key, ``paths`` of the inputs, ``modules`` and ``versions``.

    Raises:
        FileNotFoundError: If an input does not exist.

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
    """Dotted name of a module of this package that is given as a file; other roots unchanged."""
    if isinstance(module, Path) and module.is_relative_to(PACKAGE):
        parts = module.relative_to(PACKAGE).with_suffix("").parts
        return ".".join((PACKAGE.name, *parts))
    return str(module)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers may depend on."""
    optional = {name: sys.modules[name].__version__ for name in _OPTIONAL if name in sys.modules}
    return _fixed_versions() | optional


@cache
def _fixed_versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}

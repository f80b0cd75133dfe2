"""Functions of the user's, as far as their source shows them: nothing is imported here."""

import ast
import importlib.metadata
import sys
from collections.abc import Sequence
from pathlib import Path

from vbon.artifacts.fingerprint import PACKAGE
from vbon.errors import ConfigError

FUNCTIONS = "VBON_FUNCTIONS"
"""Environment variable with hashes of the files whose functions are run; without it, any is."""
VIEWS = ("texts", "prompts", "responses", "rows")
"""Parameters that a function may have; each is a list with one item per response."""


def check_function(file: str | Path, name: str, key: str) -> None:
    """Refuse a function that could not be used, as far as its source shows; nothing is run.

    Args:
        file: Path of its file; one that does not exist is not checked.
        name: Name of the function.
        key: Key in the config, for errors.

    Raises:
        ConfigError: If the file is no Python, imports a file beside it, or defines the function
            with unknown parameters.
    """
    if not Path(file).is_file():
        return
    try:
        tree = ast.parse(Path(file).read_bytes(), str(file))
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ConfigError(f"{key}: {file} cannot be imported ({reason_of(error)})") from error
    for module in _imports(tree):
        if _is_beside(module, Path(file).resolve().parent):
            raise ConfigError(
                f"{key}: {file} imports {module!r}, a file beside it, of which the results would "
                f"have no copy; move its code into {Path(file).name}, or install it as a package"
            )
    for node in tree.body:
        is_named = isinstance(node, ast.FunctionDef) and node.name == name
        if is_named and not node.decorator_list:
            needed = node.args.posonlyargs + node.args.args
            needed = needed[: len(needed) - len(node.args.defaults)]
            defaults = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            needed += [argument for argument, default in defaults if default is None]
            every = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
            names = ([argument.arg for argument in part] for part in (needed, every))
            check_names(*names, f"{file}:{name}", key)


def _imports(tree: ast.Module) -> set[str]:
    """Top-level names of the modules that a source imports; ``.`` for relative imports."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." if node.level else str(node.module).partition(".")[0])
    return names


def check_defined(file: str | Path, name: str, key: str) -> None:
    """Refuse a function whose name its file gives to nothing; nothing is run.

    Args:
        file: Path of its file, which :func:`check_function` accepts.
        name: Name of the function.
        key: Key in the config, for errors.
    """
    if not Path(file).is_file():
        return
    tree = ast.parse(Path(file).read_bytes(), str(file))
    names = _defined(tree)
    if "*" not in names and name not in names:
        functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
        raise ConfigError(
            f"{key}: {file} has no function {name!r}; it has {', '.join(functions) or 'none'}"
        )


def _defined(tree: ast.Module) -> set[str]:
    """Names that a source may give to anything; ``*`` if it imports all those of a module."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name.partition(".")[0])
    return names


def _is_beside(name: str, folder: Path) -> bool:
    """Return True if a module is a file or folder beside the one that imports it."""
    if name == ".":
        return True
    beside = (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()
    if not beside or name in sys.stdlib_module_names or name == PACKAGE.name:
        return False
    return name not in importlib.metadata.packages_distributions()


def check_names(needed: Sequence[str], every: Sequence[str], function: str, key: str) -> None:
    """Refuse parameters without default that are no views, and a function of no view.

    Args:
        needed: Names of the parameters without default.
        every: Names of all parameters.
        function: Place of the function, for errors.
        key: Key in the config, for errors.
    """
    for name in needed:
        if name not in VIEWS:
            raise ConfigError(
                f"{key}: {function} has a parameter {name!r}; accepted: {', '.join(VIEWS)}, and "
                "others with a default"
            )
    if not set(VIEWS) & set(every):
        raise ConfigError(f"{key}: {function} has no parameter of {', '.join(VIEWS)}; give it one")


def reason_of(error: BaseException) -> str:
    """Kind and message of an error, in one line."""
    return f"{type(error).__name__}: {line_of(error)}"[:300].strip()


def line_of(value: object) -> str:
    """A value of the user's as one line of text, which its own code may fail to give."""
    try:
        return " ".join(str(value).split())
    except Exception:
        return "(its text cannot be made)"

"""Find methods by name: ``vbon/methods/<name>.py`` defines the method ``<name>``, and only it."""

import ast
import importlib
import os
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from vbon.artifacts.fingerprint import LOOK, assigned, is_registered
from vbon.errors import ConfigError

T = TypeVar("T", bound=type)
_METHODS: dict[str, type] = {}
EXTRA = "VBON_METHODS"
NEEDS = ("logf",)
"""Accepted entries of a method's ``needs``."""
MARKERS = ("*", "D", "d", "P", "s", "^", "v", "<", ">", "o", "X", "p", "h", "H", "8")
"""Markers that figures and report can draw."""
_HELPERS = ("base", "registry")
_EXTRA_PACKAGE = "vbon_user_methods"


def register(cls: T) -> T:
    """Class decorator that registers a method under the name of its file.

    Raises:
        ConfigError: If the file already defines a method, the class has no docstring or paper, or
            it needs anything else than :data:`NEEDS`.
    """
    name = cls.__module__.rpartition(".")[2]
    known = _METHODS.get(name, cls)
    if known.__qualname__ != cls.__qualname__:
        raise ConfigError(
            f"method {name!r}: its file registers {known.__qualname__} and {cls.__qualname__}; "
            "give each method a file of its own"
        )
    # A dataclass without a docstring is given its signature for one.
    documented = cls.__doc__ and not cls.__doc__.startswith(f"{cls.__name__}(")
    if not documented or not getattr(cls, "paper", ""):
        raise ConfigError(f"method {name!r}: its class needs a docstring and a `paper`")
    for need in cls.needs:
        if need not in NEEDS:
            raise ConfigError(
                f"method {name!r}: needs = {cls.needs!r} is not allowed; accepted: "
                f"{', '.join(NEEDS)}"
            )
    cls.name = name
    _METHODS[name] = cls
    return cls


def method_modules() -> dict[str, Path]:
    """File of each method: the package's, then those in the folder named by ``VBON_METHODS``.

    Files that begin with an underscore, ``base.py`` and ``registry.py`` are helpers of others.

    Raises:
        ConfigError: If two files give the same name, or there is no such folder.
    """
    folders = [Path(__file__).parent]
    if os.environ.get(EXTRA):
        folders.append(Path(os.environ[EXTRA]))
    files: dict[str, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"{EXTRA}: {str(folder)!r} is not a folder")
        for file in sorted(folder.glob("[!_]*.py")):
            if file.stem in files:
                raise ConfigError(
                    f"method {file.stem!r} is defined by two files, {files[file.stem]} and "
                    f"{file}; rename one of them"
                )
            if file.stem not in _HELPERS:
                files[file.stem] = file
    return files


def declared(name: str) -> dict[str, Any]:
    """Look of a method as its file declares it, read without importing the file.

    Figures and report are made without the libraries that methods need.

    Returns:
        Those of :data:`LOOK` that the method declares; none for a name without a file, as in
        tables whose method is no longer there.

    Raises:
        ConfigError: If a value is no literal, or cannot be drawn.

    Example:
        >>> declared("vbon")["label"], declared("nobody")
        ('vBoN', {})
    """
    file = method_modules().get(name)
    return {} if file is None else dict(_declared(file, file.stat().st_mtime_ns))


@cache
def _declared(file: Path, _mtime: int) -> dict[str, Any]:
    look: dict[str, Any] = {}
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef) and is_registered(node):
            for statement in node.body:
                attribute = assigned(statement)
                if attribute in LOOK:
                    look[attribute] = _drawable(file, attribute, statement.value)
    return look


def _drawable(file: Path, attribute: str, expression: ast.expr) -> Any:
    """Value of a part of a look, if figures can be drawn with it."""
    accepted, is_accepted = _ACCEPTED[attribute]
    try:
        value = ast.literal_eval(expression)
    except ValueError:  # a name or a call: nothing is run to read it
        value = None
    if not is_accepted(value):
        raise ConfigError(
            f"{file}: {attribute} = {ast.unparse(expression)} is not allowed; give {accepted}"
        )
    return value


def _is_colour(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("#[0-9a-f]{6}", value) is not None


_ACCEPTED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "label": ("a text", lambda value: isinstance(value, str) and value != ""),
    "colour": ("'#rrggbb' in lower case", _is_colour),
    "dark_colour": ("'#rrggbb' in lower case", _is_colour),
    "marker": (f"one of {' '.join(MARKERS)}", lambda value: value in MARKERS),
    "hollow": ("True or False", lambda value: isinstance(value, bool)),
    "dashes": ("a text or a tuple as (0, (5, 2))", lambda value: isinstance(value, str | tuple)),
    "order": ("a number", lambda value: isinstance(value, int | float)),
}


@cache
def _load(name: str, path: Path) -> ModuleType:
    if path.parent == Path(__file__).parent:
        return importlib.import_module(f"vbon.methods.{name}")
    package = ModuleType(_EXTRA_PACKAGE)  # so that `from ._helper import x` works beside the method
    package.__path__ = [str(path.parent)]
    sys.modules[_EXTRA_PACKAGE] = package
    spec = importlib.util.spec_from_file_location(f"{_EXTRA_PACKAGE}.{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def get_method(name: str) -> type:
    """Return the method class called ``name``.

    Raises:
        ConfigError: For an unknown name, listing the known ones.

    Example:
        >>> get_method("vbon").name
        'vbon'
    """
    modules = method_modules()
    if name not in modules:
        raise ConfigError(
            f"run_methods: unknown method {name!r}; known: {', '.join(sorted(modules))}"
        )
    _load(name, modules[name])
    if name not in _METHODS:
        raise ConfigError(f"{modules[name]}: defines no method; decorate its class with @register")
    declared(name)  # a look that cannot be drawn is refused here, not after a sweep
    return _METHODS[name]

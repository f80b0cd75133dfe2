"""Find methods by name: ``vbon/methods/<name>.py`` defines the method ``<name>``, and only it."""

import ast
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from vbon.artifacts.fingerprint import LOOK, assigned, is_registered
from vbon.artifacts.plugins import C, Registry
from vbon.errors import ConfigError

METHODS = Registry("method", "name", Path(__file__).parent, "VBON_METHODS")
NEEDS = ("logf",)
"""Accepted entries of a method's ``needs``."""
MARKERS = ("*", "D", "d", "P", "s", "^", "v", "<", ">", "o", "X", "p", "h", "H", "8")
"""Markers that figures and report can draw."""

method_modules = METHODS.files


def register(cls: C) -> C:
    """Class decorator that registers a method under the name of its file.

    Raises:
        ConfigError: If the file already defines a method, the class has no docstring or paper, or
            it needs anything other than :data:`NEEDS`.
    """
    name = cls.__module__.rpartition(".")[2]
    if not getattr(cls, "paper", ""):
        raise ConfigError(f"method {name!r}: its class needs a `paper`")
    for need in cls.needs:
        if need not in NEEDS:
            raise ConfigError(
                f"method {name!r}: needs = {cls.needs!r} is not allowed; accepted: "
                f"{', '.join(NEEDS)}"
            )
    return METHODS.register(cls)


def declared(name: str) -> dict[str, Any]:
    """Look of a method as its file declares it, read without importing the file.

    Figures and report are made without the libraries that methods need.

    Returns:
        Those of :data:`LOOK` that the method declares; none for a name without a file, as in
        tables of a method that was removed.

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
    """Value of an attribute of a look, if figures can be drawn with it."""
    accepted, is_accepted = _ACCEPTED[attribute]
    try:
        value = ast.literal_eval(expression)
    except ValueError:  # a name or a call, which is not run
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


def get_method(name: str) -> type:
    """Return the method class called ``name``.

    Raises:
        ConfigError: For an unknown name, listing the accepted ones.

    Example:
        >>> get_method("vbon").name
        'vbon'
    """
    cls = METHODS.get(name)
    declared(name)  # a look that cannot be drawn is refused here, not after a sweep
    return cls

"""Configuration files as plain values: what YAML may contain, and names that become paths."""

import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from vbon.artifacts.encoding import decoded, foreign
from vbon.errors import ConfigError, VbonError, reason

_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*")
_RESERVED = {
    "task": ("none", "plan", "report"),  # folders beside those of tasks, and a pattern of rules
    "study": ("runs",),  # a study's folder would be taken for one of runs
}
_UNUSABLE = re.compile(r"[{}*?\[\]\"'\\,\x00-\x1f\x7f]")  # patterns of rules, globs, lists
_UNREADABLE = (
    OSError, ValueError, OverflowError, AttributeError, RecursionError, yaml.YAMLError
)  # fmt: skip
"""Errors of the YAML library."""
_CHECKOUT = (
    "benchmarks", "config", "docs", "logs", "profiles", "published", "tests", "vbon", "workflow",
)  # fmt: skip
"""Folders of a checkout that are not for results, beside hidden ones."""


class _Loader(yaml.SafeLoader):
    """The safe loader of YAML, which refuses a key that is given twice."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if key.value in lines:
                several = ", with a list of mappings" if key.tag.endswith(":merge") else ""
                raise ConfigError(
                    f"line {line}: {key.value!r} is already given in line {lines[key.value]}; give "
                    f"each key once{several}"
                )
            lines[key.value] = line
        return node


def read_yaml(file: str | Path) -> dict[str, Any]:
    """Read a configuration file, in UTF-8 whatever the locale.

    Raises:
        ConfigError: If the file is missing, is no YAML of keys and values, or gives a key twice.
    """
    try:
        data = Path(file).read_bytes()
        if what := foreign(data):
            raise ConfigError(what)
        content = _Loader(decoded(data)).get_single_data()
        if not isinstance(content, dict):
            kind = type(content).__name__
            raise ConfigError(f"contains {kind}, expected keys and values")
        check_plain(content)
    except VbonError as error:
        raise ConfigError(f"{file}: {error}") from None
    except FileNotFoundError as error:
        raise ConfigError(
            f"{file}: does not exist; give the path of a configuration, or start in the folder of "
            "a checkout, which has a config.yaml"
        ) from error
    except _UNREADABLE as error:
        raise ConfigError(f"{file}: cannot be read as YAML: {reason(error)}") from error
    return content


def check_plain(content: Mapping[Any, Any]) -> None:
    """Refuse keys that are not text, and numbers that are not finite.

    Raises:
        ConfigError: One line: the key, its value, the accepted values.
    """
    for path, is_named, value in _items(content, ()):
        where = ".".join(map(str, path))
        if is_named and not isinstance(path[-1], str):
            raise ConfigError(f"{where}: {path[-1]!r} is not allowed as a name; write it in quotes")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{where}: {value} is not allowed; give a finite number")


def _items(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], bool, Any]]:
    """Path of everything in a nested value, whether it has a name, and its value."""
    is_named = isinstance(value, Mapping)
    if is_named or isinstance(value, list | tuple):
        for step, item in value.items() if is_named else enumerate(value):
            yield (*path, step), is_named, item
            yield from _items(item, (*path, step))


def check_name(where: str, kind: str, name: str) -> None:
    """Refuse a name of a task or study that would leave its folder or break a rule's pattern.

    Args:
        where: Path of the name in the config, for errors.
        kind: ``task`` or ``study``.
        name: The name.

    Raises:
        ConfigError: One line: the name, and the accepted ones.

    Example:
        >>> check_name("sentiment.studies", "study", "../../evil")
        Traceback (most recent call last):
        vbon.errors.ConfigError: sentiment.studies: '../../evil' is not allowed as the name of a \
study; give letters, digits, '_', '-' and '.', beginning with a letter, a digit or '_'
    """
    if name in _RESERVED[kind]:
        raise ConfigError(
            f"{where}: {name!r} is not allowed as the name of a {kind}, since it names a folder of "
            "the results; give another"
        )
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{where}: {name!r} is not allowed as the name of a {kind}; give letters, digits, '_', "
            "'-' and '.', beginning with a letter, a digit or '_'"
        )


def results_folder(name: str) -> str:
    """Folder of results as paths of the workflow begin with it.

    Raises:
        ConfigError: If results there would be mixed with other files.

    Example:
        >>> results_folder("./results/"), results_folder("a//b/../c")
        ('results', 'a/c')
    """

    def refused(why: str) -> ConfigError:
        return ConfigError(f"results_dir: {name!r} {why}; give a folder for results alone")

    if character := _UNUSABLE.search(name):
        raise refused(f"is not allowed, since it contains {character[0]!r}")
    if name.isspace():
        raise refused("is not allowed, since it is blank")
    folder = re.sub("^/+", "/", os.path.normpath(os.path.expanduser(name)))
    if folder.startswith("~"):
        raise refused("is not allowed, since there is no such user")
    try:
        place, here = Path(folder).resolve(), Path.cwd().resolve()
        place.exists()
    except OSError as error:
        raise refused(f"cannot be a folder ({error.strerror})") from error
    if place in (here, *here.parents):
        raise refused("contains this folder")
    if place in (home := Path.home().resolve(), *home.parents):
        raise refused("contains the home folder")
    if place.exists() and not place.is_dir():
        raise refused("is a file")
    if here in place.parents:
        first = place.relative_to(here).parts[0]
        if first in _CHECKOUT or first.startswith("."):
            raise refused(f"is in {first}, which is not for results")
    return folder

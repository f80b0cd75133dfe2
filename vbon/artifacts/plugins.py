"""Classes named for their files, in this package or in a folder of the user."""

import importlib
import importlib.util
import os
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from vbon.errors import ConfigError

C = TypeVar("C", bound=type)
_USERS = "vbon_user"  # package of the files in a user's folder


class Registry:
    """Registered classes, one per file; files without ``@register`` are helpers of others.

    Args:
        word: Name of such a class in messages.
        attribute: Attribute of the class that is set to the name of its file.
        folder: Folder of the package's files.
        variable: Environment variable that names a folder of the user.
    """

    def __init__(self, word: str, attribute: str, folder: Path, variable: str) -> None:
        self._word, self._attribute, self._folder = word, attribute, folder
        self._variable = variable
        self.classes: dict[str, type] = {}

    def register(self, cls: C) -> C:
        """Class decorator that registers a class under the name of its file.

        Raises:
            ConfigError: If the file already registers another class, or the class has no docstring.
        """
        name = cls.__module__.rpartition(".")[2]
        registered = self.classes.get(name, cls)
        if registered.__qualname__ != cls.__qualname__:
            raise ConfigError(
                f"{self._word} {name!r}: its file registers {registered.__qualname__} and "
                f"{cls.__qualname__}; give each a file of its own"
            )
        # A dataclass without a docstring gets its signature as one.
        if not cls.__doc__ or cls.__doc__.startswith(f"{cls.__name__}("):
            raise ConfigError(f"{self._word} {name!r}: its class needs a docstring")
        setattr(cls, self._attribute, name)
        self.classes[name] = cls
        return cls

    def files(self) -> dict[str, Path]:
        """File of each class by name: those of the package, then those of the user's folder.

        Raises:
            ConfigError: If two files give the same name, or the user's folder does not exist.
        """
        files = dict(_in_package(self._folder))
        for file in (file for folder in self._folders()[1:] for file in _registering(folder)):
            if file.stem in files:
                raise ConfigError(
                    f"{self._word} {file.stem!r} is defined by two files, {files[file.stem]} and "
                    f"{file}; rename one of them"
                )
            files[file.stem] = file
        return files

    def _folders(self) -> list[Path]:
        """The package's folder and, if there is one, the user's."""
        named = os.environ.get(self._variable)
        if named and not Path(named).is_dir():
            raise ConfigError(f"{self._variable}: {named!r} is not a folder")
        return [self._folder, *([Path(named)] if named else [])]

    def get(self, name: str) -> Any:
        """The class called ``name``.

        Raises:
            ConfigError: For an unknown name, listing the accepted ones.
        """
        files = self.files()
        if name not in files:
            for file in (folder / f"{name}.py" for folder in self._folders()[1:]):
                if file.exists():
                    raise ConfigError(
                        f"{file}: defines no {self._word}; decorate its class with @register"
                    )
            raise ConfigError(
                f"unknown {self._word} {name!r}; accepted: {', '.join(sorted(files))}"
            )
        _load(files[name], self._folder)
        return self.classes[name]


@cache
def _in_package(folder: Path) -> dict[str, Path]:
    """Files of the package by name; unlike a user's, they stay as they are in a process."""
    return {file.stem: file for file in _registering(folder)}


def _registering(folder: Path) -> list[Path]:
    """Files of a folder that register a class."""
    files = sorted(folder.glob("*.py"))
    return [file for file in files if _registers(file, file.stat().st_mtime_ns)]


@cache
def _registers(file: Path, _modified: int) -> bool:
    return "\n@register\n" in file.read_text()


@cache
def _load(file: Path, folder: Path) -> ModuleType:
    """Import a file of this package, or a user's by its path."""
    if file.parent == folder:
        return importlib.import_module(f"vbon.{folder.name}.{file.stem}")
    name = f"{_USERS}_{folder.name}"
    package = ModuleType(name)  # so that `from ._helper import x` works beside the file
    package.__path__ = [str(file.parent)]
    sys.modules[name] = package
    spec = importlib.util.spec_from_file_location(f"{name}.{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module

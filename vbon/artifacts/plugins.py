"""Classes that are found by the name of their file, in this package or in a folder of the user."""

import importlib.util
import os
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from vbon.errors import ConfigError

C = TypeVar("C", bound=type)


class Registry:
    """Registered classes, one per file.

    Args:
        word: Name of such a class in messages; also the attribute that is set to the file's name.
        folder: Folder of the package's own files.
        package: Name of the package that this folder is.
        variable: Environment variable that names a folder of the user.
    """

    def __init__(self, word: str, folder: Path, package: str, variable: str) -> None:
        self._word, self._folder, self._package, self._variable = word, folder, package, variable
        self._classes: dict[str, type] = {}

    def register(self, cls: C) -> C:
        """Class decorator that registers a class under the name of its file.

        Raises:
            ConfigError: If the file already registers another class, or the class has no docstring.
        """
        name = cls.__module__.rpartition(".")[2]
        registered = self._classes.get(name, cls)
        if registered.__qualname__ != cls.__qualname__:
            raise ConfigError(
                f"{self._word} {name!r}: its file registers {registered.__qualname__} and "
                f"{cls.__qualname__}; give each a file of its own"
            )
        # A dataclass without a docstring is given its signature for one.
        if not cls.__doc__ or cls.__doc__.startswith(f"{cls.__name__}("):
            raise ConfigError(f"{self._word} {name!r}: its class needs a docstring")
        setattr(cls, self._word, name)
        self._classes[name] = cls
        return cls

    def files(self) -> dict[str, Path]:
        """File of each class by name: the package's own, then those of the user's folder.

        Files without ``@register`` are helpers.

        Raises:
            ConfigError: If two files give the same name.
        """
        folders = [self._folder]
        if os.environ.get(self._variable):
            folders.append(Path(os.environ[self._variable]))
        files: dict[str, Path] = {}
        for file in (file for folder in folders for file in sorted(folder.glob("*.py"))):
            if not _registers(file, file.stat().st_mtime_ns):
                continue
            if file.stem in files:
                raise ConfigError(
                    f"{self._word} {file.stem!r} is defined by two files, {files[file.stem]} and "
                    f"{file}; rename one of them"
                )
            files[file.stem] = file
        return files

    def get(self, name: str) -> Any:
        """The class called ``name``.

        Raises:
            ConfigError: For an unknown name, with those that are accepted.
        """
        files = self.files()
        if name not in files:
            raise ConfigError(
                f"unknown {self._word} {name!r}; accepted: {', '.join(sorted(files))}"
            )
        _load(name, files[name], self._package if files[name].parent == self._folder else "")
        return self._classes[name]


@cache
def _registers(file: Path, _modified: int) -> bool:
    return "\n@register\n" in file.read_text()


@cache
def _load(name: str, file: Path, package: str) -> ModuleType:
    """Import a file of the package, or one of the user's by its path."""
    if package:
        return importlib.import_module(f"{package}.{name}")
    spec = importlib.util.spec_from_file_location(f"vbon_plugins.{file.parent.name}.{name}", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module

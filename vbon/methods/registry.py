"""Find methods by name: ``vbon/methods/<name>.py`` defines the method ``<name>``, and only it."""

import importlib
import os
import pkgutil
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from vbon.errors import ConfigError

T = TypeVar("T", bound=type)
_METHODS: dict[str, type] = {}
EXTRA = "VBON_METHODS"


def register(cls: T) -> T:
    """Class decorator that registers a method under the name of its file.

    Raises:
        ConfigError: If the file already defines a method, or the class has no docstring or paper.
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
    cls.name = name
    _METHODS[name] = cls
    return cls


def method_modules() -> dict[str, Path]:
    """File of each method: the package's, then those in the folder named by ``VBON_METHODS``.

    Raises:
        ConfigError: If two files give the same name.
    """
    folders = [Path(__file__).parent]
    if os.environ.get(EXTRA):
        folders.append(Path(os.environ[EXTRA]))
    found: dict[str, Path] = {}
    for folder in folders:
        for module in pkgutil.iter_modules([str(folder)]):
            file = folder / f"{module.name}.py"
            if module.name in found:
                raise ConfigError(
                    f"method {module.name!r} is defined by two files, {found[module.name]} and "
                    f"{file}; rename one of them"
                )
            if module.name not in ("base", "registry"):
                found[module.name] = file
    return found


@cache
def _load(name: str, path: Path) -> ModuleType:
    if path.parent == Path(__file__).parent:
        return importlib.import_module(f"vbon.methods.{name}")
    spec = importlib.util.spec_from_file_location(f"vbon_user_methods.{name}", path)
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
    return _METHODS[name]

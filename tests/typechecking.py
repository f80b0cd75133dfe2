"""Annotations of the package are checked in the tests: types by beartype, shapes by jaxtyping."""

import ast
import sys
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from inspect import isclass, isfunction
from typing import Any, Literal, get_args, get_origin

from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray, jaxtyped

_check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float
_NAME = "__checked__"


def checked(item: Any) -> Any:
    """Decorate a function or a dataclass; jaxtyping, ten times slower, only if it has shapes."""
    if isfunction(item) and not any(map(_has_shape, item.__annotations__.values())):
        return _check(item)
    return jaxtyped(item, typechecker=_check)


def _has_shape(annotation: Any) -> bool:
    if get_origin(annotation) is Literal:
        return False
    if isinstance(annotation, str):  # evaluated later
        return True
    shaped = isclass(annotation) and issubclass(annotation, AbstractArray)
    return shaped or any(map(_has_shape, get_args(annotation)))


class _Loader(SourceFileLoader):
    """Adds the decorator to all functions and classes of a module.

    jaxtyping's own hook does the same, but all that a module imports is compiled again under it.
    """

    def get_code(self, fullname: str) -> Any:
        return self.source_to_code(self.get_data(self.path), self.path)

    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> Any:
        tree = ast.parse(data)
        for node in ast.walk(tree):
            mark = ast.Name(_NAME, ast.Load())
            if isinstance(node, ast.FunctionDef):
                node.decorator_list.append(ast.copy_location(mark, node))
            elif isinstance(node, ast.ClassDef):
                node.decorator_list.insert(0, ast.copy_location(mark, node))
        return super().source_to_code(tree, path, _optimize=_optimize)

    def exec_module(self, module: Any) -> None:
        setattr(module, _NAME, checked)
        super().exec_module(module)


class _Finder(PathFinder):
    @classmethod
    def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname.partition(".")[0] != "vbon":
            return None
        spec = super().find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


def install() -> None:
    """Check annotations in all modules of the package that are imported from now on."""
    sys.meta_path.insert(0, _Finder)

"""Reward models that are Python functions."""

import atexit
import copy
import importlib.util
import inspect
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float64

from vbon.artifacts.fingerprint import content_hash, digest
from vbon.artifacts.functions import (
    FUNCTIONS,
    VIEWS,
    check_function,
    check_names,
    line_of,
    reason_of,
)
from vbon.errors import ArtifactError, ConfigError, DataError
from vbon.rewards.base import Completions, Rewards, transformed

SOURCE = "function.py"
"""Copy of the function's file in a reward model's folder, so that keys include its content."""
NAME = "function.txt"
"""File with the function's name."""
_PROBED = 8  # texts of the first batch that a function scores again
_REPEATS = 16  # answers compared, so that two values at random do not agree by chance
_NO_NUMBERS = (str, bytes, complex, np.flexible, np.datetime64, np.timedelta64)
"""Types that NumPy turns into numbers, though they are none."""
_EQUAL = {"rtol": 0.0, "atol": 0.0}
_CLOSE = {"rtol": 1e-3, "atol": 1e-4}  # a model's rounding depends on the batch


def load_function(file: str | Path, name: str) -> Callable[..., Any]:
    """Import a function from a file.

    Its module has a name of its own in ``sys.modules``, also for the processes that it starts.

    Raises:
        ConfigError: If there is no such file or function, the file cannot be imported, it needs
            files beside it, or the function has unknown parameters.
    """
    if not Path(file).is_file() or Path(file).suffix != ".py":
        raise ConfigError(f"callable: {str(file)!r} is not a Python file; give file.py:function")
    check_function(file, name, "callable")
    module = _import(Path(file).resolve())
    function = getattr(module, name, None)
    if not callable(function):
        names = [key for key, value in vars(module).items() if callable(value)]
        raise ConfigError(
            f"callable: {file} has no function {name!r}; it has {', '.join(names) or 'none'}"
        )
    views_of(function, f"{file}:{name}")
    return function


def _import(file: Path) -> ModuleType:
    """Module of a file, which is in ``sys.modules`` and can be imported by other processes."""
    # A file of a task registers its class again: the name keeps those of several files apart.
    name = f"vbon_reward_{digest([str(file), content_hash(file)])}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    alias = Path(_import_folder(), f"{name}.py")
    alias.unlink(missing_ok=True)
    alias.symlink_to(file)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:  # a user's file may raise anything
        del sys.modules[name]
        if isinstance(error, KeyboardInterrupt):
            raise
        raise ConfigError(f"callable: {file} cannot be imported ({reason_of(error)})") from error
    return module


@cache
def _import_folder() -> str:
    """Folder on the path of this process, and so of those that it starts, for aliases of files."""
    folder = tempfile.mkdtemp(prefix="vbon-rewards-")
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # not a process that was forked
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    sys.path.append(folder)
    return folder


def views_of(function: Callable[..., Any], where: str) -> dict[str, bool]:
    """Views that a function is called with, by name; False for those passed by position.

    Raises:
        ConfigError: If it has other parameters without a default.

    Example:
        >>> def right(responses, rows, weight=1.0): ...
        >>> views_of(right, "mine.py:right")
        {'responses': True, 'rows': True}
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of a builtin
        return {"texts": False}
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    single = [p for p in parameters if p.kind not in several]
    needed = [p.name for p in single if p.default is p.empty]
    check_names(needed, [p.name for p in single], where, "callable")
    return {p.name: p.kind is not p.POSITIONAL_ONLY for p in single if p.name in VIEWS}


class FunctionReward:
    """Reward model that calls a user's function.

    Args:
        path: Folder with :data:`SOURCE` and :data:`NAME`.
        batch_size: Responses per call.
        transform: A name in :data:`vbon.rewards.base.TRANSFORMS`.

    Raises:
        ArtifactError: If the function is none of the configuration whose workflow this is.
        ConfigError: If the function cannot be used.
    """

    def __init__(
        self, path: str | Path, batch_size: int = 256, transform: str = "identity"
    ) -> None:
        allowed = os.environ.get(FUNCTIONS)
        if allowed is not None and content_hash(Path(path) / SOURCE) not in allowed.split(","):
            raise ArtifactError(
                f"{path}: contains a function that is no callable of this configuration, and is "
                "not run; delete the folder and call the workflow again"
            )
        self._name = (Path(path) / NAME).read_text().strip()
        self._function = load_function(Path(path) / SOURCE, self._name)
        self._views = views_of(self._function, self._name)
        self._batch_size, self._transform = batch_size, transform
        self._is_probed = False

    def __call__(self, texts: Sequence[str]) -> Rewards:
        """Rewards of completions, or of texts; probabilities are NaN.

        Raises:
            DataError: If the function fails, does not return one finite number per response, or
                has two answers to one response.
        """
        batch = texts if isinstance(texts, Completions) else Completions.from_texts(texts)
        views = {name: getattr(batch, name) for name in self._views}
        if "rows" in views and any(row is None for row in views["rows"]):
            if len(views) == 1 or not _is_optional(self._function, "rows"):
                raise DataError(
                    f"reward: {self._name} reads rows, which prompts of this kind of task do not "
                    "have; use the kind prompts, or a function of texts, prompts and responses"
                )
            del views["rows"]
        raw = np.empty(len(batch))
        for start in range(0, len(batch), self._batch_size):
            part = slice(start, start + self._batch_size)
            raw[part] = self._call(_select(views, part))
            if not self._is_probed:
                self._probe(_select(views, part), raw[part])
                self._is_probed = True
        return Rewards(transformed(raw, self._transform, batch), np.full(len(batch), np.nan))

    def _call(self, views: Mapping[str, list[Any]]) -> Float64[np.ndarray, " texts"]:
        """Numbers that the function returns for a part of the batch."""
        shown = next(iter(views.values()))
        try:
            answer = self._answer(views)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a user's function may raise anything
            text, reason = self._failing(views), reason_of(error)
            raise DataError(
                f"reward: {self._name} raised {reason} for {_quoted(text)}, one of {len(shown)} "
                f"{next(iter(views))}; correct the function, or let it return a number for such "
                "a case"
            ) from error
        numbers = _numbers(answer)
        if numbers is None or numbers.size != len(shown) or numbers.shape[:1] != (len(shown),):
            raise DataError(
                f"reward: {self._name} was given {len(shown)} {next(iter(views))} and returned "
                f"{type(answer).__name__} {line_of(answer)[:60]}; it must return one number per "
                f"text, of which the first is {_quoted(shown[0])}"
            )
        numbers = numbers.reshape(len(shown))
        bad = np.flatnonzero(~np.isfinite(numbers))
        if len(bad):
            raise DataError(
                f"reward: {self._name} returned {numbers[bad[0]]} for text "
                f"{_quoted(shown[bad[0]])}; rewards must be finite, so let it return a number"
            )
        return numbers

    def _answer(self, views: Mapping[str, list[Any]]) -> Any:
        """The function's return value; the lists are its own, which it may change."""
        lists = {name: list(items) for name, items in views.items()}
        if "rows" in lists:
            lists["rows"] = copy.deepcopy(lists["rows"])
        positional = [lists.pop(name) for name in views if not self._views[name]]
        answer = self._function(*positional, **lists)
        return list(answer) if isinstance(answer, Iterator) else answer

    def _failing(self, views: Mapping[str, list[Any]]) -> Any:
        """First text on which alone the function fails; the first of all if there is none."""
        shown = next(iter(views.values()))
        for index, text in enumerate(shown):
            try:
                self._answer(_select(views, slice(index, index + 1)))
            except KeyboardInterrupt:
                raise
            except BaseException:
                return text
        return shown[0]

    def _probe(
        self, views: Mapping[str, list[Any]], answers: Float64[np.ndarray, " texts"]
    ) -> None:
        """Refuse a function whose answer to a few texts depends on time, order or other texts."""
        count = min(_PROBED, len(answers))
        first = _select(views, slice(0, count))
        turned = {name: items[::-1] for name, items in first.items()}
        again = [self._call(turned)[::-1] for _ in range(max(2, _REPEATS // count))]
        pairs = [(again[0], others, _EQUAL) for others in again[1:]]  # of equal calls
        pairs.append((answers[:count], again[0], _CLOSE))
        pairs.append((answers[:1], self._call(_select(views, slice(0, 1))), _CLOSE))
        for ours, others, tolerance in pairs:
            differs = np.flatnonzero(~np.isclose(others, ours, **tolerance))
            if len(differs):
                row = differs[0]
                raise DataError(
                    f"reward: {self._name} returned {ours[row]:.17g} and then {others[row]:.17g} "
                    f"for {_quoted(next(iter(first.values()))[row])}; a reward must depend on its "
                    "own response alone, so remove randomness, state and comparisons within a call"
                )


def _is_optional(function: Callable[..., Any], name: str) -> bool:
    """Return True if a function can be called without a parameter, whatever others it is given."""
    parameter = inspect.signature(function).parameters[name]
    return parameter.default is not parameter.empty and parameter.kind is not (
        parameter.POSITIONAL_ONLY
    )


def _select(views: Mapping[str, list[Any]], part: slice) -> dict[str, list[Any]]:
    return {name: items[part] for name, items in views.items()}


def _quoted(text: Any) -> str:
    """A text or row in one line of a message."""
    shown = repr(text)
    return shown if len(shown) <= 200 else f"{shown[:200]}…"


def _numbers(answer: Any) -> Float64[np.ndarray, "..."] | None:
    """An answer as numbers; None if it contains anything else."""
    try:
        if isinstance(answer, list | tuple):
            answer = [_detached(item) for item in answer]
        array = _detached(answer)
        if isinstance(array, np.ma.MaskedArray):
            return None
        plain = np.asarray(array)
        if plain.dtype.kind not in "biufO" or (
            plain.dtype.kind == "O" and any(isinstance(item, _NO_NUMBERS) for item in plain.flat)
        ):
            return None
        return plain.astype(np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None


def _detached(value: Any) -> Any:
    """A tensor of any device and type as an array; other values as they are."""
    return value.detach().cpu().double().numpy() if hasattr(value, "detach") else value

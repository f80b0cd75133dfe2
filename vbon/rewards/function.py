"""Reward models that are Python functions."""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vbon.artifacts.fingerprint import digest
from vbon.errors import ConfigError, DataError
from vbon.rewards.base import Rewards, transformed

SOURCE = "function.py"
"""Copy of the function's file in a reward model's folder, so that keys include its content."""
NAME = "function.txt"
"""File with the function's name."""


def load_function(file: str | Path, name: str) -> Callable[[list[str]], Any]:
    """Import a function from a file.

    Raises:
        ConfigError: If there is no such file or function, or the file cannot be imported.
    """
    # A file of a task registers its class again: the name keeps those of several files apart.
    spec = importlib.util.spec_from_file_location(f"vbon_reward_{digest(str(file))}", file)
    if not Path(file).is_file() or spec is None or spec.loader is None:
        raise ConfigError(f"callable: {str(file)!r} is not a Python file; give file.py:function")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a user's file may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"callable: {file} cannot be imported ({reason})") from error
    function = getattr(module, name, None)
    if not callable(function):
        names = [key for key, value in vars(module).items() if callable(value)]
        raise ConfigError(
            f"callable: {file} has no function {name!r}; it has {', '.join(names) or 'none'}"
        )
    return function


class FunctionReward:
    """Reward model that calls a user's function.

    Args:
        path: Folder with :data:`SOURCE` and :data:`NAME`.
        batch_size: Texts per call.
        transform: A name in :data:`vbon.rewards.base.TRANSFORMS`.
    """

    def __init__(
        self, path: str | Path, batch_size: int = 256, transform: str = "identity"
    ) -> None:
        self._name = (Path(path) / NAME).read_text().strip()
        self._function = load_function(Path(path) / SOURCE, self._name)
        self._batch_size, self._transform = batch_size, transform

    def __call__(self, texts: Sequence[str]) -> Rewards:
        """Rewards of the texts; probabilities are NaN.

        Raises:
            DataError: If the function does not return one finite number per text.
        """
        raw = np.empty(len(texts))
        for start in range(0, len(texts), self._batch_size):
            part = list(texts[start : start + self._batch_size])
            raw[start : start + len(part)] = self._call(part)
        return Rewards(transformed(raw, self._transform, texts), np.full(len(texts), np.nan))

    def _call(self, texts: list[str]) -> np.ndarray:
        answer = self._function(texts)
        try:
            numbers = np.asarray(answer, dtype=np.float64)
        except (TypeError, ValueError):
            numbers = np.empty(0)
        if numbers.shape != (len(texts),):
            raise DataError(
                f"reward: {self._name} was given {len(texts)} texts and returned "
                f"{type(answer).__name__} {str(answer)[:60]}; it must return one number per text"
            )
        return numbers

"""A Python function as a reward model."""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vbon.errors import ConfigError, DataError
from vbon.rewards.base import Rewards, transformed

SOURCE = "function.py"
"""The file of the function in a reward model's folder: a copy, so that its content is known."""
NAME = "function.txt"


def load_function(file: str | Path, name: str) -> Callable[[list[str]], Any]:
    """Import a function from a file.

    Raises:
        ConfigError: If there is no such file or function, or the file cannot be imported.
    """
    described = importlib.util.spec_from_file_location("vbon_reward_function", file)
    if not Path(file).is_file() or described is None or described.loader is None:
        raise ConfigError(f"callable: {str(file)!r} is not a Python file; give file.py:function")
    module = importlib.util.module_from_spec(described)
    try:
        described.loader.exec_module(module)
    except Exception as error:  # whatever a user's file does
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"callable: {file} cannot be imported ({reason})") from error
    found = getattr(module, name, None)
    if not callable(found):
        known = [key for key, value in vars(module).items() if callable(value)]
        raise ConfigError(
            f"callable: {file} has no function {name!r}; it has {', '.join(known) or 'none'}"
        )
    return found


class FunctionReward:
    """Ask a function of the user's.

    Args:
        path: Folder with a copy of its file and its name.
        batch_size: Texts a call.
        transform: A name in :data:`vbon.rewards.base.TRANSFORMS`.
    """

    def __init__(
        self, path: str | Path, batch_size: int = 256, transform: str = "identity"
    ) -> None:
        self._name = (Path(path) / NAME).read_text().strip()
        self._function = load_function(Path(path) / SOURCE, self._name)
        self._batch_size, self._transform = batch_size, transform

    def __call__(self, texts: Sequence[str]) -> Rewards:
        """Rewards of the texts; there is no probability.

        Raises:
            DataError: If the function does not return one finite number a text.
        """
        raw = np.empty(len(texts))
        for start in range(0, len(texts), self._batch_size):
            part = list(texts[start : start + self._batch_size])
            raw[start : start + len(part)] = self._asked(part)
        return Rewards(transformed(raw, self._transform, texts), np.full(len(texts), np.nan))

    def _asked(self, texts: list[str]) -> np.ndarray:
        answer = self._function(texts)
        try:
            numbers = np.asarray(answer, dtype=np.float64)
        except (TypeError, ValueError):
            numbers = np.empty(0)
        if numbers.shape != (len(texts),):
            raise DataError(
                f"reward: {self._name} was given {len(texts)} texts and returned "
                f"{type(answer).__name__} {str(answer)[:60]}; it must return one number a text"
            )
        return numbers

"""Closed forms take numbers, NumPy arrays or tensors and return the same kind.

Figures need closed forms without PyTorch, training needs them on tensors. PyTorch is imported only
by :func:`as_tensors`.
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from vbon.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class TensorLike(Protocol):
    """Methods of tensors that annotations need, without an import of PyTorch."""

    def detach(self) -> Any: ...
    def cpu(self) -> Any: ...


Number = float | int | np.number
"""One number; runtime checkers do not count integers as floats."""

Numeric = Number | list | tuple | np.ndarray | TensorLike
"""Numbers, sequences of them, arrays or tensors."""


def as_arrays(*values: Numeric) -> tuple[list[np.ndarray], Callable[[np.ndarray], Any]]:
    """Float64 NumPy views of ``values``, and the function that restores their kind.

    With a tensor among the values, results are tensors on its device, detached from the graph;
    otherwise arrays if there is an array or a list, else Python numbers.

    Example:
        >>> (a, b), restore = as_arrays(1, [2.0, 3.0])
        >>> restore(a + b)
        array([3., 4.])
    """
    devices = [value.device for value in values if _is_tensor(value)]
    arrays = [
        np.asarray(value.detach().cpu().double() if _is_tensor(value) else value, dtype=np.float64)
        for value in values
    ]
    if devices:
        as_tensor = sys.modules["torch"].as_tensor
        return arrays, lambda out: as_tensor(np.asarray(out, np.float64), device=devices[0])
    if _all_numbers(values):
        return arrays, float
    return arrays, lambda out: np.asarray(out, np.float64)


def as_tensors(*values: Numeric) -> tuple[list["Tensor"], Callable[["Tensor"], Any]]:
    """Tensors of ``values``, attached to their graph, and the function that restores their kind.

    Floating tensors keep their dtype, other values become float64 on the device of the first
    tensor. Kinds of results are those of :func:`as_arrays`.

    Example:
        >>> (a, b), restore = as_tensors(1.0, 2)
        >>> restore(a + b)
        3.0
    """
    import torch

    devices = [value.device for value in values if _is_tensor(value)]
    device = devices[0] if devices else "cpu"
    tensors = [
        value
        if _is_tensor(value) and value.is_floating_point()
        else torch.as_tensor(_writeable(value), dtype=torch.float64, device=device)
        for value in values
    ]
    if devices:
        return tensors, lambda out: out
    if _all_numbers(values):
        return tensors, lambda out: out.item()
    return tensors, lambda out: out.numpy()


def check_draws(n: Numeric) -> None:
    """Raise ``ConfigError`` unless every ``n`` of best-of-n is a finite number of at least 1."""
    draws = np.asarray(n, dtype=np.float64)
    if not np.all(np.isfinite(draws) & (draws >= 1)):
        raise ConfigError(f"n: best-of-n needs a finite number of draws n >= 1, got {n}")


def _is_tensor(value: object) -> bool:
    """True for tensors; a process without PyTorch has none."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _all_numbers(values: tuple[Numeric, ...]) -> bool:
    return all(isinstance(value, int | float | np.number) for value in values)


def _writeable(value: Any) -> Any:
    """The value, or a writeable copy of a read-only array (pandas returns these)."""
    read_only = isinstance(value, np.ndarray) and not value.flags.writeable
    return value.copy() if read_only else value

"""One convention for every closed form: numbers, NumPy arrays or tensors in, the same kind out.

Closed forms are needed where figures are drawn, without PyTorch, and where policies are trained,
on tensors. Nothing here imports PyTorch unless a function that computes with tensors is called.
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
    """What these functions ask of a tensor; lets them be annotated without importing PyTorch."""

    def detach(self) -> Any: ...
    def cpu(self) -> Any: ...


Number = float | int | np.number
"""One number; integers are spelt out for runtime checkers that do not count them as floats."""

Numeric = Number | list | tuple | np.ndarray | TensorLike
"""Numbers, sequences of them, arrays or tensors."""


def as_arrays(*values: Numeric) -> tuple[list[np.ndarray], Callable[[np.ndarray], Any]]:
    """Float64 NumPy views of ``values`` and the function that turns a result back to their kind.

    A tensor among the values makes the result a tensor on its device, cut off from the graph;
    otherwise any array or list makes it an array; otherwise it is a Python number.

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
    """Tensors of ``values``, still attached to their graph, and the function that turns back.

    Floating tensors keep their dtype, all else becomes float64 on the device of the first tensor.
    The result's kind follows :func:`as_arrays`.

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
    """Raise ``ConfigError`` unless every ``n`` of a best-of-n is a finite number of at least 1."""
    draws = np.asarray(n, dtype=np.float64)
    if not np.all(np.isfinite(draws) & (draws >= 1)):
        raise ConfigError(f"n: best-of-n needs a finite number of draws n >= 1, got {n}")


def _is_tensor(value: object) -> bool:
    """Whether ``value`` is a tensor; a process without PyTorch has none."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _all_numbers(values: tuple[Numeric, ...]) -> bool:
    return all(isinstance(value, int | float | np.number) for value in values)


def _writeable(value: Any) -> Any:
    """The value, or a copy of an array that tensors may not share (pandas hands these out)."""
    read_only = isinstance(value, np.ndarray) and not value.flags.writeable
    return value.copy() if read_only else value

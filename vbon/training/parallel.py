"""Data-parallel training: one process per GPU, with the same state in each.

Every process runs the same loop. For expensive steps (sampling, scoring, gradients) each computes
the results of a share of prompts, responses or rows, and they exchange these. Draws depend on
prompt and draw alone and gradients are sums over rows, so several processes train like one, up to
rounding. A single process exchanges nothing and imports nothing.
"""

import os
import signal
import sys
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor, nn

from vbon.batches import Prompts, Rollouts
from vbon.errors import ConfigError, VbonError

T = TypeVar("T")

_BUCKET = 2**24  # numbers of gradients exchanged at once, or up to one tensor more

_state: Any = None
"""Accelerate's state of the processes; None in a single process."""


def launch(processes: int, arguments: list[str]) -> None:
    """Run a ``vbon`` command in several processes of this machine and wait for its end.

    Args:
        processes: Number of processes. With GPUs, each has one.
        arguments: The command without ``vbon``; it calls :func:`join`.

    Raises:
        ConfigError: If there are GPUs, but fewer than processes.
        VbonError: If a process fails; the others are then stopped.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    gpus = torch.cuda.device_count()
    if 0 < gpus < processes:
        raise ConfigError(
            f"gpus_per_job: {processes} processes need a GPU each, this job has {gpus}; lower it, "
            "or request more from the cluster"
        )
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "vbon.cli", *arguments)
    except ChildFailedError as error:
        # Processes waiting for a failed one end by SIGTERM or report its loss.
        codes = [failure.exitcode for failure in error.failures.values()]
        code = min(codes, key=lambda code: (code == -signal.SIGTERM, code))
        raise VbonError(f"one of {processes} processes {explain(code)}") from None


def explain(code: int) -> str:
    """Description of the end of a process by its exit code.

    Example:
        >>> explain(-9)
        'was stopped by SIGKILL, possibly for lack of memory'
    """
    if code < 0:
        return f"was stopped by {signal.Signals(-code).name}, possibly for lack of memory"
    return f"ended with code {code}, see above"


def is_launched() -> bool:
    """True in a process started by :func:`launch` or ``accelerate launch``."""
    return "LOCAL_RANK" in os.environ


def join() -> None:
    """Connect to the other processes and share work with them from here on."""
    global _state
    from accelerate import PartialState  # takes long to import

    _state = PartialState(cpu=not torch.cuda.is_available())


def leave() -> None:
    """Disconnect from the other processes, if any."""
    global _state
    if _state is not None:
        _state.destroy_process_group()
        _state = None


def count() -> int:
    """Number of processes."""
    return 1 if _state is None else _state.num_processes


def is_main() -> bool:
    """True in the process that writes and prints."""
    return _state is None or _state.is_main_process


def gathered(share: Callable[[], T]) -> list[T]:
    """Results of all processes, in their order, in each of them.

    Args:
        share: Computes this process's result, which must pickle, with tensors on the CPU.

    Raises:
        VbonError: In all processes, the error raised in one of them.

    Example:
        >>> gathered(lambda: "alone")
        ['alone']
    """
    if _state is None:
        return [share()]
    from accelerate.utils import gather_object

    try:
        result = share(), None
    except VbonError as error:
        result = None, error
    parts, errors = zip(*gather_object([result]), strict=True)
    for error in filter(None, errors):
        raise error
    return list(parts)


def share_of(rows: int) -> Int[Tensor, " share"]:
    """Row numbers of this process's share of some rows.

    Example:
        >>> share_of(3).tolist()
        [0, 1, 2]
    """
    shares = torch.arange(rows).tensor_split(count())
    return shares[0 if _state is None else _state.process_index]


def by_rows(
    numbers: Callable[[Prompts, Rollouts], Tensor], prompts: Prompts, rollouts: Rollouts
) -> Tensor:
    """Numbers of each rollout; each process computes a share of the rows.

    Args:
        numbers: Function of prompts and rollouts that treats rows independently.
        prompts: Prompt of each rollout.
        rollouts: Rollouts.
    """
    if _state is None:
        return numbers(prompts, rollouts)
    rows = share_of(len(rollouts))

    def share() -> Tensor | None:
        return numbers(prompts.select(rows), rollouts.select(rows)) if len(rows) else None

    return torch.cat([part for part in gathered(share) if part is not None])


def by_prompts(draw: Callable[[Prompts], Rollouts], prompts: Prompts) -> Rollouts:
    """Rollouts of prompts in their order; each process draws for a share of the prompts.

    Args:
        draw: Draws equally many responses to each prompt, in the order of prompts.
        prompts: Prompts. Copies of one prompt go to one process, because the sampler counts them.
    """
    if _state is None:
        return draw(prompts)
    place = {name: index for index, name in enumerate(dict.fromkeys(prompts.prompt_id))}
    owner = torch.tensor([place[name] * count() // len(place) for name in prompts.prompt_id])
    shares = [(owner == process).nonzero().flatten() for process in range(count())]
    mine = shares[_state.process_index]
    parts = gathered(lambda: draw(prompts.select(mine)) if len(mine) else None)
    rollouts = Rollouts.joined([part for part in parts if part is not None])
    draws = len(rollouts) // len(prompts)
    rows = torch.cat(shares).argsort()[:, None] * draws + torch.arange(draws)
    index = torch.arange(len(prompts)).repeat_interleave(draws)
    return replace(rollouts.select(rows.flatten()), prompt_index=index)


def summed(numbers: Tensor) -> Tensor:
    """The sum over processes."""
    if _state is None:
        return numbers
    from accelerate.utils import reduce

    return reduce(numbers, "sum")


def add_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its sum over processes."""
    if _state is None:
        return
    bucket: list[Tensor] = []
    for gradient in (part.grad for part in parameters if part.grad is not None):
        bucket.append(gradient)
        if sum(map(Tensor.numel, bucket)) >= _BUCKET:
            _add(bucket)
            bucket = []
    _add(bucket)


def _add(gradients: list[Tensor]) -> None:
    """Sum some gradients over processes in one exchange, since each costs time."""
    if gradients:
        whole = summed(torch.cat([gradient.flatten() for gradient in gradients]))
        parts = whole.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

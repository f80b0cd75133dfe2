"""One training by several processes, a GPU each: they share the work, and all know its results.

Every process goes through the same loop. What takes long each does for a share alone (prompts to
answer, responses to score, rows of an update), and tells the others. Draws depend on prompt and
draw alone and gradients are sums over rows, so training goes as in one process, up to rounding.
A process on its own shares nothing and imports nothing.
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

_BUCKET = 2**24  # numbers of gradients that are exchanged at once, or one tensor more

_state: Any = None
"""Accelerate's state of the processes; None in a process on its own."""


def launch(processes: int, arguments: list[str]) -> None:
    """Run a ``vbon`` command by several processes of this machine, and wait for its end.

    Args:
        processes: How many. With GPUs, each has one.
        arguments: The command without ``vbon``; it calls :func:`join`.

    Raises:
        ConfigError: If there are GPUs, and fewer than processes.
        VbonError: If a process fails; then the others are ended.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    gpus = torch.cuda.device_count()
    if 0 < gpus < processes:
        raise ConfigError(
            f"gpus_per_job: {processes} asks for more GPUs than this job has, {gpus}; lower it, or "
            "ask the cluster for more"
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
        # Those that wait for one that failed are ended by SIGTERM, or complain of its loss.
        codes = [failure.exitcode for failure in error.failures.values()]
        code = min(codes, key=lambda code: (code == -signal.SIGTERM, code))
        raise VbonError(f"one of {processes} processes {explain(code)}") from None


def explain(code: int) -> str:
    """How a process ended, by its exit code.

    Example:
        >>> explain(-9)
        'was ended by SIGKILL; if nobody did, memory ran out'
    """
    if code < 0:
        name = signal.Signals(-code).name
        return f"was ended by {name}; if nobody did, memory ran out"
    return f"ended with code {code}, see above"


def is_launched() -> bool:
    """Whether this process is one of several, by :func:`launch` or ``accelerate launch``."""
    return "LOCAL_RANK" in os.environ


def join() -> None:
    """Meet the other processes; from now on work is shared with them."""
    global _state
    from accelerate import PartialState  # takes long to import

    _state = PartialState(cpu=not torch.cuda.is_available())


def leave() -> None:
    """Part from the other processes, if there are any."""
    global _state
    if _state is not None:
        _state.destroy_process_group()
        _state = None


def count() -> int:
    """Number of processes."""
    return 1 if _state is None else _state.num_processes


def is_main() -> bool:
    """Whether this is the process that writes and speaks for all."""
    return _state is None or _state.is_main_process


def gathered(share: Callable[[], T]) -> list[T]:
    """What each process makes of its share, in the order of processes, in all of them.

    Args:
        share: Makes this process's part: anything that pickles, tensors on the processor.

    Raises:
        VbonError: In all processes what was raised in one of them.

    Example:
        >>> gathered(lambda: "alone")
        ['alone']
    """
    if _state is None:
        return [share()]
    from accelerate.utils import gather_object

    ours: tuple[T | None, VbonError | None]
    try:
        ours = share(), None
    except VbonError as error:
        ours = None, error
    parts, errors = zip(*gather_object([ours]), strict=True)
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
    """Numbers of each rollout, each process making those of some.

    Args:
        numbers: From prompts and rollouts, whose rows do not depend on each other.
        prompts: Prompt of each rollout.
        rollouts: Rollouts.
    """
    if _state is None:
        return numbers(prompts, rollouts)
    rows = share_of(len(rollouts))

    def share() -> Tensor | None:
        return numbers(prompts.select(rows), rollouts.select(rows)) if len(rows) else None

    return torch.cat([part for part in gathered(share) if part is not None])


def by_prompts(draw: Callable[[Prompts], Rollouts], asked: Prompts) -> Rollouts:
    """Rollouts of prompts in their order, each process drawing those to some.

    Args:
        draw: Draws equally many responses to each prompt, those to one together.
        asked: Prompts. All that stand there more than once are one process's, because the sampler
            tells them apart by counting.
    """
    if _state is None:
        return draw(asked)
    place = {name: index for index, name in enumerate(dict.fromkeys(asked.prompt_id))}
    owner = torch.tensor([place[name] * count() // len(place) for name in asked.prompt_id])
    shares = [(owner == process).nonzero().flatten() for process in range(count())]
    mine = shares[_state.process_index]
    parts = gathered(lambda: draw(asked.select(mine)) if len(mine) else None)
    found = Rollouts.joined([part for part in parts if part is not None])
    draws = len(found) // len(asked)
    rows = torch.cat(shares).argsort()[:, None] * draws + torch.arange(draws)
    index = torch.arange(len(asked)).repeat_interleave(draws)
    return replace(found.select(rows.flatten()), prompt_index=index)


def summed(numbers: Tensor) -> Tensor:
    """The sum over processes."""
    if _state is None:
        return numbers
    from accelerate.utils import reduce

    return reduce(numbers, "sum")


def add_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Put the sum over processes in the place of each gradient."""
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
    """The same for some gradients at once: each exchange has its price."""
    if gradients:
        whole = summed(torch.cat([gradient.flatten() for gradient in gradients]))
        parts = whole.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

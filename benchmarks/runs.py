"""Seconds per run by method, and the share spent outside the models' passes and AdamW.

Run it in a checkout with the results of `make benchmark`; it reads the task's models and draws, and
writes nothing:

    .venv/bin/python benchmarks/runs.py [--task sentiment] [--configfile config/extended.yaml]
"""

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import torch
from common import use_one_core
from transformers import PreTrainedModel

from vbon.models import fast, generic
from vbon.planning.config import load
from vbon.planning.runs import Run, expand
from vbon.training.runs import Inputs, carry_out


class Passes:
    """Total time inside forward passes, backward passes and optimiser steps."""

    def __init__(self) -> None:
        self.seconds, self._depth = 0.0, 0

    def timed(self, function: Callable) -> Callable:
        """Wrap a function to add its time to the total, unless a timed function calls it."""

        def call(*args: Any, **options: Any) -> Any:
            self._depth += 1
            started = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds += time.perf_counter() - started

        return call

    @contextlib.contextmanager
    def watched(self) -> Iterator["Passes"]:
        """Time every pass of a model within the block."""
        places = [
            (fast.Body, "encode"),
            (fast.Decoder, "step"),
            (generic, "hidden_states"),
            (generic.Decoder, "step"),
            (PreTrainedModel, "__call__"),
            (fast, "linear"),  # of the output layer
            (torch.nn.Linear, "forward"),  # of the value head
            (torch.Tensor, "backward"),
            (torch.optim.AdamW, "step"),
        ]
        before = [vars(owner).get(name) for owner, name in places]
        for owner, name in places:
            setattr(owner, name, self.timed(getattr(owner, name)))
        try:
            yield self
        finally:
            for (owner, name), original in zip(places, before, strict=True):
                if original is None:
                    delattr(owner, name)
                else:
                    setattr(owner, name, original)


def measure(run: Run) -> dict[str, Any]:
    """Repeat a run in a temporary folder, and return its time and the share outside of passes."""
    paths = run.inputs()
    inputs = Inputs({k: path for k, path in paths.items() if k != "pairs"}, dict(run.spec))
    _ = inputs.environment
    if "samples" in paths:
        _ = inputs.samples
    with tempfile.TemporaryDirectory() as folder, Passes().watched() as passes:
        plain = run.to_json() | {"inputs": paths, "root": folder}
        started = time.perf_counter()
        status = carry_out(plain, run.instance, inputs, run.provenance())
        elapsed = time.perf_counter() - started
    row = {"method": run.method, "setting": run.setting, "status": status, "seconds": elapsed}
    return row | {"outside": 1 - passes.seconds / elapsed}


def main() -> None:
    """Measure one run of each trained method, at the middle of its grid, and print a table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--task", default="sentiment")
    options.add_argument("--configfile", nargs="*", default=[])
    args = options.parse_args()
    use_one_core()
    runs_by_method: dict[str, list[Run]] = {}
    for run in expand(load(["config.yaml", *args.configfile])):
        if run.task == args.task and run.instance.trained and not run.instance.is_reference:
            runs_by_method.setdefault(run.method, []).append(run)
    rows = [measure(runs[len(runs) // 2]) for runs in runs_by_method.values()]
    print(pd.DataFrame(rows).round({"seconds": 2, "outside": 3}).to_string(index=False))


if __name__ == "__main__":
    main()

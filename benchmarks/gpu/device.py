"""Shared by the benchmarks of this folder: model shapes, timing, and limits of the device."""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from vbon.artifacts.measured import hardware
from vbon.batches import Prompts
from vbon.models.language_model import device
from vbon.planning.cost import Shape

SHAPES = {"gpt2": Shape(12, 768, 50257), "tiny": Shape(2, 64, 500)}
PROMPT = 6
"""Number of tokens of every prompt; equal lengths avoid padding."""
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}


def options(summary: str) -> argparse.ArgumentParser:
    """Parser with the options of both benchmarks."""
    parser = argparse.ArgumentParser(description=summary)
    usual = "gpt2" if torch.cuda.is_available() else "tiny"
    parser.add_argument(
        "--shape", choices=SHAPES, default=usual, help=f"default on this machine: {usual}"
    )
    parser.add_argument("--precision", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds, after one warm-up")
    parser.add_argument("--out", type=Path, help="also write the numbers to this JSON file")
    return parser


def build(shape: Shape, tokens: int) -> GPT2LMHeadModel:
    """A GPT-2 with random weights."""
    torch.manual_seed(0)
    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    ends = {"bos_token_id": None, "eos_token_id": None}
    sizes = {"n_layer": shape.layers, "n_embd": shape.width, "n_head": shape.width // 64}
    config = GPT2Config(
        vocab_size=shape.vocab_size, n_positions=PROMPT + tokens, **sizes, **ends, **dropout
    )
    return GPT2LMHeadModel(config).eval().to(device())


def prompts(count: int, shape: Shape) -> Prompts:
    """Random prompts of :data:`PROMPT` tokens."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(shape.vocab_size, (count, PROMPT), generator=generator)
    return Prompts.from_lists(ids.tolist(), [str(row) for row in range(count)])


def seconds(function: Callable[[], object], rounds: int) -> list[float]:
    """Elapsed seconds of each call after a warm-up call."""
    elapsed = []
    for _ in range(rounds + 1):
        _wait()
        started = time.perf_counter()
        function()
        _wait()
        elapsed.append(time.perf_counter() - started)
    return elapsed[1:]


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@dataclass(frozen=True)
class Limits:
    """Measured limits of this device at one precision.

    Attributes:
        flops: Operations per second of a product of large matrices.
        bandwidth: Bytes per second that a copy reads and writes.
    """

    flops: float
    bandwidth: float

    @classmethod
    def measure(cls, precision: str) -> "Limits":
        """Measure both, each as the fastest of ten calls."""
        torch.backends.cuda.matmul.allow_tf32 = precision != "fp32"
        size = 8192 if torch.cuda.is_available() else 1024
        left = torch.randn(size, size, device=device(), dtype=DTYPES[precision])
        source = torch.zeros(size * size, device=device())
        target = torch.empty_like(source)
        product = min(seconds(lambda: left @ left, 10))
        copied = min(seconds(lambda: target.copy_(source), 10))
        return cls(2 * size**3 / product, 2 * source.nbytes / copied)


def report(
    precision: str, elapsed: list[float], units: float, unit: str, flop: float, read: float
) -> dict[str, object]:
    """Print one line and return its numbers.

    Args:
        precision: As in the config.
        elapsed: Seconds of each round.
        units: Number of units per round.
        unit: Name of the unit.
        flop: Lower bound of the operations per round.
        read: Lower bound of the bytes of weights and cache that decoding reads per round.
    """
    limits, typical = Limits.measure(precision), statistics.median(elapsed)
    floor = flop / limits.flops + read / limits.bandwidth
    print(
        f"{precision}: {units / typical:,.0f} {unit}/s ({min(elapsed):.3g} to "
        f"{max(elapsed):.3g} s per round), {flop / typical / limits.flops:.1%} of a "
        f"matrix product's {limits.flops / 1e12:.3g} TFLOP/s; the floor is {floor:.3g} s"
    )
    return {"seconds": elapsed, "rate": units / typical, "flop": flop, "read": read, "floor": floor,
            "limits": vars(limits)}  # fmt: skip


def write(path: Path | None, numbers: dict[str, object]) -> None:
    """Write the numbers and the hardware, unless ``path`` is None."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"hardware": hardware(), **numbers}, indent=2) + "\n")

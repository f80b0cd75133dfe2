"""Shared by the benchmarks and their peers: workload, timing, matmul peak and printed tables.

Imports only PyTorch and transformers, and works with old and new versions, because the peers'
environments import this file too.
"""

import contextlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

VOCAB, LAYERS, WIDTH, HEADS, CONTEXT = 2000, 4, 128, 4, 64
NEW_TOKENS, SHORTEST, LONGEST = 40, 2, 8
EOS = VOCAB
"""End token outside every model's vocabulary: all responses of all peers have full length."""


@dataclass(frozen=True)
class Shape:
    """Sizes that determine the necessary operations.

    Attributes:
        layers: Number of blocks.
        width: Width of the hidden states, and of all query heads together.
        weights: Number of entries of a block's matrices.
        vocab: Number of tokens of the vocabulary.
        new_tokens: Length of responses.
    """

    layers: int
    width: int
    weights: int
    vocab: int
    new_tokens: int


GPT2 = Shape(LAYERS, WIDTH, 12 * WIDTH**2, VOCAB, NEW_TOKENS)
KEYS, INNER = 192, 1536
LLAMA = Shape(30, 576, 576 * (2 * 576 + 2 * KEYS + 3 * INNER), 49152, 16)
"""The shape of SmolLM-135M: 9 heads of queries and 3 of keys and values, each of 64."""


def use_one_core() -> None:
    """Pin this process and its children to one core and one thread."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)


def build_model(seed: int = 0) -> GPT2LMHeadModel:
    """A GPT-2 of 1.07 M parameters with random weights, dropout off.

    The weights are large enough for the distribution of tokens to be far from uniform.
    """
    config = GPT2Config(
        vocab_size=VOCAB,
        n_positions=CONTEXT,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = GPT2LMHeadModel(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if weight.dim() == 2:
                weight.normal_(0.0, 0.1 if "wte" in name else 0.02, generator=generator)
    return model


def build_llama() -> LlamaForCausalLM:
    """A Llama of the shape of SmolLM-135M with random weights."""
    config = LlamaConfig(
        vocab_size=LLAMA.vocab,
        hidden_size=LLAMA.width,
        intermediate_size=INNER,
        num_hidden_layers=LLAMA.layers,
        num_attention_heads=LLAMA.width // 64,
        num_key_value_heads=KEYS // 64,
        max_position_embeddings=2048,
        initializer_range=LLAMA.width**-0.5,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config).eval()


def fingerprint(model: PreTrainedModel) -> float:
    """A log-prob of the model, to check that two processes have the same weights."""
    tokens = torch.arange(1, CONTEXT + 1)[None]
    with torch.no_grad():
        log_probs = model(tokens).logits.log_softmax(-1)
    return log_probs[0, :-1].gather(1, tokens[0, 1:, None]).double().sum().item()


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Tokenizer with one token per word and its end token just outside the model's vocabulary."""
    words = {"<pad>": 0} | {f" word{index}": index for index in range(1, VOCAB)} | {"<eos>": EOS}
    core = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        eos_token="<eos>",
        clean_up_tokenization_spaces=False,
    )


def random_prompts(count: int, seed: int, vocab: int = VOCAB) -> list[list[int]]:
    """Prompts of 2 to 8 tokens."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(SHORTEST, LONGEST + 1, (count,), generator=generator).tolist()
    return [torch.randint(1, vocab, (size,), generator=generator).tolist() for size in lengths]


def count_good_words(texts: Sequence[str]) -> list[float]:
    """Reward of PPO's workload: number of words of each text that are among 100 good ones."""
    return [float(sum(word in _GOOD for word in text.split())) for text in texts]


_GOOD = frozenset(f"word{index}" for index in range(0, VOCAB, 20))


def forward_flops(prompt_length: int, draws: int = 1, shape: Shape = GPT2) -> float:
    """Floating-point operations to encode a prompt once and score or sample ``draws`` responses.

    Two per multiply-add of matrices and of attention; the output layer counts at response tokens
    only, padding not at all. This is a lower bound for any implementation.
    """
    steps = shape.new_tokens - 1  # the last token is not fed back
    pairs = steps * prompt_length + steps * (steps + 1) / 2
    body = 2 * shape.weights * (prompt_length + draws * steps)
    attention = 4 * shape.width * (prompt_length * (prompt_length + 1) / 2 + draws * pairs)
    output = draws * shape.new_tokens * 2 * shape.width * shape.vocab
    return shape.layers * (body + attention) + output


def matmul_peak(seconds: float = 0.5) -> float:
    """Highest fp32 rate of a matrix product on this process's threads, in FLOP/s.

    PyTorch's default library and oneDNN are tried, whose rates differ on some processors. The
    shorter of elapsed and processor time counts, as other load lengthens the former.
    """
    best, left, right = 0.0, torch.randn(1024, 1024), torch.randn(1024, 1024)
    out = torch.empty(1024, 1024)
    products = [lambda: torch.mm(left, right, out=out)]
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        by_onednn = torch.ops.mkldnn._linear_pointwise
        products.append(lambda: by_onednn(left, right, None, "none", [], ""))
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for product in products:
            with timed() as elapsed:
                product()
            best = max(best, 2 * 1024**3 / min(elapsed.values()))
    return best


@dataclass
class Timing:
    """Measured time of one round of one contestant.

    Attributes:
        units: Number of tokens, episodes or pairs processed.
        flops: Lower bound of the operations for them.
        wall: Elapsed seconds.
        cpu: Seconds of processor time, which are less affected by other load.
        parts: Seconds by named part.
    """

    units: int
    flops: float
    wall: float
    cpu: float
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Units per elapsed second."""
        return self.units / self.wall


@contextlib.contextmanager
def timed() -> Iterator[dict[str, float]]:
    """Time a block; the dictionary has ``wall`` and ``cpu`` after it."""
    elapsed: dict[str, float] = {}
    wall, cpu = time.perf_counter(), time.process_time()
    yield elapsed
    elapsed |= {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


@dataclass
class Rounds:
    """Timings of all contestants by round, the matmul peak in FLOP/s and the load before rounds."""

    timings: dict[str, list[Timing]]
    peak: float
    load: list[float]

    def ratio(self, ours: str, peers: Sequence[str], clock: str = "wall") -> list[float]:
        """Our units per second divided by those of the fastest peer, one ratio per round."""
        best = [
            max(t.units / getattr(t, clock) for t in timings)
            for timings in zip(*(self.timings[peer] for peer in peers), strict=True)
        ]
        return [
            t.units / getattr(t, clock) / rate
            for t, rate in zip(self.timings[ours], best, strict=True)
        ]

    def share_of_peak(self, name: str) -> float:
        """Median rate of the necessary operations as a share of the matmul peak."""
        return statistics.median(t.flops / t.wall for t in self.timings[name]) / self.peak


def alternate(rounds: int, contestants: dict[str, Callable[[], Timing]]) -> Rounds:
    """Run every contestant once per round, in turn, and measure the matmul peak before each.

    Raises:
        AssertionError: If a contestant is faster than the peak and so cannot have done the work.
    """
    timings: dict[str, list[Timing]] = {name: [] for name in contestants}
    peaks, load = [], []
    for number in range(rounds):
        load.append(os.getloadavg()[0])
        for name, run in contestants.items():
            peaks.append(matmul_peak())
            timings[name].append(run())
            print(
                f"round {number + 1}/{rounds}  {name}: {timings[name][-1].rate:,.1f}/s", flush=True
            )
    for name, measured in timings.items():
        for timing in measured:
            fastest = timing.flops / min(timing.wall, timing.cpu)
            assert fastest <= max(peaks), (
                f"{name}: {fastest / 1e9:.0f} GFLOP/s is above the peak {max(peaks) / 1e9:.0f}; "
                "it cannot have done the work"
            )
    return Rounds(timings, max(peaks), load)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median and range as text."""
    low, high = min(values), max(values)
    return f"{statistics.median(values):,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns, the first left-aligned and the others right-aligned."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    print()
    for line in lines:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        print("  ".join(cells))


def machine() -> dict[str, str | int]:
    """Processor, cores, threads and PyTorch version of this process."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count() or 1,
        "threads_used": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def report(rounds: Rounds, unit: str, ours: str, peers: Sequence[str]) -> dict[str, object]:
    """Print rates and ratios; return everything as plain values.

    Args:
        rounds: The measurements.
        unit: Name of the unit of ``Timing.units``.
        ours: Name of our contestant.
        peers: Contestants, the fastest of which in each round is compared with ours.
    """
    rows = [
        [name, spread([t.rate for t in timings], 1), f"{rounds.share_of_peak(name):.0%}"]
        for name, timings in rounds.timings.items()
    ]
    print_table(("", f"{unit}/s: median (range)", "share of peak"), rows)
    ratios = {clock: rounds.ratio(ours, peers, clock) for clock in ("wall", "cpu")}
    label = f"{ours} / {peers[0]}" if len(peers) == 1 else f"{ours} / fastest of {len(peers)}"
    head = ("ratio per round: median (range)", "elapsed time", "processor time")
    print_table(head, [[label, spread(ratios["wall"]), spread(ratios["cpu"])]])
    on = machine()
    print(
        f"\n{len(rounds.load)} rounds; matmul peak {rounds.peak / 1e9:.0f} GFLOP/s fp32; "
        f"load before the rounds {spread(rounds.load, 1)}; {on['processor']}, "
        f"{on['cores']} cores, {on['threads_used']} thread used"
    )
    return {
        "machine": on,
        "peak_flops": rounds.peak,
        "load": rounds.load,
        "ratios": ratios,
        "timings": {name: [asdict(t) for t in each] for name, each in rounds.timings.items()},
    }


def write_json(path: Path, values: dict[str, object]) -> None:
    """Write results as indented JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2) + "\n")

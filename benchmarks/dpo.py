"""DPO speed of vbon's loop and TRL 1.16's ``DPOTrainer``, in pairs per second.

``python benchmarks/dpo.py`` times them in turn on one core: 32 pairs per update with responses of
40 tokens, the same pairs in the same order, with the reference's log-probs precomputed. Time is
measured from the end of the first update to the end of the last.
"""

import argparse
import contextlib
import io
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from common import (
    EOS,
    NEW_TOKENS,
    VOCAB,
    Timing,
    alternate,
    build_model,
    build_tokenizer,
    fingerprint,
    forward_flops,
    random_prompts,
    report,
    use_one_core,
    write_json,
)
from peers import trl_offline
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook
from trl import __version__ as trl_version

from vbon.batches import Prompts, Rollouts
from vbon.methods.dpo import DPO
from vbon.models import fast
from vbon.models.language_model import token_log_probs
from vbon.training.offline import Examples, OfflineSettings, OfflineTrainer
from vbon.training.trainer import Environment

BATCH, METHOD = 32, DPO(kl_coef=0.1)
TARGET = 1.8
SETTINGS = OfflineSettings(
    epochs=1,
    updates=None,
    batch_size=BATCH,
    learning_rate=1e-4,
    schedule="linear",
    warmup=0.0,
    adam_beta2=0.999,
    weight_decay=0.0,
    max_grad_norm=10.0,
    blocks=1,
    monitors=1,
    monitor_rollouts=1,
)


@dataclass
class Work:
    """Counters, increased where the work is done and not derived from settings.

    Attributes:
        rows: Number of sequences in forward passes with gradient.
        columns: Padded length of these sequences, summed over sequences.
        ends: Elapsed and processor time at the end of each optimiser step.
    """

    rows: int = 0
    columns: int = 0
    ends: list[tuple[float, float]] = field(default_factory=list)

    def add_step(self, *_: object) -> None:
        """Record the end of an optimiser step."""
        self.ends.append((time.perf_counter(), time.process_time()))

    def add_forward(self, input_ids: Tensor, hidden: Tensor) -> None:
        """Count a forward pass if it has a gradient."""
        if hidden.requires_grad:
            self.rows += len(input_ids)
            self.columns += input_ids.numel()

    def timing(self, updates: int, flops: float) -> Timing:
        """Time of all updates except the first, after a check that the workload was done."""
        assert len(self.ends) == updates, self
        assert self.rows == 2 * BATCH * updates, self
        # Batches have the length of the longest prompt and the response without its last token.
        longest = self.columns / self.rows - NEW_TOKENS
        assert 6.5 <= longest <= 8, f"batches are {longest:.2f} tokens longer than a response"
        (wall, cpu), (wall_end, cpu_end) = self.ends[0], self.ends[-1]
        return Timing(BATCH * (updates - 1), flops, wall_end - wall, cpu_end - cpu)


@contextlib.contextmanager
def counted(policy: torch.nn.Module) -> Iterator[Work]:
    """Count updates and training batches of a policy in a block, in either loop."""
    work, encode = Work(), fast.Body.encode

    def ours(body: fast.Body, input_ids: Tensor, *rest: Any, **options: Any) -> tuple[Tensor, Any]:
        hidden, cache = encode(body, input_ids, *rest, **options)
        work.add_forward(input_ids, hidden)
        return hidden, cache

    def theirs(_: object, __: object, named: dict[str, Any], output: Any) -> None:
        work.add_forward(named["input_ids"], output.last_hidden_state)

    hooks = (
        register_optimizer_step_post_hook(work.add_step),
        policy.transformer.register_forward_hook(theirs, with_kwargs=True),
    )
    fast.Body.encode = ours
    try:
        yield work
    finally:
        fast.Body.encode = encode
        for hook in hooks:
            hook.remove()


class Workload:
    """Pairs of random responses, and one round of training on them."""

    def __init__(self, updates: int) -> None:
        self.updates, count = updates, BATCH * updates
        lists = random_prompts(count, seed=3)
        prompts = Prompts.from_lists(lists, [str(index) for index in range(count)])
        generator = torch.Generator().manual_seed(4)
        ids = torch.randint(1, VOCAB, (2 * count, NEW_TOKENS), generator=generator)
        every = torch.arange(count).repeat(2)
        reference = build_model().requires_grad_(False)
        mask = torch.ones_like(ids, dtype=torch.bool)
        with torch.no_grad():
            log_probs = token_log_probs(reference, prompts.select(every), ids, mask)
        lengths, rows = mask.sum(1), torch.arange(2 * count)
        self.examples = Examples(
            every, ids, lengths, log_probs.double().sum(1), rows[:count], rows[count:]
        )
        self.environment = Environment(prompts, reference, _no_score, None, EOS, 1)
        timed = self.examples.order(count, seed=0)[BATCH:].tolist()
        self.flops = 6 * sum(forward_flops(len(lists[index])) for index in timed)
        self.ended: dict[str, float] = {}

    def round(self, name: str, train: Callable[[OfflineTrainer], object]) -> Timing:
        """Train a new policy; both loops must end with the same weights."""
        policy = build_model()
        parts = policy, METHOD, self.environment, self.examples, SETTINGS
        trainer = OfflineTrainer(*parts, seed=0)
        with counted(policy) as work, contextlib.redirect_stdout(io.StringIO()):
            train(trainer)
        self.ended[name] = fingerprint(policy)
        difference = max(self.ended.values()) - min(self.ended.values())
        assert difference < 1e-2, f"the loops end with different policies: log-probs {self.ended}"
        return work.timing(self.updates, self.flops)


def _no_score(_: Prompts, rollouts: Rollouts) -> Tensor:
    return torch.zeros(len(rollouts), dtype=torch.float64)


def main() -> None:
    """Time both loops and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="alternated rounds (default 5)")
    parser.add_argument("--updates", type=int, default=17, help="per round (default 17)")
    parser.add_argument("--out", type=Path, help="also write the results to this JSON file")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    use_one_core()
    workload, peer = Workload(arguments.updates), f"TRL {trl_version}, DPO"
    tokenizer = build_tokenizer()
    contestants = {
        "vbon, DPO": lambda: workload.round("vbon", list),
        peer: lambda: workload.round("TRL", lambda native: trl_offline.train(native, tokenizer)),
    }
    rounds = alternate(arguments.rounds, contestants)
    results = report(rounds, "pairs", "vbon, DPO", [peer])
    print(f"target: {TARGET} times TRL's pairs per second")
    if arguments.out:
        write_json(arguments.out, results)


if __name__ == "__main__":
    main()

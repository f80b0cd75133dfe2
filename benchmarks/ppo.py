"""PPO speed of vbon's loop and TRL 0.11.4's ``PPOTrainer``, in episodes per second.

``python benchmarks/ppo.py`` creates TRL's environment if it is missing, then times both in turn on
one core: 128 responses of 40 tokens per iteration, 4 epochs, minibatches of 32.
"""

import argparse
import contextlib
import json
import math
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ppo_workload as workload
import torch
from common import (
    EOS,
    NEW_TOKENS,
    Timing,
    alternate,
    build_model,
    build_tokenizer,
    count_good_words,
    fingerprint,
    print_table,
    report,
    timed,
    use_one_core,
    write_json,
)
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook
from workers import Worker

from vbon.batches import Prompts, Rollouts
from vbon.methods.base import Online
from vbon.methods.ppo import PPO
from vbon.methods.vbon_l import VBoNL
from vbon.models import fast
from vbon.pool.cdf import EstimatedCDF, RewardCDF
from vbon.training.online import OnlineSettings, OnlineTrainer
from vbon.training.trainer import Environment

POOL = 600
LOOKUP_LIMIT = 0.01


class Contestant:
    """Our loop, unchanged, with its work counted by hooks."""

    def __init__(self, method: Online, cdf: RewardCDF | None, history: Path) -> None:
        lists = workload.prompts()
        self.tokenizer, self.work = build_tokenizer(), workload.Work()
        environment = Environment(
            prompts=Prompts.from_lists(lists, [str(index) for index in range(len(lists))]),
            reference=build_model().requires_grad_(False),
            score=self._score,
            cdf=cdf,
            eos_token_id=EOS,
            max_new_tokens=NEW_TOKENS,
        )
        self.trainer = OnlineTrainer(build_model(), method, environment, _SETTINGS, seed=0)
        self._rows: Iterator[dict[str, float]] = iter(self.trainer)
        self._history = history

    def _score(self, prompts: Prompts, rollouts: Rollouts) -> Tensor:
        responses = rollouts.response_lists()
        self.work.add_rollouts(prompts.lengths.tolist(), list(map(len, responses)))
        texts = self.tokenizer.batch_decode(responses)
        return torch.tensor(count_good_words(texts), dtype=torch.float64)

    def iterate(self) -> None:
        """Run one iteration and append its history row to a file."""
        row = next(self._rows)
        with self._history.open("a") as file:
            print(json.dumps(row), file=file)
        self.work.kl = row["kl"]

    def round(self, iterations: int) -> Timing:
        """Train for one warm-up iteration, then for ``iterations`` that are timed and counted."""
        self.iterate()
        self.work, before = workload.Work(), dict(self.trainer.seconds)
        with counted(self.work), timed() as elapsed:
            for _ in range(iterations):
                self.iterate()
        self.work.check(iterations)
        parts = {name: value - before[name] for name, value in self.trainer.seconds.items()}
        return Timing(self.work.episodes, self.work.flops, **elapsed, parts=parts)


_SETTINGS = OnlineSettings(
    iterations=1_000_000,
    rollouts=workload.ROLLOUTS,
    draws_per_prompt=1,
    epochs=workload.EPOCHS,
    minibatch=workload.MINIBATCH,
    learning_rate=workload.LEARNING_RATE,
    schedule="constant",
    adam_beta2=0.999,
    weight_decay=0.0,
    gamma=1.0,
    lam=0.95,
    clip_policy=0.2,
    clip_value=0.2,
    clip_reward=None,
    value_target="to_go",
    value_model="shared",
    value_trains_trunk=True,
    value_coef=0.1,
    max_grad_norm=None,
    whiten="batch",
    warm_start=0,
    warm_start_batch=128,
    warm_start_rate=0.002,
    tilt_floor=None,
    prompt_scale=0.0,
    reward_tail=0.0,
)


@contextlib.contextmanager
def counted(work: workload.Work) -> Iterator[None]:
    """Count our optimiser steps and training batches in a block, by hooks."""
    encode = fast.Body.encode

    def count_step(*_: object) -> None:
        work.steps += 1

    def count_forward(
        body: fast.Body, input_ids: Tensor, *rest: Any, **options: Any
    ) -> tuple[Tensor, Any]:
        hidden, cache = encode(body, input_ids, *rest, **options)
        if hidden.requires_grad:
            work.add_training(*input_ids.shape)
        return hidden, cache

    hook = register_optimizer_step_post_hook(count_step)
    fast.Body.encode = count_forward
    try:
        yield
    finally:
        fast.Body.encode = encode
        hook.remove()


def synthetic_cdf() -> EstimatedCDF:
    """A pool of 600 random rewards per prompt; the time of a lookup does not depend on them."""
    generator = torch.Generator().manual_seed(0)
    shares = torch.full((workload.TRAINING_PROMPTS, POOL), 0.05, dtype=torch.float64)
    rewards = torch.binomial(torch.full_like(shares, NEW_TOKENS), shares, generator=generator)
    unfitted = torch.full((workload.TRAINING_PROMPTS, 2), torch.nan, dtype=torch.float64)
    return EstimatedCDF(rewards.sort(1).values, unfitted, pooled_ties=True)


def peer_round(worker: Worker, iterations: int) -> Timing:
    """Run one round of the peer and check its work."""
    answer = worker.ask(iterations=iterations)
    work = workload.Work(**answer.pop("work"))
    work.check(iterations)
    return Timing(work.episodes, work.flops, **answer)


def print_split(timings: dict[str, list[Timing]]) -> float:
    """Print the shares of parts of our time; return that of the log F lookup in vBoN-L."""
    rows, lookup = [], math.nan
    for name, measured in timings.items():
        shares = {
            part: statistics.median(timing.parts[part] / timing.wall for timing in measured)
            for part in measured[0].parts
        }
        lookup = shares["lookup"]
        rows.append([name, *(f"{share:.2%}" for share in shares.values())])
    print_table(("share of our iteration", *measured[0].parts), rows)
    return lookup


def main() -> None:
    """Time both loops and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="alternated rounds (default 5)")
    parser.add_argument("--iterations", type=int, default=3, help="timed per round (default 3)")
    parser.add_argument("--out", type=Path, help="also write the results to this JSON file")
    arguments = parser.parse_args()
    use_one_core()
    torch.manual_seed(0)
    worker = Worker("trl-0.11.4", "trl_ppo.py")
    difference = abs(worker.facts["fingerprint"] - fingerprint(build_model()))
    assert difference < 1e-3, f"the peer has another model: log-probs differ by {difference}"
    with tempfile.TemporaryDirectory() as folder:
        history = Path(folder) / "history.jsonl"
        ppo = Contestant(PPO(kl_coef=workload.KL_COEF), None, history)
        vbon_l = Contestant(VBoNL(kl_coef=workload.KL_COEF), synthetic_cdf(), history)
        contestants: dict[str, Callable[[], Timing]] = {
            "vbon, PPO": lambda: ppo.round(arguments.iterations),
            "TRL 0.11.4, PPO": lambda: peer_round(worker, arguments.iterations),
            "vbon, vBoN-L": lambda: vbon_l.round(arguments.iterations),
        }
        rounds = alternate(arguments.rounds, contestants)
    worker.close()
    results = report(rounds, "episodes", "vbon, PPO", ["TRL 0.11.4, PPO"])
    lookup = print_split({n: each for n, each in rounds.timings.items() if n.startswith("vbon")})
    print(f"\nlog F lookup from {POOL} draws: {lookup:.3%} of a vBoN-L iteration (limit 1 %)")
    assert lookup < LOOKUP_LIMIT, "the lookup takes too long"
    if arguments.out:
        write_json(arguments.out, results | {"lookup_share": lookup})


if __name__ == "__main__":
    main()

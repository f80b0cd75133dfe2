"""Verbs that carry out and measure runs: ``train``, ``evaluate``."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from vbon.artifacts import read_provenance, read_table, write_table
from vbon.artifacts.fingerprint import content_hash, provenance
from vbon.cli.options import parser, settings
from vbon.errors import ArtifactError, VbonError
from vbon.plan import Run


def train(arguments: list[str]) -> None:
    """Carry out the runs of one job; those whose key is on disk already are left alone."""
    options = parser("train", train.__doc__)
    options.add_argument("--runs", type=settings, required=True, help="list of runs")
    options.add_argument("--total", type=int, default=0, help="runs of the sweep, for progress")
    args = options.parse_args(arguments)
    runs = [Run(**run) for run in args.runs]
    waiting = []
    for run in runs:
        if run.is_done():
            (Path(run.folder) / "run.json").touch()  # newer than its inputs, as is true
        else:
            waiting.append(run)
    if not waiting:
        return

    import torch  # only where there is work

    from vbon.training.runs import Inputs, carry_out, in_child

    torch.set_num_threads(1)
    shared: dict[str, Inputs] = {}
    failed = []
    for run in waiting:
        paths = run.inputs()
        # Runs with equal inputs and specs share what was loaded before the fork; their pairs are
        # small and read by each.
        common = {k: v for k, v in run.spec.items() if k in ("sampling", "rewards", "logf")}
        loaded = {name: path for name, path in paths.items() if name != "pairs"}
        inputs = shared.setdefault(f"{loaded} {common}", Inputs(loaded, dict(run.spec)))
        if len(loaded) > 1:
            _ = inputs.environment
        if "samples" in loaded:
            _ = inputs.samples
        started = time.time()
        try:
            in_child(carry_out, run.to_json() | {"inputs": paths}, run.instance, inputs, run.key())
        except (ChildProcessError, VbonError) as error:
            failed.append(f"{run.method} {run.setting} seed {run.seed}: {error}")
            continue
        _tell_progress(run, time.time() - started, args.total)
    if failed:
        raise ArtifactError(f"{len(failed)} of {len(runs)} runs failed: {'; '.join(failed)}")


def _tell_progress(run: Run, seconds: float, total: int) -> None:
    """One line on the terminal: runs done of all, time so far and time left."""
    runs = Path(run.root.partition("/studies/")[0])
    begun = float(os.environ.get("VBON_STARTED", time.time() - seconds))
    times = [path.stat().st_mtime for path in runs.glob("**/seed*/run.json")]
    done, fresh = len(times), sum(when >= begun for when in times)
    elapsed = time.time() - begun
    left = elapsed / max(fresh, 1) * max(total - done, 0)
    print(
        f"[{run.task}] {done}/{total} runs  {run.method} {run.setting} seed {run.seed}: "
        f"{seconds:.1f} s  elapsed {_clock(elapsed)}, about {_clock(left)} left",
        flush=True,
    )


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def evaluate(arguments: list[str]) -> None:
    """Sample and score what the runs of one job made, on the test prompts."""
    options = parser("evaluate", evaluate.__doc__)
    options.add_argument("--runs", type=settings, required=True, help="list of runs")
    options.add_argument("--settings", type=settings, required=True, help="{root: settings}")
    options.add_argument("--seed", type=int, required=True)
    args = options.parse_args(arguments)
    measures: dict[tuple[str, str], _Measure] = {}
    for run in (Run(**run) for run in args.runs):
        chosen = dict(args.settings[run.root])
        for split, temperature in chosen.pop("splits").items():
            _evaluate(run, split, {**chosen, "temperature": temperature}, args.seed, measures)


def _evaluate(
    run: Run,
    split: str,
    chosen: dict[str, Any],
    seed: int,
    measures: "dict[tuple[str, str], _Measure]",
) -> None:
    """Sample and score what one run made at one temperature, unless that is on disk already."""
    output = Path(run.folder) / "responses" / f"{split}.parquet"
    record = json.loads((Path(run.folder) / "run.json").read_text())
    inputs = run.evaluation_inputs(split)
    shared = {name: content_hash(path) for name, path in inputs.items()}
    made = provenance(
        {"seed": seed, "values": dict(run.values), "inputs": shared, **chosen},
        {"run": Path(run.folder) / "policy"} if record["policy"] == "policy" else {},
        ("vbon.evaluation.policy", "vbon.cli.runs"),
    )
    if output.exists() and _key(output) == made["key"]:
        output.touch()
        return
    if record["status"] != "ok":
        shutil.rmtree(output.parent, ignore_errors=True)
        return
    key = (run.root, split)
    if key not in measures:
        measures[key] = _Measure(inputs, chosen, seed)
    write_table(output, measures[key](run, record), "responses", made)
    print(f"[{run.task}] evaluated {run.method} {run.setting} seed {run.seed} {split}", flush=True)


def _key(path: Path) -> str | None:
    try:
        return read_provenance(path).get("key")
    except ArtifactError as error:
        print(error, file=sys.stderr)
        return None


class _Measure:
    """Loads the models once, then measures one run after the other."""

    def __init__(self, inputs: dict[str, str], chosen: dict[str, Any], seed: int) -> None:
        import torch

        from vbon.evaluation.policy import Evaluator
        from vbon.models.language_model import load_language_model, load_tokenizer
        from vbon.rewards import load_reward_model
        from vbon.training.runs import load_prompts

        torch.set_num_threads(1)
        self._inputs, self._chosen = inputs, chosen
        self._sample_seeds = chosen.get("sample_seeds") or [seed]
        size = chosen["batch_size"]
        self._evaluator = Evaluator(
            prompts=load_prompts(inputs["prompts"]),
            reference=load_language_model(inputs["reference"]),
            tokenizer=load_tokenizer(inputs["reference"]),
            reward_model=load_reward_model(inputs["reward_model"], size, chosen["transform"]),
            evaluator=load_reward_model(inputs["evaluator"], size),
            responses=chosen["responses"],
            max_new_tokens=chosen["max_new_tokens"],
            temperature=chosen["temperature"],
            seed=seed,
            rewards=chosen,
        )

    def __call__(self, run: Run, record: dict[str, Any]) -> pd.DataFrame:
        """Responses of one run by every sample seed, draws numbered through."""
        answer = self._sampled(run, record) if run.instance.trained else self._selected(run)
        parts = []
        for block, sample_seed in enumerate(self._sample_seeds):
            part = answer(block, sample_seed)
            part["draw"] += block * self._chosen["responses"]
            parts.append(part.assign(sample_seed=sample_seed))
        return pd.concat(parts, ignore_index=True)

    def _sampled(self, run: Run, record: dict[str, Any]) -> Callable[[int, int], pd.DataFrame]:
        """Responses of a policy by the number of a sample seed, and the seed."""
        from vbon.models.language_model import load_language_model

        folder = Path(run.folder) / "policy"
        path = folder if record["policy"] == "policy" else Path(self._inputs["reference"])
        policy = load_language_model(path)
        return lambda _, seed: replace(self._evaluator, seed=seed).evaluate(policy)

    def _selected(self, run: Run) -> Callable[[int, int], pd.DataFrame]:
        """Responses chosen among draws of the reference, others for each sample seed."""
        from vbon.evaluation.policy import select_responses

        pools = read_table(self._inputs["logf"], "logf").set_index("prompt_id")["rewards_sorted"]
        samples = read_table(self._inputs["samples"], "samples")
        rewards = read_table(self._inputs["rewards"], "rewards")
        scored = samples.merge(rewards, on=["prompt_id", "draw"], validate="one_to_one")
        first, size = self._chosen["test_draws"], self._chosen["fresh_draws"]
        blocks = (scored["draw"] - first) // size

        def answer(block: int, _: int) -> pd.DataFrame:
            fresh = scored[blocks == block]
            return select_responses(run.instance, fresh, pools, self._chosen["responses"])

        return answer

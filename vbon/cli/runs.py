"""Verbs that carry out and measure runs: ``train``, ``evaluate``."""

import os
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from vbon.artifacts import write_table
from vbon.artifacts.fingerprint import provenance
from vbon.artifacts.measured import start_clock
from vbon.artifacts.tables import atomic_path, check_table, read_record
from vbon.cli.options import parser, settings
from vbon.cli.progress import failure_of
from vbon.errors import ArtifactError, VbonError
from vbon.methods.registry import method_modules
from vbon.planning.runs import Run

_PACE = 8  # runs that the time left is told from


def train(arguments: list[str]) -> None:
    """Carry out the runs of one job; those whose key is on disk already are left alone."""
    options = parser("train", train.__doc__)
    options.add_argument("--runs", type=settings, required=True, help="list of runs")
    options.add_argument("--total", type=int, default=0, help="runs of the sweep, for progress")
    options.add_argument("--processes", type=int, default=1, help="to share each run, a GPU each")
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

    from vbon.training import parallel

    torch.set_num_threads(1)
    if parallel.is_launched():
        parallel.join()
    elif args.processes > 1:
        parallel.launch(args.processes, ["train", *arguments])
        return
    failed = _carry_out(waiting, args.total)
    main = parallel.is_main()
    parallel.leave()
    if failed and main:
        raise ArtifactError(f"{len(failed)} of {len(runs)} runs failed: {'; '.join(failed)}")


def _carry_out(waiting: list[Run], total: int) -> list[str]:
    """Carry out runs one after the other; say which failed and why."""
    from vbon.training import parallel
    from vbon.training.inputs import Inputs
    from vbon.training.runs import carry_out, in_child

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
        started, told = time.time(), None
        failure_of(run.folder).unlink(missing_ok=True)
        try:
            described, made = run.to_json() | {"inputs": paths}, run.provenance()
            in_child(carry_out, described, run.instance, inputs, made)
        except (ChildProcessError, VbonError) as error:
            told = f"{run.method} {run.setting} seed {run.seed}: {error}"
        # What the main process alone met, in writing, the others must know before they go on.
        told = next(filter(None, parallel.gathered(lambda told=told: told)), None)
        if told is not None:
            failed.append(told)
            _note_failure(run, told)
        elif parallel.is_main():
            _tell_progress(run, time.time() - started, total)
    return failed


def _note_failure(run: Run, told: str) -> None:
    """Leave word of a failed run where ``vbon watch`` looks, if the disk takes it."""
    with suppress(OSError), atomic_path(failure_of(run.folder)) as temporary:
        temporary.write_text(f"{told}\n")


def _tell_progress(run: Run, seconds: float, total: int) -> None:
    """One line on the terminal: runs done of all, time so far and time left."""
    runs = Path(run.root.partition("/studies/")[0])
    now = time.time()
    begun = float(os.environ.get("VBON_STARTED", now - seconds))
    # Unlike a glob, a walk does not mind folders that another job moves meanwhile.
    found = (Path(top, "run.json") for top, _, files in os.walk(runs) if "run.json" in files)
    times = []
    for path in (path for path in found if path.parent.name.startswith("seed")):
        with suppress(FileNotFoundError):
            times.append(path.stat().st_mtime)
    # The pace of the last runs: the first ones wait for models and draws, and some train nothing.
    latest = sorted(when for when in times if when >= begun)[-_PACE:]
    pace = (latest[-1] - latest[0]) / (len(latest) - 1) if len(latest) > 1 else seconds
    left = pace * max(total - len(times), 0)
    print(
        f"[{run.task}] {len(times)}/{total} runs  {run.method} {run.setting} seed {run.seed}: "
        f"{seconds:.1f} s  elapsed {_clock(now - begun)}, about {_clock(left)} left",
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
    measures: dict[tuple[str, str], Any] = {}
    for run in (Run(**run) for run in args.runs):
        chosen = dict(args.settings[run.root])
        for split, temperature in chosen.pop("splits").items():
            _evaluate(run, split, {**chosen, "temperature": temperature}, args.seed, measures)


def _evaluate(
    run: Run,
    split: str,
    chosen: dict[str, Any],
    seed: int,
    measures: dict[tuple[str, str], Any],
) -> None:
    """Sample and score what one run made at one temperature, unless that is on disk already."""
    start_clock()
    folder = Path(run.folder)
    output, record = folder / "responses" / f"{split}.parquet", read_record(folder / "run.json")
    inputs = run.evaluation_inputs(split)
    own = {"policy": str(folder / "policy")} if record["policy"] == "policy" else {}
    made = provenance(
        {"seed": seed, "values": dict(run.values), **chosen},
        {**inputs, **own},
        ("vbon.evaluation.policy", method_modules()[run.method]),
    )
    if output.exists() and _key(output) == made["key"]:
        output.touch()
        return
    if record["status"] != "ok":
        shutil.rmtree(output.parent, ignore_errors=True)
        return
    key = (run.root, split)
    if key not in measures:
        from vbon.evaluation.policy import Measure  # only where there is work

        measures[key] = Measure(inputs, chosen, seed)
    policy = own.get("policy", inputs["reference"])
    write_table(output, measures[key](run.instance, policy), "responses", made)
    print(f"[{run.task}] evaluated {run.method} {run.setting} seed {run.seed} {split}", flush=True)


def _key(path: Path) -> str | None:
    try:
        return check_table(path).get("key")
    except ArtifactError as error:
        print(error, file=sys.stderr)
        return None

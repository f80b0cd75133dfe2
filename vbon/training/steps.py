"""Steps that train: the informed start, and the runs of one job, each in a separate process."""

import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vbon.artifacts import read_table
from vbon.artifacts.fingerprint import MEASURED
from vbon.artifacts.measured import measured
from vbon.artifacts.steps import Input, Job, Model, Output, step
from vbon.artifacts.storage import atomic_folder
from vbon.artifacts.tables import atomic_path, write_record
from vbon.errors import ArtifactError, VbonError

if TYPE_CHECKING:  # it loads PyTorch, which signatures do not need
    from vbon.planning.runs import Run

FAILED = ".failed"
_LOADED = ("sampling", "rewards", "logf", "stored_draws")  # parts of a spec that inputs depend on
_PACE = 8  # runs whose times predict the time left


@step(needs_gpu=True)
def inform(
    samples: Input,
    rewards: Input,
    prompts: Input,
    reference: Model,
    drawing: dict[str, Any],
    informed: dict[str, Any],
    seed: int,
    card: Output,
    job: Job,
) -> None:
    """Train the informed start of policies: the reference with states that predict the reward."""
    import torch

    from vbon.models.end_tokens import end_token_ids
    from vbon.models.language_model import load_language_model, load_tokenizer
    from vbon.pool.table import load_prompts
    from vbon.training.informed import InformedSettings, InformedTrainer
    from vbon.training.stored import StoredDraws
    from vbon.training.trainer import Environment

    torch.set_num_threads(1)
    settings, tokenizer = InformedSettings(**informed), load_tokenizer(reference)
    model = load_language_model(reference).requires_grad_(False)
    columns = ["prompt_id", "draw", "response_ids", "log_prob"]
    table = read_table(samples, "samples", columns)
    scores = read_table(rewards, "rewards", ["prompt_id", "draw", "reward"])
    draws = min(settings.draws, table["draw"].nunique())
    texts = load_prompts(prompts)
    stored = StoredDraws.from_tables(table, scores, texts, draws, None)
    limits = end_token_ids(tokenizer, model), drawing["max_new_tokens"], drawing["temperature"]
    environment = Environment(texts, model, None, None, *limits, stored=stored)
    policy = load_language_model(reference)
    metrics = InformedTrainer(policy, environment, settings, seed).train()
    print(f"informed start: {draws} draws of {len(texts)} prompts, {metrics}")
    path = Path(card)
    path.unlink(missing_ok=True)
    with atomic_folder(path.parent) as folder:
        policy.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        record = {"metrics": metrics, **job.provenance(), MEASURED: measured()}
        write_record(folder / path.name, record)


@step(work="vbon.training.runs:carry_out", needs_gpu=True)
def train(runs: list, total: int = 0, processes: int = 1) -> None:
    """Carry out the runs of one job; those whose key is on disk are skipped.

    Args:
        runs: Runs as plain values.
        total: Runs of the task, for the progress that is printed.
        processes: Processes that share each run, one GPU each.
    """
    from vbon.planning.runs import Run

    group = [Run(**run) for run in runs]
    waiting = []
    for run in group:
        if run.is_done():
            (Path(run.folder) / "run.json").touch()  # newer than its inputs, since it is up to date
        else:
            waiting.append(run)
    if not waiting:
        return

    import torch  # only where there is work

    from vbon.training import parallel

    torch.set_num_threads(1)
    if parallel.is_launched():
        parallel.join()
    elif processes > 1:
        words = ["train", "--runs", json.dumps(runs), "--total", str(total)]
        parallel.launch(processes, [*words, "--processes", str(processes)])
        return
    failures = _carry_out(waiting, total)
    is_main = parallel.is_main()
    parallel.leave()
    if failures and is_main:
        raise ArtifactError(f"{len(failures)} of {len(group)} runs failed: {'; '.join(failures)}")


def _carry_out(waiting: Sequence["Run"], total: int) -> list[str]:
    """Carry out runs one after the other; return messages of the failures."""
    from vbon.training import parallel
    from vbon.training.inputs import Inputs
    from vbon.training.runs import carry_out, in_child

    loaded: dict[str, Inputs] = {}
    failures = []
    for run in waiting:
        paths = run.inputs()
        # Runs with equal inputs and settings share what was loaded before the fork, except their
        # pairs, which are small.
        shared = {name: path for name, path in paths.items() if name != "pairs"}
        settings = {k: v for k, v in run.spec.items() if k in _LOADED}
        inputs = loaded.setdefault(f"{shared} {settings}", Inputs(shared, dict(run.spec)))
        if len(shared) > 1:
            _ = inputs.environment
        if "samples" in shared:
            _ = inputs.samples
        started, failure = time.time(), None
        failure_of(run.folder).unlink(missing_ok=True)
        try:
            in_child(
                carry_out, run.to_json() | {"inputs": paths}, run.instance, inputs, run.provenance()
            )
        except (ChildProcessError, VbonError) as error:
            failure = f"{run.method} {run.setting} seed {run.seed}: {error}"
        # Only the main process writes: share its failure with the others.
        failure = next(filter(None, parallel.gathered(lambda failure=failure: failure)), None)
        if failure is not None:
            failures.append(failure)
            with suppress(OSError), atomic_path(failure_of(run.folder)) as temporary:
                temporary.write_text(f"{failure}\n")
        elif parallel.is_main():
            _print_progress(run, time.time() - started, total)
    return failures


def failure_of(folder: str | Path) -> Path:
    """The file with the reason why a run failed; it exists only if the run failed.

    Example:
        >>> failure_of("results/sentiment/runs/ppo/beta0.1/seed0").name
        'seed0.failed'
    """
    return Path(f"{folder}{FAILED}")


def _print_progress(run: "Run", seconds: float, total: int) -> None:
    """Print one line: runs done of all, time so far and time left."""
    runs, now = Path(run.root.partition("/studies/")[0]), time.time()
    begun = float(os.environ.get("VBON_STARTED", now - seconds))
    # Unlike a glob, a walk tolerates folders that another job moves meanwhile.
    records = (Path(top, "run.json") for top, _, files in os.walk(runs) if "run.json" in files)
    times = []
    for path in (path for path in records if path.parent.name.startswith("seed")):
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

"""Steps that measure runs: responses to the test prompts, and the points made of them."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from vbon.artifacts import write_table
from vbon.artifacts.fingerprint import digest, provenance
from vbon.artifacts.measured import start_clock
from vbon.artifacts.steps import Input, Inputs, Job, Named, Output, Runs, step
from vbon.artifacts.tables import check_table, read_record, rebuilding, write_both
from vbon.errors import ArtifactError
from vbon.methods.registry import method_modules

MEASURE = "vbon.evaluation.policy:Measure"


@step(work=MEASURE, needs_gpu=True)
def evaluate(runs: list, measuring: dict[str, Any], seed: int) -> None:
    """Sample and score responses of the runs of one job to the test prompts.

    Args:
        runs: Runs as plain values.
        measuring: Settings by the root of a run; ``splits`` gives each set of responses its
            temperature.
        seed: Base seed.
    """
    from vbon.planning.runs import Run

    loaded: dict[tuple[str, str], Any] = {}
    for run in (Run(**run) for run in runs):
        settings = dict(measuring[run.root])
        for split, temperature in settings.pop("splits").items():
            _measure(run, split, {**settings, "temperature": temperature}, seed, loaded)


def _measure(
    run: Any, split: str, settings: dict[str, Any], seed: int, loaded: dict[tuple[str, str], Any]
) -> None:
    """Sample and score responses of one run at one temperature, unless they are on disk."""
    start_clock()
    folder = Path(run.folder)
    output, record = folder / "responses" / f"{split}.parquet", read_record(folder / "run.json")
    inputs = run.evaluation_inputs(split)
    policy = {"policy": str(folder / "policy")} if record["policy"] == "policy" else {}
    card = provenance(
        {"seed": seed, "values": dict(run.values), **settings},
        {**inputs, **policy},
        (MEASURE, method_modules()[run.method]),
    )
    if output.exists() and _key(output) == card["key"]:
        output.touch()
        return
    if record["status"] != "ok":
        shutil.rmtree(output.parent, ignore_errors=True)
        return
    key = (run.root, split)
    if key not in loaded:
        from vbon.evaluation.policy import Measure  # only where there is work

        loaded[key] = Measure(inputs, settings, seed)
    responses = loaded[key](run.instance, policy.get("policy", inputs["reference"]))
    write_table(output, responses, "responses", card)
    print(f"[{run.task}] evaluated {run.method} {run.setting} seed {run.seed} {split}", flush=True)


def _key(path: Path) -> str | None:
    try:
        return check_table(path).get("key")
    except ArtifactError as error:
        print(error, file=sys.stderr)
        return None


@step(is_light=True)
def aggregate(
    runs: Runs, specs: list[str], samples: Input, prompts: Input, rewards: Named, seconds: Inputs,
    measuring: dict[str, Any], points: Output, costs: Output, job: Job,
) -> None:  # fmt: skip
    """Gather the points and costs of all runs of a task or study."""
    from vbon.evaluation.points import Measurement, cost_of, points_of

    measurement = Measurement.load(samples, prompts, rewards, seconds, measuring)
    rows: dict[str, list[dict[str, Any]]] = {"points": [], "costs": []}
    for folder, spec in zip(runs, specs, strict=True):
        record = _record_of(folder, spec)
        rows["points"] += points_of(record, Path(folder) / "responses", measurement)
        rows["costs"].append(cost_of(record, measurement))
    # A run that diverged has no responses.
    folders = [path for path in (Path(run, "responses") for run in runs) if path.exists()]
    responses = {f"{'/'.join(path.parts[-4:-1])} responses": str(path) for path in folders}
    record = job.provenance(specs=None, seconds=None, rewards={**rewards, **responses})
    for path, schema in ((points, "points"), (costs, "costs")):
        write_both(path, pd.DataFrame(rows[schema]), schema, record)


def _record_of(folder: str, spec: str) -> Mapping[str, Any]:
    """The record of a run, which must be the run that the configuration asks for."""
    record = read_record(f"{folder}/run.json")
    if digest(record["spec"]) != spec:
        raise ArtifactError(
            f"{folder}/run.json: its spec is not the one that the config gives this run; see "
            f"`vbon describe {folder}`, then train it as configured: {rebuilding()}"
        )
    return record

"""Phases of the benchmark as DVC records them: what each depends on, and the files it makes.

DVC compares files. `vbon plan --output` writes one per phase, so that a stage of dvc.yaml reruns
exactly when its rules would: comments and the settings of other methods do not count.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vbon.artifacts.fingerprint import code_fingerprint, content_hash
from vbon.artifacts.steps import steps
from vbon.artifacts.tables import write_json
from vbon.errors import VbonError
from vbon.methods.registry import method_modules
from vbon.planning import snakemake9
from vbon.planning.config import tasks_of
from vbon.planning.drawing import Drawing
from vbon.planning.inputs import content, inputs_of
from vbon.planning.runs import Root, Run, expand, language_of, pair_files, roots
from vbon.planning.workflow import SPLITS, Plan
from vbon.tasks.base import ROLES

STAGES: dict[str, tuple[str, ...]] = {
    "tasks": ("tasks", "pool"),
    "pool": ("tasks", "pool"),
    "training": ("training", "evaluation"),
    "studies": ("training", "evaluation"),
    "analysis": ("training", "evaluation", "analysis", "figures"),
    "figures": ("figures", "report"),
}
"""Folders of the package whose steps, and files of rules of the same name, a stage depends on.

A language is written with its pool, by one rule. Evaluation writes into the folders of runs, which
DVC gives to one stage."""


def phase_specs(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Everything except artifacts that each phase of each task depends on, by the file's name.

    Args:
        config: A resolved configuration.

    Returns:
        ``{task}/{stage}.json``; those of training are ``{task}/training-{method}.json``, one per
        existing method, without runs where the task does not run it.
    """
    runs = expand(config)
    specs: dict[str, dict[str, Any]] = {}
    for task, kind in tasks_of(config).items():
        runs_of_task = [run for run in runs if run.task == task]
        for name, spec in _specs_of(config, roots(config, task), runs_of_task).items():
            stage, _, method = name.partition("-")
            used = [step for step in steps().values() if step.phase in STAGES[stage]]
            code = [root for step in used for root in step.roots(task=kind)]
            rules = [f"workflow/rules/{file}.smk" for file in ("common", "targets", *STAGES[stage])]
            specs[f"{task}/{name}.json"] = {
                "seed": config["seed"],
                "code": code_fingerprint(*code, *_method_modules(stage, method, runs_of_task)),
                "rules": list(map(content_hash, rules)),
                **spec,
            }
    return specs


def write_phases(config: Mapping[str, Any], folder: str) -> None:
    """Write the files of :func:`phase_specs`, and delete those of phases that are gone."""
    specs = phase_specs(config)
    for path in {*Path(folder).glob("*/*.json")} - {Path(folder, name) for name in specs}:
        path.unlink()
    for name, spec in specs.items():
        write_json(Path(folder) / name, spec)


def _specs_of(
    config: Mapping[str, Any], sources: list[Root], runs: list[Run]
) -> dict[str, dict[str, Any]]:
    """Settings and runs of each phase of one task."""
    section = sources[0].section
    shared: dict[str, Any] = {}
    for root in sources:
        shared.setdefault(root.shared, language_of(root.section))
    measuring = {name: section[name] for name in ("evaluation", "rewards", "sampling")}
    results = {"section": section, "figures": config["figures"]}
    results["runs"] = [run.to_json() for run in runs]
    inputs = content(inputs_of(section))
    specs = {
        "tasks": {"sections": shared, **({"inputs": inputs} if inputs else {})},
        "pool": {
            "sections": shared,
            "evaluation": section["evaluation"],
            "pairs": pair_files(runs),
            "files": sorted({path for run in runs for path in run.inputs().values()}),
        },
        "studies": {
            "runs": [run.to_json() for run in runs if run.study],
            "sections": {root.path: root.section for root in sources[1:]},
        },
        "analysis": results,
        "figures": results,
    }
    for method in method_modules():
        group = [run.to_json() for run in runs if run.method == method and not run.study]
        specs[f"training-{method}"] = {"runs": group, **(measuring if group else {})}
    return specs


def _method_modules(stage: str, method: str, runs: list[Run]) -> list[str | Path]:
    """Files of the methods that a stage runs."""
    files = method_modules()
    if method:
        return [files[method]]
    used = {run.method for run in runs if run.study} if stage == "studies" else set()
    return [files[name] for name in sorted(used)]


def targets(plan: Plan, drawing: Drawing) -> dict[str, tuple[list[str], str]]:
    """Files of each phase of each task, and the folder that it makes, by the target's name."""
    phases = {}
    for task in plan.tasks:
        runs, folder = [run for run in plan.runs if run.task == task], plan.folder(task)
        studies = [run for run in runs if run.study]
        points = [
            f"{root.folder}/points.parquet"
            for name, root in plan.roots.items()
            if root.task == task and root.study and plan.runs_of(name)
        ]
        phases |= {
            f"tasks_{task}": (_data(plan, task), f"{folder}/data"),
            f"pool_{task}": (_pool(plan, task), f"{folder}/reference"),
            f"studies_{task}": ([*_measured(plan, studies), *points], f"{folder}/studies"),
            f"analysis_{task}": (drawing.comparisons(task), f"{folder}/evaluated"),
        }
        for method in method_modules():
            group = [run for run in runs if run.method == method and not run.study]
            target = (_measured(plan, group), f"{folder}/runs/{method}")
            phases[f"training_{task}_{method}"] = target
    return phases


def _measured(plan: Plan, runs: list[Run]) -> list[str]:
    return [*plan.records(runs), *plan.marks(runs)]


def _data(plan: Plan, task: str) -> list[str]:
    """Texts or strings, models and prompts."""
    names = [f"models/{role}/card.json" for role in ROLES]
    names += [f"prompts/{split}.parquet" for split in SPLITS]
    names.append("data/texts.parquet" if task in plan.text_tasks else "data/strings.parquet")
    return [f"{plan.folder(task)}/{name}" for name in names]


def _pool(plan: Plan, task: str) -> list[str]:
    """Everything below the ``reference`` folders that some run or table reads."""
    runs = [run for run in plan.runs if run.task == task]
    paths = [*plan.evaluation_inputs(runs), *(p for run in runs for p in run.inputs().values())]
    files = {path for path in paths if "/reference/" in path and path.endswith(".parquet")}
    folder = f"{plan.folder(task)}/reference"
    return sorted({*files, f"{folder}/samples/train.parquet", f"{folder}/rewards/train.parquet"})


def check_recording(plan: Plan) -> None:
    """Refuse to run for DVC where it would record wrong results.

    Raises:
        VbonError: If runs may be missing, or results were made in another folder.
    """
    if "DVC_STAGE" not in os.environ:
        return
    if plan.is_partial:
        raise VbonError(
            "partial: true is not accepted here, since results of all runs are recorded; set "
            "partial: false"
        )
    for task in plan.tasks if os.path.exists("dvc.lock") else []:
        path = f"{plan.folder(task)}/points.parquet"
        if os.path.exists(path) and not snakemake9.has_record(path):
            # A stage would be recorded as made by today's code, whatever made it.
            raise VbonError(
                f"{path} was not made in this folder, so that changes of code or config would "
                "not be seen; run `make restore` first (with the config and code of dvc.lock: "
                "put yours aside with `git stash`)"
            )

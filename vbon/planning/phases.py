"""What each phase of the benchmark depends on beside artifacts: settings, runs and code.

DVC compares files. `vbon plan --output` writes one a phase, so that a stage of dvc.yaml is started
again when something changes that its rules would see, and only then: comments and the settings of
other methods do not count.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vbon.artifacts.fingerprint import code_fingerprint, content_hash
from vbon.artifacts.tables import write_json
from vbon.methods.registry import method_modules
from vbon.planning.runs import TRAIN_MODULES, Root, Run, expand, pair_files, roots

_TRAINING = (
    "online",
    "offline",
    "budgets",
    "evaluation",
    "seeds",
    "run_methods",
    "methods",
    "studies",
)
MODULES: dict[str, tuple[str, ...]] = {
    "data": (
        "vbon.tasks.reviews",
        "vbon.tasks.posts",
        "vbon.tasks.prompts",
        "vbon.tasks.enumerable",
        "vbon.models.build",
        "vbon.sampling",
        "vbon.rewards",
        "vbon.pool.logf",
        "vbon.objectives.oracle",
    ),
    "pool": (
        "vbon.sampling.backends",
        "vbon.rewards",
        "vbon.pool.logf",
        "vbon.pool.pairs",
        "vbon.pool.shared",
        "vbon.pool.features",
    ),
    "sweep": (*TRAIN_MODULES, "vbon.evaluation.policy"),
    "studies": (*TRAIN_MODULES, "vbon.evaluation.policy", "vbon.evaluation.points"),
    "tables": (
        "vbon.analysis.claims",
        "vbon.analysis.convergence",
        "vbon.analysis.equivalence",
        "vbon.analysis.estimators",
        "vbon.analysis.optimum",
        "vbon.analysis.inference",
        "vbon.evaluation.policy",
        "vbon.evaluation.points",
        "vbon.analysis.excerpts",
        "vbon.analysis.headline",
        "vbon.analysis.draws",
        "vbon.artifacts.markdown",
        "vbon.analysis.attainment",
        "vbon.analysis.orderings",
        "vbon.analysis.pareto",
        "vbon.rewards",
        "vbon.analysis.temperatures",
        "vbon.analysis.excerpts",
        "vbon.tasks.lead",
        "vbon.pool.features",
        "vbon.tasks.bounds",
    ),
    "figures": ("vbon.figures.catalogue", "vbon.report.page"),
}
"""Modules of each phase; they cover what the phase's rules give to ``code()``."""

RULES = {
    "data": ("data", "enumerable"),
    "pool": ("pool", "enumerable"),
    "sweep": ("runs",),
    "studies": ("runs", "tables"),
    "tables": ("data", "enumerable", "tables", "summaries", "excerpts", "figures"),
    "figures": ("figures", "report"),
}
"""Files of each phase's rules."""


def language_of(section: Mapping[str, Any]) -> dict[str, Any]:
    """What shapes a task's data and pool; training settings do not."""
    return {name: value for name, value in section.items() if name not in _TRAINING}


def phase_specs(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What each phase of each task depends on, by the name of its file below the plan's folder.

    Args:
        config: A resolved configuration.

    Returns:
        ``{task}/{phase}.json``; the sweep's are ``{task}/sweep-{method}.json``, one for each
        method there is, without runs where the task does not run it.
    """
    runs = expand(config)
    specs: dict[str, dict[str, Any]] = {}
    for task in config["tasks"]:
        own = [run for run in runs if run.task == task]
        made = _specs_of(config, roots(config, task), own)
        for phase, spec in made.items():
            kind, _, method = phase.partition("-")
            modules = [*MODULES[kind], *_method_modules(kind, method, own)]
            specs[f"{task}/{phase}.json"] = {
                "seed": config["seed"],
                "code": code_fingerprint(*modules),
                "rules": [_rules(name) for name in ("common", "targets", *RULES[kind])],
                **spec,
            }
    return specs


def _rules(name: str) -> str:
    """Hash of a file of rules, which a checkout has in its root."""
    return content_hash(f"workflow/rules/{name}.smk")


def write_phases(config: Mapping[str, Any], folder: str) -> None:
    """Write the files of :func:`phase_specs`, and take away those of what there is no longer."""
    specs = phase_specs(config)
    for path in Path(folder).glob("*/*.json"):
        if str(path.relative_to(folder)) not in specs:
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
    specs = {
        "data": {"sections": shared},
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
        "tables": {"runs": [run.to_json() for run in runs], "section": section},
        "figures": {"runs": [run.to_json() for run in runs], "section": section},
    }
    for kind in ("tables", "figures"):
        specs[kind]["figures"] = config["figures"]
    for method in method_modules():
        asked = [run.to_json() for run in runs if run.method == method and not run.study]
        specs[f"sweep-{method}"] = {"runs": asked, **(measuring if asked else {})}
    return specs


def _method_modules(kind: str, method: str, runs: list[Run]) -> list[str | Path]:
    """Files of the methods that a phase runs."""
    known = method_modules()
    if method:
        return [known[method]]
    used = {run.method for run in runs if run.study} if kind == "studies" else set()
    return [known[name] for name in sorted(used)]

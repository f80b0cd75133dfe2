"""Verbs that tell what would happen: ``plan``, ``check-config``, ``methods``, ``tasks``."""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

import yaml

from vbon.cli.options import parser
from vbon.cli.outdated import outdated_files
from vbon.methods.registry import get_method, method_modules
from vbon.planning.config import load, uninstalled
from vbon.planning.cost import Hardware, described, estimate, shape_of
from vbon.planning.hub import is_hub_id, unpinned
from vbon.planning.phases import write_phases
from vbon.planning.runs import Run, advice, expand, file_of
from vbon.tasks.base import ROLES
from vbon.tasks.registry import KINDS


def _options(verb: str, summary: str | None) -> argparse.ArgumentParser:
    options = parser(verb, summary or "")
    options.add_argument("config", nargs="*", default=[], help="overlays on config.yaml")
    options.add_argument("--configfile", nargs="+", default=[], help="the same, as in Snakemake")
    return options


def _load(args: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """The configuration that a verb's arguments name, and the overlays in it."""
    overlays = [*args.config, *args.configfile]
    return load(["config.yaml", *overlays]), overlays


def _advise(lines: list[str]) -> None:
    for line in lines:
        print(f"warning: {line}", file=sys.stderr)


def _counted(task: str, runs: list[Run]) -> str:
    """How many runs are of the sweep itself: trained methods, whatever their n."""
    own = [run for run in runs if run.task == task]
    sweep = sum(run.instance.trained and not run.study for run in own)
    chosen = sum(not run.instance.trained and not run.study for run in own)
    studies = len(own) - sweep - chosen
    return f"{task}: {sweep} runs of the sweep, {chosen} of selection alone, {studies} of studies"


def plan(arguments: list[str]) -> None:
    """List the runs a configuration asks for; the last line counts those still to be trained.

    A run is to be trained also where something that it reads will be made anew. A run of a study
    has the study's name behind the task's.
    """
    options = _options("plan", plan.__doc__)
    options.add_argument("--output", help="only write what each phase depends on, to this folder")
    args = options.parse_args(arguments)
    config, overlays = _load(args)
    runs = expand(config)
    _advise(advice(runs))
    if args.output:
        write_phases(config, args.output)
        return
    on_disk = [run.is_done() for run in runs]
    outdated = outdated_files(overlays) if any(on_disk) else set()
    todo = 0
    for run, found in zip(runs, on_disk, strict=True):
        trained = run.instance.trained and not run.instance.is_reference
        done = found and outdated.isdisjoint(map(file_of, run.inputs().values()))
        todo += trained and not done
        state = "done" if done else ("to train" if trained else "to make")
        where = f"{run.task}/{run.study}" if run.study else run.task
        print(f"{where} {run.method} {run.setting} seed{run.seed} {state}")
    for task in config["tasks"]:
        print(_counted(task, runs))
    print(f"{len(runs)} runs, to train: {todo}")


def check_config(arguments: list[str]) -> None:
    """Check a configuration, print it with all defaults filled in, and estimate its cost."""
    options, usual = _options("check-config", check_config.__doc__), Hardware()
    options.add_argument(
        "--tflops", type=float, default=usual.tflops, help="1e12 operations a second of a device"
    )
    options.add_argument(
        "--bandwidth", type=float, default=usual.bandwidth, help="1e12 bytes a second of a device"
    )
    args = options.parse_args(arguments)
    config, _ = _load(args)
    runs = expand(config)
    _advise(advice(runs) + unpinned(config) + uninstalled(config))
    print(yaml.safe_dump(config, sort_keys=False, default_flow_style=None, width=100), end="")
    for task in config["tasks"]:
        print(f"# {_counted(task, runs)}")
        if "reference" in config[task]:
            own = [run for run in runs if run.task == task]
            for line in _cost(task, config[task], own, Hardware(args.tflops, args.bandwidth)):
                print(f"# {line}")
    print(f"# {len(runs)} runs")


def _cost(task: str, section: Mapping[str, Any], runs: list[Run], hardware: Hardware) -> list[str]:
    """What a task costs in words, or why that cannot be told."""
    shapes = {role: shape_of(section, role, role == "reference") for role in ROLES}
    unknown = [role for role in ROLES if shapes[role] is None]
    for role in (role for role in unknown if section[role].get("callable") is None):
        return [
            f"{task}: no estimate, since {section[role]['id']} is not at hand; describe it by "
            f"{task}.{role}.size"
        ]
    hubs = [role for role in ROLES if is_hub_id(section[role]["id"])]
    return described(task, estimate(section, runs, shapes, hubs), hardware)


def methods(arguments: list[str]) -> None:
    """List every method with its paper, its settings and what it needs."""
    parser("methods", methods.__doc__ or "").parse_args(arguments)
    for name in sorted(method_modules()):
        method = get_method(name)
        known = [field for field in fields(method) if field.init]
        shown = [f.name + ("" if f.default is MISSING else f"={f.default}") for f in known]
        print(f"{name}: {' '.join((method.__doc__ or '').split())}")
        print(f"    paper: {method.paper}")
        print(f"    settings: {', '.join(shown) or 'none'}")
        print(f"    needs: {', '.join(method.needs) or 'models, prompts and draws alone'}")


def tasks(arguments: list[str]) -> None:
    """List the kinds of task that a section of the configuration can be of."""
    parser("tasks", tasks.__doc__ or "").parse_args(arguments)
    for name in KINDS.files():
        kind = KINDS.get(name)
        print(f"{name}: {' '.join((kind.__doc__ or '').split())}")
        print(f"    figures: {', '.join(kind.figures) or 'none'}")
        print(f"    tables: {', '.join(kind.tables)}")
        print(f"    claims: {', '.join(kind.claims) or 'none'}")

"""Verbs that print runs, settings and kinds: ``plan``, ``check-config``, ``methods``, ``tasks``."""

import csv
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import yaml

from vbon.cli.options import config_parser, parser
from vbon.methods.registry import get_method, method_modules
from vbon.planning.config import load, uninstalled
from vbon.planning.cost import Hardware, described, estimate, shape_of
from vbon.planning.hub import check_gguf, is_hub_id, unpinned
from vbon.planning.inputs import check_inputs
from vbon.planning.phases import write_phases
from vbon.planning.room import beginnings, check_room
from vbon.planning.runs import Run, advice, expand, file_of
from vbon.tasks.base import ROLES
from vbon.tasks.registry import KINDS

_CHANGED = ("params changed", "rule implementation changed", "set of input files changed")


def _advise(lines: list[str]) -> None:
    for line in lines:
        print(f"warning: {line}", file=sys.stderr)


def _counted(task: str, runs: list[Run]) -> str:
    """Counts of a task's runs; those of trained methods are of the sweep, whatever their n."""
    runs = [run for run in runs if run.task == task]
    sweep = sum(run.instance.trained and not run.study for run in runs)
    studies = sum(run.study != "" for run in runs)
    rest = len(runs) - sweep - studies
    return f"{task}: {sweep} runs of the sweep, {rest} of selection alone, {studies} of studies"


def plan(arguments: list[str]) -> None:
    """List the runs that a configuration requests; the last line counts those still to be trained.

    A run is also to be trained if an input of it will be made again. The name of a study follows
    that of its task.
    """
    options = config_parser("plan", plan.__doc__)
    options.add_argument("--output", help="only write what each phase depends on, to this folder")
    args = options.parse_args(arguments)
    overlays = [*args.config, *args.configfile]
    config = load(["config.yaml", *overlays])
    check_inputs(config)
    runs = expand(config)
    _advise(advice(runs) + check_room(config))
    if args.output:
        write_phases(config, args.output)
        return
    on_disk = [run.is_done() for run in runs]
    outdated = _outdated_files(overlays) if any(on_disk) else set()
    todo = 0
    for run, exists in zip(runs, on_disk, strict=True):
        trained = run.instance.trained and not run.instance.is_reference
        done = exists and outdated.isdisjoint(map(file_of, run.inputs().values()))
        todo += trained and not done
        state = "done" if done else ("to train" if trained else "to make")
        where = f"{run.task}/{run.study}" if run.study else run.task
        print(f"{where} {run.method} {run.setting} seed{run.seed} {state}")
    for task in config["tasks"]:
        print(_counted(task, runs))
    print(f"{len(runs)} runs, to train: {todo}")


def _outdated_files(overlays: list[str]) -> set[str]:
    """Results that a changed setting or code makes obsolete, and all that depends on them.

    Times of files do not count: a checkout or a copy changes them and no result. There are none if
    this folder has no workflow, or it cannot be parsed (with a warning).
    """
    if not Path("Snakefile").exists():
        return set()
    options = ["--configfile", *overlays] if overlays else []
    command = [sys.executable, "-m", "snakemake", "--detailed-summary", "--cores", "1", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        _advise([f"Snakemake cannot list outdated files ({reason}); those on disk are counted"])
        return set()
    rows = list(csv.DictReader(done.stdout.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))
    readers: dict[str, list[str]] = {}  # by the inputs that were recorded
    for row in rows:
        for source in row["input-file(s)"].split(","):
            readers.setdefault(source, []).append(row["output_file"])
    outdated: set[str] = set()
    queue = [row["output_file"] for row in rows if row["status"] in _CHANGED]
    while queue:
        if (path := queue.pop()) not in outdated:
            outdated.add(path)
            queue += readers.get(path, [])
    return outdated


def check_config(arguments: list[str]) -> None:
    """Check a configuration, print it with all defaults filled in, and estimate its cost."""
    options = config_parser("check-config", check_config.__doc__)
    for field, unit in {"tflops": "operations", "bandwidth": "bytes"}.items():
        usual, text = getattr(Hardware(), field), f"1e12 {unit} per second of a device"
        options.add_argument(f"--{field}", type=float, default=usual, help=text)
    args = options.parse_args(arguments)
    config = load(["config.yaml", *args.config, *args.configfile])
    check_inputs(config)
    check_gguf(config)
    cut, runs = check_room(config), expand(config)
    first = {task: beginnings(task, config[task]) for task in config["tasks"]}
    cautions = [line for _, lines in first.values() for line in lines]
    _advise(advice(runs) + unpinned(config) + uninstalled(config) + cut + cautions)
    print(yaml.safe_dump(config, sort_keys=False, default_flow_style=None, width=100), end="")
    for task in config["tasks"]:
        print(f"# {_counted(task, runs)}")
        if "reference" in config[task]:
            of_task = [run for run in runs if run.task == task]
            for line in _cost(task, config[task], of_task, Hardware(args.tflops, args.bandwidth)):
                print(f"# {line}")
            for line in first[task][0]:
                print(f"# {line}")
    print(f"# {len(runs)} runs")


def _cost(task: str, section: Mapping[str, Any], runs: list[Run], hardware: Hardware) -> list[str]:
    """Cost of a task in words, or why there is no estimate."""
    shapes = {role: shape_of(section, role, role == "reference") for role in ROLES}
    for role in ROLES:
        if shapes[role] is None and section[role].get("callable") is None:
            name, key = section[role]["id"], f"{task}.{role}.size"
            return [f"{task}: no estimate, since {name} is not at hand; describe it by {key}"]
    hubs = [role for role in ROLES if is_hub_id(section[role]["id"])]
    return described(task, estimate(section, runs, shapes, hubs), hardware)


def methods(arguments: list[str]) -> None:
    """List every method with its paper, its settings and what it needs."""
    parser("methods", methods.__doc__).parse_args(arguments)
    for name in sorted(method_modules()):
        method = get_method(name)
        settings = [field for field in fields(method) if field.init]
        shown = [f.name + ("" if f.default is MISSING else f"={f.default}") for f in settings]
        print(f"{name}: {' '.join((method.__doc__ or '').split())}")
        print(f"    paper: {method.paper}")
        print(f"    settings: {', '.join(shown) or 'none'}")
        print(f"    needs: {', '.join(method.needs) or 'models, prompts and draws alone'}")


def tasks(arguments: list[str]) -> None:
    """List the kinds of task that a section of the configuration can be of."""
    parser("tasks", tasks.__doc__).parse_args(arguments)
    for name in KINDS.files():
        kind = KINDS.get(name)
        print(f"{name}: {' '.join((kind.__doc__ or '').split())}")
        print(f"    figures: {', '.join(kind.figures) or 'none'}")
        print(f"    tables: {', '.join(kind.tables)}")
        print(f"    claims: {', '.join(kind.claims) or 'none'}")

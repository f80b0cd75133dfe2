"""Verbs that tell what would happen: ``plan``, ``check-config``, ``methods``, ``tasks``."""

import argparse
import sys
from dataclasses import MISSING, fields

import yaml

from vbon.cli.options import parser
from vbon.cli.outdated import outdated_files
from vbon.config import load, schema
from vbon.phases import write_phases
from vbon.plan import Run, advice, expand, file_of
from vbon.registry import get_method, method_modules


def _options(verb: str, summary: str | None) -> argparse.ArgumentParser:
    options = parser(verb, summary or "")
    options.add_argument("config", nargs="*", default=[], help="overlays on config.yaml")
    options.add_argument("--configfile", nargs="+", default=[], help="the same, as in Snakemake")
    return options


def _load(args: argparse.Namespace) -> tuple[dict, list[str]]:
    """The configuration that a verb's arguments name, and the overlays in it."""
    overlays = [*args.config, *args.configfile]
    return load(["config.yaml", *overlays]), overlays


def _advise(runs: list[Run]) -> None:
    for line in advice(runs):
        print(f"warning: {line}", file=sys.stderr)


def plan(arguments: list[str]) -> None:
    """List the runs a configuration asks for; the last line counts those still to be trained.

    A run is to be trained also where something that it reads will be made anew.
    """
    options = _options("plan", plan.__doc__)
    options.add_argument("--output", help="only write what each phase depends on, to this folder")
    args = options.parse_args(arguments)
    config, overlays = _load(args)
    runs = expand(config)
    _advise(runs)
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
        print(f"{run.task} {run.method} {run.setting} seed{run.seed} {state}")
    print(f"{len(runs)} runs, to train: {todo}")


def check_config(arguments: list[str]) -> None:
    """Check a configuration, expand its grids, and print it with all defaults filled in."""
    config, _ = _load(_options("check-config", check_config.__doc__).parse_args(arguments))
    runs = expand(config)
    _advise(runs)
    print(yaml.safe_dump(config, sort_keys=False, default_flow_style=None, width=100), end="")
    print(f"# {len(runs)} runs")


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
        print(f"    needs: {', '.join(method.needs) or 'nothing beyond models and prompts'}")


def tasks(arguments: list[str]) -> None:
    """List the tasks that a config can name."""
    parser("tasks", tasks.__doc__ or "").parse_args(arguments)
    for name in schema()["properties"]["tasks"]["items"]["enum"]:
        print(f"{name}: {schema()['properties'][name]['description']}")

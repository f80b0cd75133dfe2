"""The ``vbon`` command: a verb per step of the workflow, and verbs for people.

A verb is imported when it is called, so that steps that read tables load neither torch nor
transformers.
"""

import gc
import importlib
import locale
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import vbon
from vbon.errors import VbonError

VERBS = {
    "workflow": ("vbon.cli.workflow", "run Snakemake alone in this folder, resuming if need be"),
    "plan": ("vbon.cli.inspect", "list the runs a config requests and count those to train"),
    "check-config": ("vbon.cli.inspect", "check a configuration and print it completed"),
    "methods": ("vbon.cli.inspect", "list the methods with papers and settings"),
    "tasks": ("vbon.cli.inspect", "list the kinds of task"),
    "watch": ("vbon.cli.watch", "show the progress of a sweep: runs, time left, points so far"),
    "describe": ("vbon.cli.describe", "print the provenance of an artifact"),
    "compare": ("vbon.cli.compare", "compare two results folders"),
    "verdicts": ("vbon.cli.compare", "list the claims of two results folders side by side"),
    "prefetch": ("vbon.cli.prefetch", "fetch models and datasets from the hub, once"),
    "restore": ("vbon.cli.workflow", "after `dvc pull`: mark its files as made by Snakemake"),
}
"""Verbs for people, with their modules. Every other verb is a step of the workflow."""

_ONLINE = ("prefetch", "workflow")
"""Verbs that may use the hub, or call one that may; for all others it is switched off."""


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; errors meant for people are printed as one line, with exit code 1."""
    if arguments is None:
        _use_utf8()
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help"):
        with suppress(BrokenPipeError):
            _print_usage()
        return 0
    if words[0] == "--version":
        print(vbon.__version__)
        return 0
    if (message := _other_code()) is not None:
        print(f"vbon {words[0]}: {message}", file=sys.stderr)
        return 1
    if words[0] not in _ONLINE:
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
            os.environ.setdefault(name, "1")  # the libraries read it when they are imported
    # Importing the libraries makes a million objects; collecting garbage among them takes a tenth
    # of the start.
    gc.set_threshold(100_000, 20, 100)
    try:
        run = _verb(words[0])
        if run is None:
            from vbon.artifacts.steps import steps

            verbs = ", ".join([*VERBS, *(step.verb for step in steps().values())])
            print(f"vbon: unknown verb {words[0]!r}; accepted: {verbs}", file=sys.stderr)
            return 2
        run(words[1:])
    except VbonError as error:
        print(f"vbon {words[0]}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 0
    except Exception as error:
        from vbon.artifacts.storage import explain

        if (message := explain(error)) is None:
            raise
        print(f"vbon {words[0]}: {message}", file=sys.stderr)
        return 1
    return 0


def _use_utf8() -> None:
    """Start again in Python's UTF-8 mode where the locale has another encoding.

    Texts, paths and messages are UTF-8 whatever the locale, here and in all processes started here.
    """
    encoding = locale.getpreferredencoding(False).lower()
    if encoding not in ("utf-8", "utf8") and os.environ.get("PYTHONUTF8") != "1":
        environment = {**os.environ, "PYTHONUTF8": "1"}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _other_code() -> str | None:
    """Message if this folder is a checkout whose package is not the one that runs; else None.

    A copied environment runs the code of the checkout that it was copied from.
    """
    package, running = Path("vbon/__init__.py"), Path(vbon.__file__)
    if not (package.exists() and Path("Snakefile").exists()) or package.samefile(running):
        return None
    return (
        f"this folder has its own package, and the code of {running.parent} would run; install "
        "this one: `rm -r .venv` and `make` again, or `pip install --no-deps --editable .`"
    )


def _verb(name: str) -> Callable[[list[str]], None] | None:
    """The function of a verb; None if there is none."""
    if name in VERBS:
        return getattr(importlib.import_module(VERBS[name][0]), name.replace("-", "_"))
    from vbon.artifacts.steps import find_step

    step = find_step(name)
    return step and step.main


def _print_usage() -> None:
    """Print all verbs: those for people, then the workflow's by phase."""
    from vbon.artifacts.steps import steps

    print("usage: vbon <verb> [options]        `vbon <verb> --help` prints a verb's options\n")
    for verb, (_, summary) in VERBS.items():
        print(f"  {verb:<14}{summary}")
    phase = ""
    for step in steps().values():
        if step.phase != phase:
            print(f"\nsteps of the workflow: {step.phase}")
        phase = step.phase
        print(f"  {step.verb:<14}{step.summary}")

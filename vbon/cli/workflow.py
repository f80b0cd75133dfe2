"""Verbs that run Snakemake alone in this folder: ``workflow``, which resumes, and ``restore``."""

import argparse
import io
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import psutil

from vbon.analysis.ending import ending
from vbon.artifacts.integrity import SUFFIX, set_aside
from vbon.artifacts.snapshots import check_cache
from vbon.artifacts.storage import clear_leftovers, explain
from vbon.cli.lock import locked
from vbon.cli.options import parser
from vbon.errors import ArtifactError, VbonError
from vbon.planning.config import load
from vbon.planning.inputs import check_inputs
from vbon.planning.runs import expand

_MARK, _RESULTS = "VBON_WORKFLOW", "VBON_RESULTS"
"""Variables of a workflow's processes: its folder, and the one of its results."""
_BESIDE_TASKS = ("plan", "report")
"""Folders of the results that are not a task's."""
_MAKING_NOTHING = (
    "archive", "cleanup_metadata", "containerize", "d3dag", "dag", "delete_all_output",
    "delete_temp_output", "detailed_summary", "dryrun", "export_cwl", "filegraph",
    "generate_unit_tests", "lint", "list_changes", "list_input_changes", "list_params_changes",
    "list_rules", "list_target_rules", "list_untracked", "print_compilation", "report", "rulegraph",
    "summary", "touch", "unlock",
)  # fmt: skip
"""Options of Snakemake with which it makes nothing."""
_MOST_CAUSES = 10  # lines of failing jobs
_REDRAWN = "figures"  # a stage whose files may be drawn again at any time
_MOST_STAGES = 5  # changed stages that are named
_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
_PATIENCE = 3.0  # seconds after an interrupt until Snakemake gets it from here


def workflow(arguments: list[str]) -> None:
    """Run ``snakemake`` with the given options.

    Only one may run in a folder, and only one may write to a results folder: a second is refused.
    The lock and running jobs of a killed one are cleared first, and damaged files are set aside, so
    the same command always resumes.
    """
    if arguments in (["-h"], ["--help"]):
        usage = "usage: vbon workflow [options of snakemake]\n\n"
        print(usage + " ".join(workflow.__doc__.split()))
        return
    options, here = _parsed(arguments), Path.cwd()
    overlays = [str(file) for file in options.configfile or []]
    if options.directory is not None:  # Snakemake finds overlays from here, and all else from there
        overlays = [str(Path(file).absolute()) for file in overlays]
        os.chdir(options.directory)
    base = [] if options.replace_workflow_config and overlays else ["config.yaml"]
    config = load([*base, *overlays], _changes(options))
    if not _is_alone(options):
        check_inputs(config)
    expand(config)  # an error is printed before Snakemake starts
    results = config["results_dir"]
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    check_cache("snakemake", Path(caches, "snakemake"))
    makes_nothing = any(getattr(options, name, None) for name in _MAKING_NOTHING)
    with ExitStack() as locks:
        locks.enter_context(locked(".", "is running in this folder"))
        writes = not makes_nothing or options.touch
        if writes:
            locks.enter_context(locked(results, f"writes to the results folder {results}"))
        orphans = {_MARK: str(Path.cwd())}
        orphans |= {_RESULTS: str(Path(results).resolve())} if writes else {}
        _end_orphans(orphans)
        requests = [] if makes_nothing else _set_damage_aside(config)
        snakemake = [sys.executable, "-m", "snakemake"]
        if any(Path(".snakemake/locks").glob("*")):
            _unlock([*snakemake, "--unlock", *_graph(options)], here)
        started = time.time()
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "VBON_STARTED": str(started),
            "VBON_COMMAND": shlex.join(["vbon", "workflow", *arguments]),
            "VBON_REBUILD": json.dumps(requests),
            **orphans,
        }
        # `all` requests damaged files itself; the figures-only graph has no rules to make them.
        named = requests and "--" in arguments and options.snakefile is None
        targets = ["rebuild"] if named else []
        child = _start([*snakemake, *arguments, *targets], environment, here)
        if code := _wait(child, orphans):
            _end_orphans(orphans)  # Snakemake may have been killed while its jobs were not
            raise VbonError(_failure(code, started, results))
    if not makes_nothing and not options.targets:  # everything was requested
        for line in ending(results):
            print(line, flush=True)


def _parsed(arguments: list[str]) -> argparse.Namespace:
    """Options as Snakemake itself reads them, from profiles as well.

    Raises:
        VbonError: If Snakemake refuses them, or there is no workflow in this folder.
    """
    from snakemake.api import resolve_snakefile
    from snakemake.cli import parse_args
    from snakemake.exceptions import CliException, WorkflowError

    printed = io.StringIO()  # a profile that is used, which Snakemake prints again
    try:
        with redirect_stderr(printed):
            _, options = parse_args(arguments)
    except SystemExit as stop:
        if not stop.code:  # its version was printed
            raise
        reason = (printed.getvalue().strip().splitlines() or ["no message"])[-1]
        raise VbonError(f"Snakemake refuses these options: {reason}") from None
    except (CliException, WorkflowError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise VbonError(f"Snakemake refuses these options: {reason}") from error
    if resolve_snakefile(options.snakefile, allow_missing=True) is None:
        raise VbonError(
            "there is no Snakefile in this folder; start in a checkout of the project, which has "
            "the rules (an installed package does not)"
        )
    return options


def _changes(options: argparse.Namespace) -> dict[str, Any]:
    """Values of the configuration that are given by ``--config``."""
    from snakemake.cli import parse_config

    try:
        return parse_config(options.config)
    except ValueError as error:
        raise VbonError(f"--config: {error}") from error


def _is_alone(options: argparse.Namespace) -> bool:
    """Return True for the graph that only draws figures, of the tables that exist."""
    return options.snakefile is not None and Path(options.snakefile).stem == "figures"


def _graph(options: argparse.Namespace) -> list[str]:
    """The options that decide which graph is parsed: unlocking must parse the same one."""
    words = []
    for name in ("snakefile", "directory"):
        if getattr(options, name) is not None:
            words += [f"--{name}", str(getattr(options, name))]
    for name in ("configfile", "config"):
        if getattr(options, name):
            words += [f"--{name}", *map(str, getattr(options, name))]
    return words + ["--replace-workflow-config"] * bool(options.replace_workflow_config)


def _unlock(command: list[str], here: Path) -> None:
    """Clear the lock of a killed Snakemake."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=here)
    if done.returncode:
        reason = " ".join(f"{done.stdout} {done.stderr}".split())
        raise VbonError(f"Snakemake could not clear the lock of an interrupted run: {reason}")
    print("resuming after an interrupted run", flush=True)


def _set_damage_aside(config: dict[str, Any]) -> list[str]:
    """Rename damaged artifacts and print them; return those to request from Snakemake."""
    results = config["results_dir"]
    for name in (*config["tasks"], *_BESIDE_TASKS):
        clear_leftovers(Path(results, name))
    damage, requests = set_aside(results, config["tasks"])
    for path, why in damage.items():
        print(f"set aside as {path.name}{SUFFIX}, to be made again: {why}", flush=True)
    return requests


def _failure(code: int, started: float, results: str) -> str:
    """Message for a workflow that failed, with the causes in its logs."""
    logs = [path for path in Path("logs").rglob("*.log") if path.stat().st_mtime >= started]
    lines = (line for path in sorted(logs) for line in path.read_text(errors="replace").split("\n"))
    causes = list(dict.fromkeys(line for line in lines if line.startswith("vbon ")))[-_MOST_CAUSES:]
    reason = "; the failing job is named above and its log is below logs/"
    reason = reason if logs else " before any job, for the reason above"
    shown = "".join(f"\n  {line}" for line in [*causes, *_storage(results)])
    return f"Snakemake ended with code {code}{reason}. The same command resumes.{shown}"


def _storage(results: str) -> list[str]:
    """Error of writing below the results folder, if any: Snakemake does not always print it."""
    try:
        Path(results).mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=results, prefix=".probe."):
            return []
    except OSError as error:
        error.filename = results
        return [message] if (message := explain(error)) else []


def _start(command: list[str], environment: dict[str, str], here: Path) -> subprocess.Popen:
    return subprocess.Popen(command, env=environment, cwd=here)


class _Stopped(BaseException):
    """This process was asked to end; the argument is the name of the signal."""


def _stop(number: int, _frame: object) -> None:
    raise _Stopped(signal.Signals(number).name)


def _wait(child: subprocess.Popen, orphans: dict[str, str]) -> int:
    """Wait for Snakemake; end it and its jobs when this process is stopped or its parent is gone.

    Raises:
        VbonError: If a signal stopped it.
    """
    parent, interrupted = os.getppid(), math.inf
    # A signal that is ignored stays so: `nohup` ignores SIGHUP.
    numbers = [n for n in _SIGNALS if signal.getsignal(n) == signal.SIG_DFL]
    try:
        for number in numbers:
            signal.signal(number, _stop)
        while True:
            try:
                return child.wait(timeout=1)
            except subprocess.TimeoutExpired:
                if os.getppid() != parent:
                    child.kill()
                    _end_orphans(orphans)
                    return 1
                if time.monotonic() > interrupted + _PATIENCE:
                    interrupted = math.inf
                    child.send_signal(signal.SIGINT)
            except KeyboardInterrupt:  # from a terminal Snakemake gets it as well: it ends its jobs
                interrupted = time.monotonic()
    except _Stopped as stopped:
        child.kill()
        _end_orphans(orphans)
        raise VbonError(f"stopped by {stopped}; the same command resumes") from None
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _end_orphans(marks: dict[str, str]) -> None:
    """Kill processes that an ended workflow of this folder, or of its results, left.

    This process has the locks of both.
    """
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # gone, or another user's
            environment = process.environ()
            is_orphan = any(environment.get(name) == value for name, value in marks.items())
            if is_orphan and process.pid != os.getpid():
                process.kill()


def restore(arguments: list[str]) -> None:
    """Mark files that came by ``dvc pull`` as those that Snakemake would make.

    A fresh clone has files in no order of time, and no record of what they were made with.
    Snakemake would make many of them again, and would not notice later that a setting changed.
    """
    from vbon.cli.inspect import plan

    parser("restore", " ".join((restore.__doc__ or "").split())).parse_args(arguments)
    status = [sys.executable, "-m", "dvc", "status", "--json"]
    done = subprocess.run(status, capture_output=True, text=True)
    try:
        stages = [stage for stage in json.loads(done.stdout) if stage.partition("@")[0] != _REDRAWN]
    except ValueError:
        reason = " ".join(done.stderr.split())
        if "not a git repository" in reason:
            reason += "; run `git init`, or `dvc config core.no_scm true`"
        raise ArtifactError(f"`dvc status` failed: {reason}") from None
    if stages:
        shown = ", ".join(stages[:_MOST_STAGES]) + (" …" if len(stages) > _MOST_STAGES else "")
        raise ArtifactError(
            f"dvc.lock does not match these files ({shown}): `dvc status` must be clean. Get what "
            "is missing with `dvc pull`; put a changed config or code aside until this is done "
            "(`git stash`)"
        )
    print("restoring: a tenth of a second for each job of the benchmark", flush=True)
    workflow(["--cores", "1", "--touch", "--forceall", "--quiet", "all", "--", "all"])
    with redirect_stdout(io.StringIO()) as listed:
        plan([])
    print(listed.getvalue().splitlines()[-1])

"""Verbs that run Snakemake alone in this folder: ``workflow``, which resumes, and ``restore``."""

import fcntl
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
from contextlib import redirect_stdout, suppress
from itertools import takewhile
from pathlib import Path

import psutil

from vbon.analysis.ending import ending
from vbon.artifacts.integrity import SUFFIX, set_aside
from vbon.artifacts.snapshots import check_cache
from vbon.artifacts.storage import clear_leftovers, explain
from vbon.cli.options import parser
from vbon.errors import ArtifactError, VbonError
from vbon.planning.config import load

LOCK = Path(".vbon.lock")
_MARK = "VBON_WORKFLOW"
_SNAKEFILES = ("Snakefile", "snakefile", "workflow/Snakefile", "workflow/snakefile")
_WHERE = {"-s", "--snakefile", "-d", "--directory"}
"""Options of Snakemake that name another graph or folder."""
_MAKING_NOTHING = {"-n", "--dry-run", "--dryrun", "--touch", "-t", "--unlock", "--lint", "--report"}
"""Options of Snakemake with which it makes nothing."""
_MOST_CAUSES = 10  # lines of failing jobs
_REDRAWN = "figures"  # a stage whose files may be drawn again at any time
_MOST_STAGES = 5  # changed stages that are named
_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
_PATIENCE = 3.0  # seconds after an interrupt until Snakemake gets it from here


def workflow(arguments: list[str]) -> None:
    """Run ``snakemake`` with the given options.

    Only one may run in a folder: a second is refused. The lock and running jobs of a killed one are
    cleared first, and damaged files are set aside, so the same command always resumes.
    """
    if arguments in (["-h"], ["--help"]):
        usage = "usage: vbon workflow [options of snakemake]\n\n"
        print(usage + " ".join(workflow.__doc__.split()))
        return
    options = {word.partition("=")[0] for word in arguments}
    if not options & _WHERE and not any(Path(name).exists() for name in _SNAKEFILES):
        raise VbonError(
            "there is no Snakefile in this folder; start in a checkout of the project, which has "
            "the rules (an installed package does not)"
        )
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    check_cache("snakemake", Path(caches, "snakemake"))
    # Closed by the kernel however this process ends; jobs do not inherit it.
    lock = open(LOCK, "a+")  # noqa: SIM115
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        raise VbonError(
            f"another benchmark is running in this folder (process {lock.read().strip()}); wait "
            "for it, or stop it with Ctrl-C where it runs"
        ) from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    _end_orphans()
    makes_nothing = _MAKING_NOTHING & set(arguments)
    requests = [] if makes_nothing else _set_damage_aside(_results_dir(arguments))
    snakemake = [sys.executable, "-m", "snakemake"]
    if any(Path(".snakemake/locks").glob("*")):
        subprocess.run([*snakemake, "--unlock", *_config_files(arguments)], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        print("resuming after an interrupted run", flush=True)
    started = time.time()
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "VBON_STARTED": str(started),
        "VBON_COMMAND": shlex.join(["vbon", "workflow", *arguments]),
        "VBON_REBUILD": json.dumps(requests),
        _MARK: str(Path.cwd()),
    }
    # `all` requests damaged files itself; the figures-only graph has no rules to make them.
    named = requests and "--" in arguments and not {"-s", "--snakefile"} & set(arguments)
    targets = ["rebuild"] if named else []
    child = subprocess.Popen([*snakemake, *arguments, *targets], env=environment)
    code = _wait(child)
    if code:
        _end_orphans()  # Snakemake may have been killed while its jobs were not
        causes = "".join(f"\n  {line}" for line in [*_causes(started), *_storage(arguments)])
        raise VbonError(
            f"Snakemake ended with code {code}; the failing job is named above and its log is "
            f"below logs/. The same command resumes.{causes}"
        )
    if not makes_nothing and "--" not in arguments:  # everything was requested
        for line in ending(_results_dir(arguments)):
            print(line, flush=True)


def _results_dir(arguments: list[str]) -> str:
    """Folder of results in the configuration."""
    return load(["config.yaml", *_config_files(arguments)[1:]])["results_dir"]


def _set_damage_aside(results: str) -> list[str]:
    """Rename damaged artifacts and print them; return those to request from Snakemake."""
    clear_leftovers(results)
    damage, requests = set_aside(results)
    for path, why in damage.items():
        print(f"set aside as {path.name}{SUFFIX}, to be made again: {why}", flush=True)
    return requests


def _causes(started: float) -> list[str]:
    """Messages of failing jobs, from logs written since the start."""
    logs = [path for path in Path("logs").rglob("*.log") if path.stat().st_mtime >= started]
    lines = (line for path in sorted(logs) for line in path.read_text(errors="replace").split("\n"))
    return list(dict.fromkeys(line for line in lines if line.startswith("vbon ")))[-_MOST_CAUSES:]


def _storage(arguments: list[str]) -> list[str]:
    """Error of writing below the results folder, if any: Snakemake does not always print it."""
    try:
        folder = Path(_results_dir(arguments))
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe."):
            return []
    except VbonError:  # Snakemake has printed it
        return []
    except OSError as error:
        error.filename = str(folder)
        return [message] if (message := explain(error)) else []


class _Stopped(BaseException):
    """This process was asked to end; the argument is the name of the signal."""


def _stop(number: int, _frame: object) -> None:
    raise _Stopped(signal.Signals(number).name)


def _wait(child: subprocess.Popen) -> int:
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
                    _end_orphans()
                    return 1
                if time.monotonic() > interrupted + _PATIENCE:
                    interrupted = math.inf
                    child.send_signal(signal.SIGINT)
            except KeyboardInterrupt:  # from a terminal Snakemake gets it as well: it ends its jobs
                interrupted = time.monotonic()
    except _Stopped as stopped:
        child.kill()
        _end_orphans()
        raise VbonError(f"stopped by {stopped}; the same command resumes") from None
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _end_orphans() -> None:
    """Kill processes that an ended workflow of this folder left: this one has the lock."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # gone, or another user's
            if process.environ().get(_MARK) == str(Path.cwd()) and process.pid != os.getpid():
                process.kill()


def _config_files(arguments: list[str]) -> list[str]:
    """The option ``--configfile`` and its values; unlocking must parse the same graph."""
    if "--configfile" not in arguments:
        return []
    values = arguments[arguments.index("--configfile") + 1 :]
    return ["--configfile", *takewhile(lambda word: not word.startswith("-"), values)]


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

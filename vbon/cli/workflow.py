"""The verb ``workflow``: run Snakemake alone in this folder, and resume after anything."""

import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vbon.analysis.ending import ending
from vbon.artifacts.integrity import SUFFIX, set_aside
from vbon.artifacts.storage import clear_leftovers, explain
from vbon.errors import VbonError
from vbon.planning.config import load

LOCK = Path(".vbon.lock")
_MARK = "VBON_WORKFLOW"
_LOOKING = {"-n", "--dry-run", "--dryrun", "--touch", "-t", "--unlock", "--lint", "--report"}
"""Options of Snakemake with which it makes nothing."""
_MOST_TOLD = 10  # lines of failing jobs


def workflow(arguments: list[str]) -> None:
    """Run ``snakemake`` with the given options.

    Only one may run in a folder: a second is refused. What a killed one left behind (its lock and
    jobs that still run) is cleared first, and what a disk or a hand damaged is set aside, so the
    same command always resumes.
    """
    if arguments in (["-h"], ["--help"]):
        print(
            "usage: vbon workflow [options of snakemake]\n\n" + " ".join(workflow.__doc__.split())
        )
        return
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
    asked = [] if _LOOKING & set(arguments) else _set_damage_aside(_results_dir(arguments))
    snakemake = [sys.executable, "-m", "snakemake"]
    if any(Path(".snakemake/locks").glob("*")):
        subprocess.run([*snakemake, "--unlock", *_config_files(arguments)], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        print("resuming after an interrupted run", flush=True)
    bin_folder = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "PATH": f"{bin_folder}{os.pathsep}{os.environ.get('PATH', '')}",
        "VBON_STARTED": str(time.time()),
        "VBON_COMMAND": shlex.join(["vbon", "workflow", *arguments]),
        "VBON_REBUILD": json.dumps(asked),
        _MARK: str(Path.cwd()),
    }
    started = time.time()
    # Without targets `all` asks for it, and a graph without rules upstream cannot.
    named = asked and "--" in arguments and not {"-s", "--snakefile"} & set(arguments)
    targets = ["rebuild"] if named else []
    child = subprocess.Popen([*snakemake, *arguments, *targets], env=environment)
    code = _wait(child)
    if code:
        _end_orphans()  # Snakemake may have been killed while its jobs were not
        told = "".join(f"\n  {line}" for line in [*_causes(started), *_storage(arguments)])
        raise VbonError(
            f"Snakemake ended with code {code}; the failing job is named above and its log is "
            f"below logs/. The same command resumes.{told}"
        )
    if not _LOOKING & set(arguments) and "--" not in arguments:  # all of it was asked for
        for line in ending(_results_dir(arguments)):
            print(line, flush=True)


def _results_dir(arguments: list[str]) -> str:
    """Where the configuration puts results."""
    return load(["config.yaml", *_config_files(arguments)[1:]])["results_dir"]


def _set_damage_aside(results: str) -> list[str]:
    """Rename damaged artifacts, and say so; return those that Snakemake must be asked for."""
    clear_leftovers(results)
    found, asked = set_aside(results)
    for path, why in found.items():
        print(f"set aside as {path.name}{SUFFIX}, to be made again: {why}", flush=True)
    return asked


def _causes(started: float) -> list[str]:
    """What failing jobs said of themselves, from the logs that were written since."""
    logs = [path for path in Path("logs").rglob("*.log") if path.stat().st_mtime >= started]
    lines = (line for path in sorted(logs) for line in path.read_text(errors="replace").split("\n"))
    return list(dict.fromkeys(line for line in lines if line.startswith("vbon ")))[-_MOST_TOLD:]


def _storage(arguments: list[str]) -> list[str]:
    """Why nothing can be written where results belong, if so: Snakemake does not always say it."""
    try:
        folder = Path(_results_dir(arguments))
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe."):
            return []
    except VbonError:  # told above
        return []
    except OSError as error:
        error.filename = str(folder)
        return [told] if (told := explain(error)) else []


def _wait(child: subprocess.Popen) -> int:
    """Wait for Snakemake; stop it when the process that started this one is gone."""
    parent = os.getppid()
    while True:
        try:
            return child.wait(timeout=1)
        except subprocess.TimeoutExpired:
            if os.getppid() != parent:
                child.kill()
                _end_orphans()
                return 1
        except KeyboardInterrupt:  # Snakemake got it as well, and ends its jobs
            continue


def _end_orphans() -> None:
    """Kill processes that an earlier workflow of this folder left; holding the lock proves it."""
    mark = f"{_MARK}={Path.cwd()}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            marked = mark in (process / "environ").read_bytes().split(b"\0")
        except OSError:  # gone, or another user's
            continue
        if marked and int(process.name) != os.getpid():
            os.kill(int(process.name), signal.SIGKILL)


def _config_files(arguments: list[str]) -> list[str]:
    """The ``--configfile`` options, which unlocking must parse the same graph with."""
    if "--configfile" not in arguments:
        return []
    start = arguments.index("--configfile")
    end = start + 1
    while end < len(arguments) and not arguments[end].startswith("-"):
        end += 1
    return arguments[start:end]

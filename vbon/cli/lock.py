"""One workflow at a time in a folder: a locked file, which names the process that has it."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from vbon.errors import VbonError

NAME = ".vbon.lock"
_HELD = ".vbon.lock.held"
"""File that exists while a workflow runs, on file systems without locks of the kernel."""


@contextmanager
def locked(folder: str | Path, what: str) -> Iterator[None]:
    """Lock a folder, or refuse where another process has it.

    The kernel frees the lock however this process ends, and jobs do not inherit it. On a file
    system without such locks a second file is made instead; one that a killed process of this
    machine left is ignored.

    Args:
        folder: Folder to lock; it is made.
        what: What the other process does there, for the error.

    Raises:
        VbonError: If another process has the lock.
    """
    path = Path(folder, NAME)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise _refusal(what, file.read()) from None
        except OSError:
            with _held(path.with_name(_HELD), what):
                yield
            return
        file.truncate(0)
        file.write(_signature())
        file.flush()
        yield


def is_locked(folder: str | Path) -> bool:
    """Return True if a workflow runs in a folder, or writes results there."""
    path = Path(folder, NAME)
    try:
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # also where there is no file
        held = path.with_name(_HELD)
        return held.exists() and not _is_stale(held.read_text())
    return False


@contextmanager
def _held(path: Path, what: str) -> Iterator[None]:
    """Hold a lock that is the existence of a file."""
    with suppress(FileNotFoundError):
        if _is_stale(path.read_text()):
            path.unlink()
    try:
        with open(path, "x") as file:
            file.write(_signature())
    except FileExistsError:
        remedy = f"; if that process is gone, delete {path}"
        raise _refusal(what, path.read_text(), remedy) from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _signature() -> str:
    """Process, machine and start of this process."""
    return f"{os.getpid()} {socket.gethostname()} {psutil.Process().create_time()}"


def _is_stale(signature: str) -> bool:
    """Return True if the process of a signature is of this machine, and is gone."""
    words = signature.split()
    if len(words) != 3 or words[1] != socket.gethostname():
        return False
    try:
        return str(psutil.Process(int(words[0])).create_time()) != words[2]
    except (psutil.Error, ValueError):
        return True


def _refusal(what: str, signature: str, remedy: str = "") -> VbonError:
    process, host, *_ = [*signature.split(), "unknown", "unknown"]
    return VbonError(
        f"another benchmark {what} (process {process} on {host}); wait for it, or stop it with "
        f"Ctrl-C where it runs{remedy}"
    )

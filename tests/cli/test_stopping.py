"""Signals to the guard of a workflow: Snakemake and its jobs end with it."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

# A guard whose Snakemake waits for a job; both write their process ids first.
GUARD = """
import os, signal, subprocess, sys
from vbon.cli import workflow
from vbon.errors import VbonError
# Also where a shell started these tests in the background, or nohup did.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
nap = "import os, time; print(os.getpid(), flush=True); time.sleep(100)"
job = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {nap!r}])"
marks = {workflow._MARK: os.getcwd()}
environment = {**os.environ, **marks}
child = subprocess.Popen([sys.executable, "-c", job], env=environment, start_new_session=True)
print(child.pid, flush=True)
try:
    sys.exit(workflow._wait(child, marks))
except VbonError as error:
    sys.exit(f"vbon workflow: {error}")
"""


def started(folder):
    """A guard, and the ids of its Snakemake and of the job."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    guard = subprocess.Popen([sys.executable, "-c", GUARD], cwd=folder, **pipes)
    return guard, [int(guard.stdout.readline()) for _ in range(2)]


def ended(pids):
    """Return True if all processes are soon gone."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        alive = [pid for pid in pids if psutil.pid_exists(pid)]
        if all(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE for pid in alive):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_stopped_guard_ends_its_jobs(tmp_path, name):
    guard, pids = started(tmp_path)
    time.sleep(0.3)
    os.kill(guard.pid, signal.Signals[name])
    _, message = guard.communicate(timeout=30)
    assert guard.returncode == 1
    assert message.strip() == f"vbon workflow: stopped by {name}; the same command resumes"
    assert ended(pids)


def test_an_interrupt_of_the_guard_alone_reaches_snakemake(tmp_path):
    guard, pids = started(tmp_path)
    time.sleep(0.3)
    os.kill(guard.pid, signal.SIGINT)
    guard.communicate(timeout=30)
    assert guard.returncode != 0
    assert ended(pids)

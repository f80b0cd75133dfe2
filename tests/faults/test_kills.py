"""SIGKILL at random moments: whole workflows, their parts, and single runs."""

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter

import pytest
from checkout import (
    SWEEP,
    SWEEP_POINTS,
    make_checkout,
    marked,
    parent,
    plan,
    records,
    run,
    same_points,
    seconds_of,
    start,
)

from vbon.artifacts.integrity import find_damage

pytestmark = [pytest.mark.faults, pytest.mark.long]
KILLS = int(os.environ.get("VBON_KILLS", "4"))


def gone(folder, group=None):
    """Whether all processes of a checkout, or of one group of them, are soon no more."""
    for _ in range(100):
        left = marked(folder)
        if group is not None:  # another group is what a killed guard left: the next one ends it
            left = [pid for pid in left if group_of(pid) == group]
        if not left:
            return True
        time.sleep(0.1)
    return False


def group_of(pid):
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def end(process, folder, whom):
    """Kill the guard, Snakemake, one of its jobs, or all of them; return who it was."""
    others = marked(folder)
    snakemake = [pid for pid, words in others.items() if words[1:3] == ["-m", "snakemake"]]
    chosen = {"guard": [process.pid], "Snakemake": snakemake[:1]}
    chosen["a job"] = sorted(set(others) - set(snakemake))[-1:]
    pids = chosen.get(whom)
    if not pids:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert gone(folder, process.pid), "a process outlived its group"
        return "all"
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return "nobody"
    process.wait(timeout=120)  # without a job or without Snakemake the guard gives up by itself
    if whom == "Snakemake":
        assert gone(folder), "jobs outlived Snakemake"
    return whom


def test_a_sweep_survives_being_killed_again_and_again(swept, tmp_path):
    """No run that was done is trained again, no process is left, and the points are the same.

    ``VBON_KILLS=20 pytest -m faults -k again_and_again -s`` kills it more often. A sweep that is
    complete before the last of these kills starts over in an empty folder.
    """
    folder = make_checkout(tmp_path / "killed", SWEEP, code=True)
    moments, whom, done, sweeps, kept = random.Random(0), Counter(), {}, 1, 0
    whole = seconds_of(swept)
    while True:
        process = start(folder, "--cores", "2", *SWEEP_POINTS)
        longest = whole * (0.1 + 0.02 * (whom.total() % 40))  # from its first step to its last
        try:
            code = process.wait(timeout=moments.uniform(0, longest))
        except subprocess.TimeoutExpired:
            code = None
            whom[end(process, folder, moments.choice(["all", "guard", "Snakemake", "a job"]))] += 1
        found = records(folder)
        assert done.items() <= found.items(), "a run that was done was lost or trained again"
        kept += len(done)
        done = found
        if code == 0 and whom.total() >= KILLS:
            break
        if code == 0:
            shutil.rmtree(folder / "results")
            done, sweeps = {}, sweeps + 1
    print(
        f"\nkills survived: {whom.total()} ({', '.join(f'{n} of {w}' for w, n in whom.items())}) "
        f"in {sweeps} sweep(s); done runs found again after a kill: {kept}; runs lost: 0"
    )
    assert whom.total() >= KILLS
    assert gone(folder)
    assert not find_damage(folder / "results")
    assert not list((folder / "results").rglob(".*")), "a temporary file was left"
    assert same_points(swept, folder)


def train_child(folder):
    """A run's own process: a child of ``vbon train`` with the command line of its parent."""
    jobs = {pid for pid, words in marked(folder).items() if words[2:3] == ["train"]}
    return next((pid for pid in jobs if parent(pid) in jobs), None)


def test_a_killed_worker_costs_its_own_run(swept, tmp_path):
    folder = make_checkout(tmp_path / "checkout", SWEEP, code=True)
    process = start(folder, "--cores", "2", *SWEEP_POINTS)
    wanted = random.Random(0).randrange(2, 5)  # two train nothing; some must be left
    while process.poll() is None:
        if len(records(folder)) >= wanted and (child := train_child(folder)):
            os.kill(child, signal.SIGKILL)
            break
        time.sleep(0.005)
    assert process.wait(timeout=240) == 1
    log = (folder / "log.txt").read_text()
    told = re.search(r"vbon train: 1 of 10 runs failed: (\w+) (\S+) seed (\d): (.*)", log)
    assert told, log[-3000:]
    assert "SIGKILL" in told[4]
    before = records(folder)
    missing = f"enumerable/runs/{told[1]}/{told[2]}/seed{told[3]}"
    assert len(before) == 9
    assert missing not in before
    assert plan(folder) == "10 runs, to train: 1"
    run(folder, "--cores", "2", *SWEEP_POINTS)
    after = records(folder)
    assert before.items() <= after.items()
    assert set(after) - set(before) == {missing}
    assert same_points(swept, folder)
    print(f"\nkilled: {told[1]} {told[2]} seed {told[3]}; others kept: 9; trained again: 1")

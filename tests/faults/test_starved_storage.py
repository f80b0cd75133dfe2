"""A disk that is full and a folder that cannot be written, in a mount namespace of the test's own.

The mounts need no privileges beyond user namespaces and vanish with the shell that made them.
"""

import shutil
import subprocess
import sys

import pytest
from checkout import (
    SWEEP,
    SWEEP_POINTS,
    copy,
    environment,
    make_checkout,
    records,
    run,
    same_points,
    stamps,
)

from vbon.artifacts.integrity import find_damage

pytestmark = [pytest.mark.faults, pytest.mark.long]
TARGET = " ".join(SWEEP_POINTS)
WORKFLOW = f'"{sys.executable}" -m vbon.cli workflow --cores 2 {TARGET} >> log.txt 2>&1'


def in_namespace(folder, script):
    """Run a shell script with mounts of its own."""
    probe = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /mnt"]
    try:
        found = subprocess.run(probe, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no `unshare` to make mounts with")
    if found.returncode:
        pytest.skip(f"mounts are not allowed here: {found.stderr.strip()}")
    settings = {"cwd": folder, "env": environment(folder), "capture_output": True, "text": True}
    done = subprocess.run(["unshare", "-rm", "sh", "-ec", script], **settings)
    assert done.returncode == 0, done.stderr + (folder / "log.txt").read_text()[-3000:]


def told(folder):
    """What was said of storage, each line once; no log may hold a traceback."""
    texts = [path.read_text() for path in (folder / "log.txt", *folder.glob("logs/**/*.log"))]
    assert not any("Traceback" in text for text in texts)
    lines = texts[0].splitlines()
    return {line.strip() for line in lines if "run it again" in line}


def test_a_full_disk_leaves_nothing_half_done(swept, tmp_path):
    folder = make_checkout(tmp_path / "checkout", SWEEP, code=True)
    sizes = ["80k", "300k"]  # too small for the language, and for the runs
    tries = "\n".join(
        f"mount -o remount,size={size} results; ! {WORKFLOW}; cp -a results after-{size}"
        for size in sizes
    )
    script = f"mkdir results; mount -t tmpfs -o size=4k tmpfs results\n{tries}"
    script += f"\nmount -o remount,size=64m results; {WORKFLOW}; cp -a results whole"
    in_namespace(folder, script)
    kept = {}
    for name in (*(f"after-{size}" for size in sizes), "whole"):
        shutil.rmtree(folder / "results")
        (folder / name).rename(folder / "results")
        assert not find_damage(folder / "results")
        found = records(folder)
        assert kept.items() <= found.items(), "a run that was done was lost or trained again"
        print(f"\n{name}: {len(found)} runs, none half done, {len(kept)} of them from before")
        kept = found
    lines = told(folder)
    assert any("No space left on device; free some space" in line for line in lines)
    assert all("results" in line for line in lines)
    assert same_points(swept, folder)


def test_a_read_only_folder_is_told_and_left_as_it_is(swept, tmp_path):
    folder = copy(swept, tmp_path / "checkout")
    for name in ("runs/ppo", "evaluated", "figures"):
        shutil.rmtree(folder / "results/enumerable" / name)
    for path in folder.glob("results/enumerable/p*.*"):
        path.unlink()
    before, kept = stamps(folder), records(folder)
    mount = "mount --bind results results; mount -o remount,bind,ro results"
    in_namespace(folder, f"{mount}; ! {WORKFLOW}")
    assert any("results: Read-only file system; make it writable" in line for line in told(folder))
    assert stamps(folder) == before
    run(folder, "--cores", "2", *SWEEP_POINTS)
    after = records(folder)
    assert kept.items() <= after.items()
    assert len(after) - len(kept) == 4
    assert same_points(swept, folder)
    print("\nread-only: told, nothing changed; afterwards 4 runs trained, 6 kept")

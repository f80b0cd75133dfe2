"""Small checkouts in which tests run, change, kill and inspect the real workflow."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml

from vbon.artifacts import read_provenance

ROOT = Path(__file__).parent.parent
CONFIG = {
    "tasks": ["enumerable"],
    "run_methods": ["reference", "vbon", "vbon_l"],
    "seeds": [0],
    "methods": {"reference": {}, "vbon": {"n": [1, 2, 4]}, "vbon_l": {"n": [2, 4]}},
    "figures": {"bootstrap": 20},
    "enumerable": {
        "pools": {"num_pools": 2, "m": [8], "n": [4]},
        "sampling": {
            "max_new_tokens": 4,
            "train_draws": 32,
            "test_draws": 32,
            "fresh_draws": 8,
        },
        "logf": {"m": 32},
        "online": {
            "iterations": 10,
            "rollouts": 64,
            "draws_per_prompt": 32,
            "minibatch": 64,
            "clip_reward": None,
        },
    },
}
SWEEP = CONFIG | {
    "run_methods": ["reference", "best_of_n", "ppo", "vbon"],
    "seeds": [0, 1],
    "methods": {
        "reference": {"seeds": [0]},
        "best_of_n": {"n": [2], "seeds": [0]},
        "ppo": {"kl_coef": [0.5, 1]},
        "vbon": {"n": [2, 4]},
    },
}
"""Ten runs, eight of them trained, each in about half a second."""
SWEEP_POINTS = ["--", "results/enumerable/points.csv"]
"""Targets of most tests: the sweep without its tables and figures."""
BUILT = {
    "tasks": ["sentiment"],
    "run_methods": ["reference", "ppo", "vbon"],
    "seeds": [0],
    "methods": {"reference": {}, "ppo": {"kl_coef": [0.5]}, "vbon": {"n": [4]}},
    "sentiment": {
        "reviews": {
            "num_reviews": 300,
            "fractions": {
                "reference": 0.4,
                "reward_model": 0.2,
                "evaluator": 0.1,
                "train": 0.2,
                "test": 0.1,
            },
        },
        "reference": {"build": {"layers": 1, "width": 16, "heads": 2, "epochs": 1}},
        "reward_model": {"build": {"layers": 1, "width": 16, "heads": 2, "epochs": 1}},
        "evaluator": {"build": {"layers": 1, "width": 16, "heads": 2, "epochs": 1}},
        "prompts": {"num_train": 12, "num_test": 4},
        "sampling": {
            "max_new_tokens": 6,
            "train_draws": 16,
            "test_draws": 8,
            "fresh_draws": 4,
            "prompts_per_shard": 6,  # two shards of training prompts
        },
        "logf": {"m": 16},
        "online": {"iterations": 2, "rollouts": 16, "minibatch": 16},
        "evaluation": {"responses": 1},
        "studies": {},
    },
}
"""Models, draws and three runs of the sentiment task, for tests to which the data do not matter."""
BUILT_POINTS = ["--", "results/sentiment/points.csv"]
"""Targets for :data:`BUILT`."""


def make_checkout(folder: Path, config: dict = CONFIG, code: bool = False) -> Path:
    """A folder in which the workflow can run, with its own copy of the package if ``code``."""
    folder.mkdir()
    for name in ("Snakefile", "workflow", "profiles", *["vbon"] * code):
        source = ROOT / name
        ignored = shutil.ignore_patterns("__pycache__")
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignored)
        else:
            shutil.copy(source, folder / name)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def copy(checkout: Path, folder: Path) -> Path:
    """Copy of a checkout, including file times, for a test to change."""
    return shutil.copytree(checkout, folder, symlinks=True)


def change(folder: Path, *path: str, value: object) -> None:
    """Set one key of the checkout's configuration."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    section = config
    for name in path[:-1]:
        section = section[name]
    section[path[-1]] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def edit(file: Path, old: str, new: str) -> None:
    """Replace a text that occurs once in a file."""
    text = file.read_text()
    assert text.count(old) == 1, f"{file} has {old!r} {text.count(old)} times"
    file.write_text(text.replace(old, new))


def make_once(tmp_path_factory, name: str, make) -> Path:
    """A folder shared by all workers of a test session; the first that needs it makes it."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    with open(root / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / name / ".complete").exists():
            shutil.rmtree(root / name, ignore_errors=True)
            started = time.monotonic()
            make(root / name)
            (root / name / ".complete").write_text(str(time.monotonic() - started))
    return root / name


def seconds_of(checkout: Path) -> float:
    """Seconds that a folder of :func:`make_once` took, on this machine under its current load."""
    return float((checkout / ".complete").read_text())


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Environment of commands in a checkout: its own package comes first, if it has one."""
    path = {"PYTHONPATH": str(folder)} if (folder / "vbon").exists() else {}
    return os.environ | path | more


def start(folder: Path, *options: str, **more: str) -> subprocess.Popen:
    """Start ``vbon workflow`` in a new session, its output appended to ``log.txt``."""
    command = [sys.executable, "-m", "vbon.cli", "workflow", *options]
    settings = {"env": environment(folder, **more), "cwd": folder, "start_new_session": True}
    with open(folder / "log.txt", "a") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, **settings)


def run(folder: Path, *options: str, **more: str) -> None:
    """Run ``vbon workflow``, which must succeed."""
    process = start(folder, *options, **more)
    assert process.wait(timeout=400) == 0, (folder / "log.txt").read_text()[-3000:]


def plan(folder: Path, **more: str) -> str:
    """The last line of ``vbon plan``."""
    command = [sys.executable, "-m", "vbon.cli", "plan"]
    settings = {"env": environment(folder, **more), "cwd": folder, "check": True}
    done = subprocess.run(command, capture_output=True, text=True, **settings)
    return done.stdout.splitlines()[-1]


def planned_jobs(folder: Path, *options: str) -> dict[str, int]:
    """Jobs by rule that Snakemake would run; empty if nothing is to be done."""
    command = [sys.executable, "-m", "snakemake", "-n", "--cores", "1", "--quiet", "host", *options]
    settings = {"env": environment(folder), "cwd": folder, "check": True}
    done = subprocess.run(command, capture_output=True, text=True, **settings)
    lines = (line.split() for line in done.stdout.splitlines())
    rows = (words for words in lines if len(words) == 2 and words[1].isdigit())
    return {name: int(count) for name, count in rows if not name.endswith(":")}


def stamps(folder: Path) -> dict[str, object]:
    """Stamp of each result by path; a result that is made again gets another stamp."""
    results = folder / "results"
    files = [path for path in results.rglob("*") if path.is_file()]
    return {str(path.relative_to(results)): _stamp(path) for path in files}


def _stamp(path: Path) -> object:
    """Time at which a file was written; runs and responses record it, as they may be touched."""
    if path.name == "run.json":
        return json.loads(path.read_text())["written"], path.stat().st_ino
    if path.parent.name == "responses":
        return json.dumps(read_provenance(path)["measured"]), path.stat().st_ino
    return path.stat().st_mtime_ns, path.stat().st_ino


def records(folder: Path) -> dict[str, dict]:
    """Record of every run on disk by its folder; the times in it change if a run is retrained."""
    root = folder / "results"
    # Unlike a glob, a walk does not fail if a running job moves a folder meanwhile.
    paths = (Path(top, "run.json") for top, _, names in os.walk(root) if "run.json" in names)
    files = sorted(path for path in paths if path.parent.name.startswith("seed"))
    return {str(path.parent.relative_to(root)): json.loads(path.read_text()) for path in files}


def wait_for(path: Path, seconds: float = 120) -> None:
    """Wait until a file exists."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.05)


def marked(folder: Path) -> dict[int, list[str]]:
    """Command lines, by process id, of a checkout's workflow except its guard."""
    mark = f"VBON_WORKFLOW={folder}".encode()
    commands = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
                commands[int(process.name)] = words[:-1]
        except OSError:  # gone
            continue
    return commands


def parent(process: int) -> int:
    """Id of a process's parent; 0 if the process has ended."""
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def same_points(one: Path, other: Path) -> bool:
    """Return True if the points of two checkouts are equal byte by byte."""
    names = [str(path.relative_to(one)) for path in one.glob("results/**/points.csv")]
    assert names
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)

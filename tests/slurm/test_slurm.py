"""The workflow through a real SLURM: the same numbers, and what becomes of jobs that end badly."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from cluster import Cluster, why_not

ROOT = Path(__file__).parent.parent.parent
_HINDRANCE = why_not() if "VBON_SLURM" in os.environ else "takes minutes: .ci/slurm runs it"
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(_HINDRANCE is not None, reason=str(_HINDRANCE)),
]
SLURM = ("--workflow-profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "5")

STUMBLING = '''
"""PPO whose first attempt fails and whose every attempt takes its time."""
import os
import time
from dataclasses import dataclass
from pathlib import Path

from vbon.methods.base import Online
from vbon.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class {name}(Online):
    """{name} on its way."""

    paper = "none"
    optimum = None
    kl_coef: float

    def reward(self, scored):
        mark = Path(os.environ["VBON_MARKS"]) / f"{name}-{{os.environ['SLURM_JOB_ID']}}"
        if not mark.exists():
            mark.touch()
            {act}
        return scored.reward
'''
FAIL = "assert len(list(mark.parent.glob('Stumbling-*'))) > 1, 'stumbled'"
SLEEP = "time.sleep(150)"
SMALL = {
    "tasks": ["enumerable"],
    "runs_per_job": 1,
    "seeds": [0],
    "run_methods": ["reference", "vbon", "stumbling", "dawdling"],
    "methods": {
        "reference": {},
        "vbon": {"n": [2]},
        "stumbling": {"kl_coef": [1]},
        "dawdling": {"kl_coef": [1]},
    },
    "figures": {"bootstrap": 10},
    "enumerable": {
        "pools": {"num_pools": 2, "m": [8], "n": [4]},
        "sampling": {"max_new_tokens": 4, "train_draws": 32, "test_draws": 32, "fresh_draws": 8},
        "logf": {"m": 32},
        "online": {"iterations": 2, "rollouts": 32, "draws_per_prompt": 32, "minibatch": 32},
    },
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    started = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        started.start()
    except (OSError, RuntimeError) as error:
        started.stop()
        pytest.skip(f"SLURM cannot be started here: {error}")
    yield started
    started.stop()


def make_checkout(folder: Path) -> Path:
    folder.mkdir()
    for name in ("Snakefile", "config.yaml", "workflow", "profiles", "config"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    return folder


def start(folder: Path, environment: dict, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "vbon.cli", "workflow", *options]
    with open(folder / "log.txt", "a") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment)


def finish(process: subprocess.Popen, folder: Path, seconds: float = 1500) -> str:
    code = process.wait(timeout=seconds)
    log = (folder / "log.txt").read_text()
    assert code == 0, log[-4000:]
    return log


def wait_for(reached, seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.5)


def drain_for_a_while(cluster: Cluster) -> None:
    """No job starts on a drained node; those that run end as they would."""
    node = f"nodename={cluster.node}"
    cluster.call("scontrol", "update", node, "state=drain", "reason=test")
    wait_for(lambda: cluster.state() == "drained")
    wait_for(lambda: cluster.call("squeue", "--noheader", "--states=PENDING") != "")
    time.sleep(15)
    assert cluster.state() == "drained"
    assert cluster.call("squeue", "--noheader", "--states=RUNNING") == ""
    cluster.call("scontrol", "update", node, "state=resume")


def test_smoke_through_a_cluster_that_is_drained_midway_gives_the_local_numbers(cluster, tmp_path):
    local, remote = make_checkout(tmp_path / "local"), make_checkout(tmp_path / "remote")
    overlay = ("--configfile", "config/smoke.yaml")
    process = start(remote, cluster.environment, *SLURM, *overlay)
    wait_for(lambda: any(remote.glob("results-smoke/*/runs/**/run.json")))
    drain_for_a_while(cluster)
    finish(process, remote)
    jobs = cluster.call("scontrol", "--oneliner", "show", "jobs").splitlines()
    assert len(jobs) > 50  # one for each job of the workflow
    assert sum("gres:gpu" in job or "gpu:" in job for job in jobs) >= 10
    finish(start(local, dict(os.environ), "--cores", "2", *overlay), local)
    for task in ("enumerable", "sentiment", "summarization"):
        tables = [folder / "results-smoke" / task / "points.csv" for folder in (local, remote)]
        assert tables[0].read_bytes() == tables[1].read_bytes()


def test_a_failed_run_is_retried_and_one_over_its_walltime_gets_more(cluster, tmp_path):
    folder = make_checkout(tmp_path / "checkout")
    (folder / "config.yaml").write_text(yaml.safe_dump(SMALL))
    for name, act in (("Stumbling", FAIL), ("Dawdling", SLEEP)):
        (folder / "methods").mkdir(exist_ok=True)
        (folder / f"methods/{name.lower()}.py").write_text(STUMBLING.format(name=name, act=act))
    own = {"VBON_METHODS": str(folder / "methods"), "VBON_MARKS": str(folder / "methods")}
    limits = ("--default-resources", "mem_mb=4000", "runtime=3*attempt-1")
    known = set(cluster.call("squeue", "--noheader", "--states=all", "--format=%A").split())
    log = finish(start(folder, cluster.environment | own, *SLURM, *limits), folder)
    assert log.count("Trying to restart job") >= 2
    jobs = [
        dict(word.partition("=")[::2] for word in line.split() if "=" in word)
        for line in cluster.call("scontrol", "--oneliner", "show", "jobs").splitlines()
    ]
    limits = {"FAILED": set(), "TIMEOUT": set(), "COMPLETED": set()}
    for job in jobs:
        if job["JobId"] not in known:
            limits[job["JobState"]].add(job["TimeLimit"])
    # A slow machine may let more than these two fail at first.
    assert "00:02:00" in limits["FAILED"]
    assert "00:02:00" in limits["TIMEOUT"]
    assert {"00:02:00", "00:05:00"} <= limits["COMPLETED"]
    assert len(list((folder / "methods").glob("Stumbling-*"))) >= 2
    assert len(list((folder / "methods").glob("Dawdling-*"))) >= 2
    points = pd.read_csv(folder / "results/enumerable/points.csv")
    assert list(points["method"]) == ["reference", "vbon", "stumbling", "dawdling"]
    assert (points["status"] == "ok").all()

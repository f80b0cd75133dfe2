"""The workflow through a real SLURM: the same numbers, and what becomes of jobs that end badly.

One sweep is taken through it, the smoke benchmark with studies of its own: a run of one fails at
first, and the only run of the other takes longer than its job may. Every test looks at that sweep.
"""

import collections
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
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
SMOKE = ("--configfile", "config/smoke.yaml")
SLURM = (
    *("--workflow-profile", "profiles/slurm"),
    *("--slurm-init-seconds-before-status-checks", "5"),
    *("--set-resources", "train_enumerable_0:runtime=2*attempt-1"),  # minutes
)
TASKS = os.environ.get("VBON_SLURM", "").split()

METHOD = '''
"""PPO with a mishap on the cluster."""
import os
import time
from dataclasses import dataclass
from pathlib import Path

from vbon.methods.base import Online
from vbon.methods.registry import register


@register
@dataclass(frozen=True, kw_only=True)
class {name}(Online):
    """PPO with a mishap on the cluster."""

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
METHODS = {
    "Stumbling": "assert len(list(mark.parent.glob('Stumbling-*'))) > 1, 'stumbled'",
    "Dawdling": "time.sleep(95)",  # SLURM looks at the time every half minute
}
STUDIES = {
    "sentiment": {
        "shaky": {"run_methods": ["stumbling"], "methods": {"stumbling": {"kl_coef": 1}}}
    },
    "enumerable": {"slow": {"run_methods": ["dawdling"], "methods": {"dawdling": {"kl_coef": 1}}}},
}


@dataclass
class Sweep:
    """What is left of the sweep."""

    folder: Path
    jobs: list[dict[str, str]]
    """Of SLURM."""
    drained: list[tuple[int, int]]
    """Jobs that ran and that waited, each second of the time in which the node was drained."""

    def of(self, rule: str) -> list[dict[str, str]]:
        """A rule's jobs, first attempts first."""
        return [job for job in self.jobs if job["Comment"] == f"rule_{rule}"]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """The sweep, on a cluster whose node is drained when the first jobs run."""
    tmp_path = tmp_path_factory.mktemp("slurm")
    folder, cluster = make_checkout(tmp_path / "checkout"), Cluster(tmp_path)
    marks = {"VBON_METHODS": str(folder / "methods"), "VBON_MARKS": str(folder / "methods")}
    started = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends in order, as Ctrl-C does
    try:
        cluster.start()
        process = start(folder, cluster.environment | marks, *SLURM, *SMOKE, "studies.yaml")
        try:
            drained = drain_for_a_while(cluster, process)
            finish(process, folder)
        finally:
            with contextlib.suppress(ProcessLookupError):  # as it should be
                os.killpg(process.pid, signal.SIGKILL)
        jobs = cluster.jobs()
    finally:
        cluster.stop()
    states = collections.Counter(job["JobState"] for job in jobs)
    print(f"{len(jobs)} jobs in {time.monotonic() - started:.0f} s: {dict(states)}")
    return Sweep(folder, jobs, drained)


def make_checkout(folder: Path) -> Path:
    folder.mkdir()
    for name in ("Snakefile", "config.yaml", "workflow", "profiles", "config"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    studies = {task: {"studies": {**without(task), **own}} for task, own in STUDIES.items()}
    (folder / "studies.yaml").write_text(yaml.safe_dump({"tasks": TASKS, **studies}))
    (folder / "methods").mkdir()
    for name, act in METHODS.items():
        (folder / f"methods/{name.lower()}.py").write_text(METHOD.format(name=name, act=act))
    return folder


def without(task: str) -> dict[str, None]:
    """A task's own studies, to be left out: they are more of the same."""
    return dict.fromkeys(yaml.safe_load((ROOT / "config.yaml").read_text())[task]["studies"])


def start(folder: Path, environment: dict, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "vbon.cli", "workflow", *options]
    with open(folder / "log.txt", "a") as log:
        settings = {"stdout": log, "stderr": log, "cwd": folder, "env": environment}
        return subprocess.Popen(command, **settings, start_new_session=True)


def finish(process: subprocess.Popen, folder: Path) -> None:
    assert process.wait(timeout=1800) == 0, (folder / "log.txt").read_text()[-4000:]


def wait_for(reached, process: subprocess.Popen, seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert process.poll() is None, f"the workflow ended with code {process.returncode}"
        assert time.monotonic() < end
        time.sleep(0.5)


def drain_for_a_while(cluster: Cluster, process: subprocess.Popen) -> list[tuple[int, int]]:
    """Take the only node out of service under the first jobs, and back when others wait."""
    node = f"nodename={cluster.node}"
    wait_for(lambda: cluster.queue("RUNNING"), process)
    cluster.call("scontrol", "update", node, "state=drain", "reason=test")
    wait_for(lambda: cluster.state() == "drained", process)
    wait_for(lambda: cluster.queue("PENDING"), process)
    found = []
    for _ in range(5):
        found.append((len(cluster.queue("RUNNING")), len(cluster.queue("PENDING"))))
        time.sleep(1)
    cluster.call("scontrol", "update", node, "state=resume")
    return found


def test_a_cluster_gives_the_numbers_of_this_machine(sweep):
    """The smoke benchmark of this folder, which `make smoke` makes, byte by byte."""
    with open(sweep.folder / "local.txt", "w") as log:
        command = [sys.executable, "-m", "vbon.cli", "workflow", "--cores", "2", *SMOKE]
        subprocess.run(command, stdout=log, stderr=log, cwd=ROOT, check=True)
    for task in TASKS:
        tables = [folder / f"results-smoke/{task}/points.csv" for folder in (ROOT, sweep.folder)]
        assert tables[0].read_bytes() == tables[1].read_bytes()
        figures = [
            {path.name for path in folder.glob(f"results-smoke/{task}/figures/*")}
            for folder in (ROOT, sweep.folder)
        ]
        assert figures[1]
        assert figures[1] <= figures[0]


def test_afterwards_nothing_is_left_to_do(sweep):
    """What makes a job run again was recorded, though the jobs of a cluster compute none of it."""
    marks = {"VBON_METHODS": str(sweep.folder / "methods")}
    command = [sys.executable, "-m", "vbon.cli", "workflow", "-n", *SMOKE, "studies.yaml"]
    settings = {"cwd": sweep.folder, "env": os.environ | marks, "capture_output": True}
    done = subprocess.run(command, **settings, text=True, check=True)
    assert "Nothing to be done" in done.stdout + done.stderr


def test_jobs_that_run_models_have_a_gpu_each(sweep):
    using = [job for job in sweep.jobs if "gpu" in job.get("TresPerJob", "")]
    rules = {job["Comment"].partition("_wildcards")[0] for job in using}
    phases = {f"rule_{phase}_{task}_0" for phase in ("train", "evaluate") for task in TASKS}
    pools = {f"rule_score_{task}_train" for task in TASKS if task != "enumerable"}
    assert phases | pools <= rules
    at_once = [
        sum(other["StartTime"] <= job["StartTime"] < other["EndTime"] for other in using)
        for job in using
    ]
    assert max(at_once) == 2  # as many as there are


def test_what_takes_a_second_or_two_is_no_job(sweep):
    rules = {job["Comment"].partition("_wildcards")[0].removeprefix("rule_") for job in sweep.jobs}
    computing = {"pareto", "optimum"} | ({"section6"} if "summarization" in TASKS else set())
    assert computing < rules  # they resample
    assert rules.isdisjoint({"merge", "logf", "aggregate", "claims", "figure", "table", "headline"})


def test_jobs_wait_while_the_node_is_drained(sweep):
    running, waiting = zip(*sweep.drained, strict=True)
    assert set(running) == {0}
    assert min(waiting) > 0


def test_a_job_whose_run_fails_is_tried_again_for_that_run_alone(sweep):
    failed, again = sweep.of("train_sentiment_0")
    assert (failed["JobState"], again["JobState"]) == ("FAILED", "COMPLETED")
    assert (failed["TimeLimit"], again["TimeLimit"]) == ("02:00:00", "04:00:00")
    before, last = trained(sweep, "sentiment")
    assert last == ["stumbling"]
    assert len(before) + len(last) == runs(sweep, "sentiment")
    assert status(sweep, "sentiment/studies/shaky") == ["ok"]


def test_a_job_over_its_walltime_gets_more_for_the_runs_that_are_left(sweep):
    cut, *more, again = sweep.of("train_enumerable_0")  # one more on a slow machine
    assert (cut["JobState"], again["JobState"]) == ("TIMEOUT", "COMPLETED")
    limits = [job["TimeLimit"] for job in (cut, *more, again)]
    assert limits == ["00:01:00", "00:03:00", "00:05:00"][: len(limits)]
    *before, last = trained(sweep, "enumerable")
    assert last[-1] == "dawdling"
    assert len(sum(before, last)) == runs(sweep, "enumerable")  # none was trained again
    assert status(sweep, "enumerable/studies/slow") == ["ok"]


def trained(sweep: Sweep, task: str) -> list[list[str]]:
    """Methods of the runs that each attempt at a task's only training job finished."""
    *bad, _ = sweep.of(f"train_{task}_0")  # what the last says is no longer with SLURM
    logs = [*(job["StdOut"] for job in bad), sweep.folder / f"logs/{task}/train-{task}_0.log"]
    return [re.findall(r"runs  (\S+) ", Path(log).read_text()) for log in logs]


def runs(sweep: Sweep, task: str) -> int:
    return len(list((sweep.folder / f"results-smoke/{task}").rglob("seed*/run.json")))


def status(sweep: Sweep, root: str) -> list[str]:
    return list(pd.read_csv(sweep.folder / f"results-smoke/{root}/points.csv")["status"])

"""Several processes train what one does; what goes wrong in one of them ends no other's waiting."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import several
import torch
from test_runs import ONLINE, carry, make_run, make_world, record_of

from vbon.artifacts import read_table
from vbon.errors import ConfigError
from vbon.rewards.function import NAME, SOURCE
from vbon.training.compute import Compute
from vbon.training.parallel import explain, gathered, launch, share_of

HERE = Path(__file__).parent
SEEN = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(HERE.parent), *sys.path])}
FAILING = """import os
def score(texts):
    return None if os.environ["RANK"] == "1" else [0] * len(texts)
"""


@pytest.mark.workflow
def test_two_processes_train_what_one_does(tmp_path):
    """Online and offline, with minibatches that cannot be divided and one of a single row."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launcher, HERE / "several.py", tmp_path / "found.pt"]
    subprocess.run(command, check=True, env=os.environ | SEEN, capture_output=True)
    first, second = torch.load(tmp_path / "found.pt", weights_only=False)
    start = torch.cat([part.detach().flatten() for part in several.double().parameters()])
    for name, alone in several.trained().items():
        for found in (first[name], second[name]):
            assert found["weights"].dtype == torch.float64
            torch.testing.assert_close(found["weights"], alone["weights"], rtol=0, atol=1e-9)
            assert len(found["rows"]) == len(alone["rows"]) > 0
            for ours, theirs in zip(found["rows"], alone["rows"], strict=True):
                assert ours == pytest.approx(theirs, abs=1e-9, nan_ok=True)
            assert found["tokens"] == alone["tokens"]
        assert torch.equal(first[name]["weights"], second[name]["weights"])
        if len(start) <= len(alone["weights"]):  # not of low-rank updates, which start at random
            assert (alone["weights"][: len(start)] - start).abs().max() > 5e-4


def processes_of(launcher):
    """The processes that share the work, by rank."""
    found = {}
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        words = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        found |= {int(word[5:]): int(child) for word in words if word.startswith(b"RANK=")}
    return found


def wait_for(path, job, seconds=120):
    end = time.monotonic() + seconds
    while not path.exists():
        assert job.poll() is None, job.communicate()
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.05)


@pytest.mark.workflow
def test_a_job_goes_on_after_an_error_in_one_process_and_ends_with_one_that_is_killed(tmp_path):
    world = make_world(tmp_path / "world")
    bad, alone = (shutil.copytree(world, tmp_path / name) for name in ("bad", "alone"))
    shutil.rmtree(bad / "models/reward_model")
    (bad / "models/reward_model").mkdir()
    (bad / "models/reward_model" / SOURCE).write_text(FAILING)
    (bad / "models/reward_model" / NAME).write_text("score")
    gently = dataclasses.replace(ONLINE, learning_rate=1e-4)  # AdamW blows up rounding
    failing, good = make_run(bad, "ppo", kl_coef=0.1), make_run(world, online=gently)
    long = make_run(world, seed=1, online=dataclasses.replace(ONLINE, iterations=10**6))
    runs = json.dumps([run.to_json() for run in (failing, good, long)])
    command = [sys.executable, "-m", "vbon.cli", "train", "--processes", "2", "--runs", runs]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    job = subprocess.Popen(command, env=os.environ | SEEN, **streams)
    try:
        wait_for(Path(long.folder).with_name(".seed1.partial"), job)
        os.kill(processes_of(job.pid)[1], signal.SIGKILL)
        out, err = job.communicate(timeout=60)
    finally:
        job.kill()
    assert job.returncode == 1
    assert "vbon train: one of 2 processes was stopped by SIGKILL" in err
    assert out.count("vbon n4 seed 0: ") == 1  # the main process alone tells
    assert not Path(failing.folder).exists()
    assert not Path(long.folder).exists()
    assert good.is_done()
    assert record_of(good)["hardware"].endswith(", 2 processes")
    same = make_run(alone, online=gently)
    carry(same)
    rows, expected = (
        read_table(Path(run.folder) / "history.parquet", "history") for run in (good, same)
    )
    for name in expected.columns.drop("seconds"):
        assert rows[name].tolist() == pytest.approx(expected[name].tolist(), rel=1e-3, abs=1e-3)


def test_a_process_on_its_own_shares_nothing():
    assert gathered(lambda: 1) == [1]
    assert share_of(3).tolist() == [0, 1, 2]
    assert explain(3) == "ended with code 3, see above"


def test_fewer_gpus_than_processes_are_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(
        ConfigError, match="gpus_per_job: 2 processes need a GPU each, this job has 1"
    ):
        launch(2, ["train"])


class Processes:
    """A stand-in for accelerate's state."""

    def __init__(self, index, num_processes):
        self.process_index, self.num_processes = index, num_processes


@pytest.mark.parametrize("rows_per_pass", [None, 2])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_passes_of_all_processes_cover_every_row_once(monkeypatch, count, rows_per_pass):
    weights, rows, mean = torch.tensor([3, 1, 4, 1, 5]), [], 0.0
    values = torch.tensor([2.0, 7.0, 1.0, 8.0, 2.0], dtype=torch.float64)
    for index in range(count):
        monkeypatch.setattr("vbon.training.parallel._state", Processes(index, count))
        parts = Compute(rows_per_pass=rows_per_pass).passes(weights)
        assert parts  # each process has a gradient to add
        for part, share in parts:
            assert rows_per_pass is None or len(part) <= rows_per_pass
            rows += part.tolist() * (share > 0)
            mean += share * (weights[part] * values[part]).sum() / weights[part].sum()
    assert rows == list(range(5))
    assert mean == pytest.approx(((weights * values).sum() / weights.sum()).item(), rel=1e-12)

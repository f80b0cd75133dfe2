"""The paper's own configurations are planned as a whole, with no network and no model at hand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
NOWHERE = {"HF_ENDPOINT": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}


def called(tmp_path, *command):
    away = NOWHERE | {"HF_HOME": str(tmp_path / "empty")}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=os.environ | away,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.workflow
@pytest.mark.parametrize(
    ("name", "task", "sweep", "last"),
    [
        ("paper-sentiment", "sentiment", 195, "238 runs, to train: 222"),
        ("paper-summarization", "summarization", 6, "8 runs, to train: 6"),
    ],
)
def test_the_paper_is_planned_without_network(tmp_path, name, task, sweep, last):
    overlay = ["--configfile", f"config/{name}.yaml"]
    lines = called(tmp_path, "vbon.cli", "plan", *overlay).splitlines()
    own = [line.split()[1] for line in lines if line.startswith(f"{task} ")]
    assert sum(method not in ("reference", "best_of_n") for method in own) == sweep
    assert lines[-1] == last
    printed = called(tmp_path, "snakemake", "-n", "--cores", "1", "--quiet", "host", *overlay)
    counts = dict(line.split() for line in printed.splitlines() if len(line.split()) == 2)
    runs = int(last.split()[0])
    assert sum(job.startswith(f"train_{task}_") for job in counts) == runs  # a job a run
    assert counts["build"] == "3"
    assert any(job.startswith(f"sample_{task}") for job in counts)
    assert {"aggregate", "figure"} <= set(counts)

"""Files of the user's in a real graph: content decides, a missing one stops before any job."""

import copy
import os
import subprocess
import sys

import pytest
from checkout import BUILT, environment, make_checkout, planned_jobs, run
from checkout import copy as copied

pytestmark = pytest.mark.workflow

TEXTS = "results/sentiment/data/texts.parquet"
REWARD = "results/sentiment/models/reward_model/card.json"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A checkout with texts of a file and a reward of a function."""
    config = copy.deepcopy(BUILT)
    config["sentiment"]["reviews"] |= {"source": "my.jsonl", "num_reviews": None}
    config["sentiment"]["reward_model"] = {"callable": "reward.py:rewards"}
    folder = make_checkout(tmp_path_factory.mktemp("own") / "checkout", config)
    rows = [f'{{"text": "film {k} is a {k % 7} of {k % 5}", "label": {k % 2}}}' for k in range(300)]
    (folder / "my.jsonl").write_text("\n".join(rows) + "\n")
    code = "def rewards(texts):\n    return [float(len(text)) for text in texts]\n"
    (folder / "reward.py").write_text(code)
    run(folder, "--cores", "1", "--", TEXTS, REWARD)
    return folder


def test_content_of_a_file_decides_and_not_its_time(finished, tmp_path):
    folder = copied(finished, tmp_path / "checkout")
    assert planned_jobs(folder, "--", TEXTS, REWARD) == {}
    for name in ("my.jsonl", "reward.py"):
        os.utime(folder / name)
    assert planned_jobs(folder, "--", TEXTS, REWARD) == {}
    code = folder / "reward.py"
    code.write_text(code.read_text().replace("len(text)", "2 * len(text)"))
    assert planned_jobs(folder, "--", TEXTS, REWARD) == {"build": 1, "total": 1}
    data = folder / "my.jsonl"
    data.write_text("".join(data.read_text().splitlines(keepends=True)[:250]))
    assert planned_jobs(folder, "--", TEXTS, REWARD) == {"texts": 1, "build": 1, "total": 2}


def test_a_missing_file_or_a_repeated_key_stops_bare_snakemake_too(finished, tmp_path):
    folder = copied(finished, tmp_path / "checkout")
    (folder / "twice.yaml").write_text("seed: 0\nseed: 0\n")

    def refusal(*options):
        command = [sys.executable, "-m", "snakemake", "-n", "--cores", "1", *options]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=folder, env=environment(folder)
        )
        assert done.returncode == 1
        assert "Traceback" not in done.stdout + done.stderr
        return done.stdout + done.stderr

    assert "twice.yaml: line 2: 'seed' is already" in refusal("--configfile", "twice.yaml")
    (folder / "my.jsonl").unlink()
    assert "sentiment.reviews.source: 'my.jsonl' does not exist" in refusal()

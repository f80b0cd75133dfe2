"""The state of a sweep while it goes on, from folders made by hand."""

import fcntl
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from vbon.analysis.progress import Points, failure_of, seconds_left, states
from vbon.artifacts import write_table
from vbon.artifacts.storage import atomic_folder
from vbon.artifacts.tables import write_record
from vbon.cli import main
from vbon.evaluation.points import Pool
from vbon.planning.config import load
from vbon.planning.runs import expand, roots

ROOT = Path(__file__).parent.parent.parent
STUDIES = ("equivalence", "figure4", "estimators", "unequal", "heavy_tail")
OVERLAY = {
    "tasks": ["sentiment"],
    "run_methods": ["reference", "ppo"],
    "methods": {"ppo": {"kl_coef": [0.1, 1], "seeds": [0, 1]}},
    "sentiment": {"studies": dict.fromkeys(STUDIES)},
}


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """The runs of a small sweep in an empty folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text((ROOT / "config.yaml").read_text())
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(OVERLAY))
    config = load(["config.yaml", "small.yaml"])
    return expand(config), {root.folder: root for root in roots(config, "sentiment")}


def finish(run, seconds=4.0, status="ok", spec=None):
    """Leave what a run leaves."""
    with atomic_folder(run.folder) as partial:
        record = {"status": status, "train_seconds": seconds, "spec": spec or dict(run.spec)}
        write_record(partial / "run.json", {**record, "key": "k"})


def responses(run, rewards):
    """Responses to two prompts, three of each."""
    count = len(rewards)
    table = pd.DataFrame({"prompt_id": ["a", "b"] * (count // 2), "reward": rewards})
    table["draw"] = np.arange(count) // 2
    table = table.assign(response="r", response_ids=[[1, 2]] * count, finished=True, kl=0.5)
    table = table.assign(log_prob=-1.0, log_prob_ref=-1.5, kl_k3=0.4, sample_seed=0)
    table["reward_prob"] = table["evaluator_reward"] = table["reward"]
    write_table(Path(run.folder) / "responses/test.parquet", table, "responses")


def pool(run):
    """Reference rewards 0, 1, 2, 3 of the same prompts."""
    rewards = pd.DataFrame({"prompt_id": ["a"] * 4 + ["b"] * 4, "draw": [0, 1, 2, 3] * 2})
    rewards["reward"] = rewards["reward_prob"] = rewards["draw"].astype(float)
    rewards["evaluator_reward"] = rewards["reward"]
    write_table(run.evaluation_inputs("test")["rewards"], rewards, "rewards")


def test_each_state_is_told_by_what_lies_there(sweep):
    runs, _ = sweep
    trained = [run for run in runs if run.method == "ppo"]
    assert set(states(runs, alive=True)["state"]) == {"waiting"}
    finish(trained[0])
    finish(trained[1], status="diverged")
    failure_of(trained[2].folder).parent.mkdir(parents=True)
    failure_of(trained[2].folder).write_text("its process was killed\n")
    with atomic_folder(trained[3].folder):
        found = states(trained, alive=True)
        assert list(found["state"]) == ["done", "done", "failed", "running"]
        assert list(found["message"]) == ["", "diverged", "its process was killed", ""]
        # What a killed workflow left behind is not running.
        assert states(trained, alive=False)["state"].iloc[3] == "waiting"


def test_a_run_of_another_config_is_not_done(sweep):
    runs, _ = sweep
    finish(runs[1], spec={**runs[1].spec, "seed": 99})
    assert states(runs, alive=False)["state"].iloc[1] == "waiting"


def test_the_end_is_told_from_the_closest_runs_that_are_done():
    rows = [
        ("sentiment", "", "ppo", "done", 2.0),
        ("sentiment", "", "ppo", "waiting", None),  # 2: its own method's
        ("sentiment", "figure4", "ppo", "waiting", None),  # 2: of the method elsewhere
        ("sentiment", "", "dpo", "running", None),  # half of 3: no other dpo, so of all
        ("sentiment", "", "vbon", "done", 4.0),
        ("sentiment", "", "vbon", "running", None),  # half of 4
        ("sentiment", "", "vbon", "failed", None),  # 4
        ("sentiment", "", "reference", "waiting", None),  # nothing: it is not trained
    ]
    table = pd.DataFrame(rows, columns=["task", "study", "method", "state", "seconds"])
    table["trained"] = table["method"] != "reference"
    assert seconds_left(table) == pytest.approx((2 + 2 + 1.5 + 2 + 4) / 2)
    assert np.isnan(seconds_left(table[table["state"] != "done"]))
    assert seconds_left(table[table["state"] == "done"]) == 0


def test_points_are_those_of_measured_runs_and_are_read_once(sweep, monkeypatch):
    runs, sources = sweep
    ppo = runs[1]
    points = Points(sources)
    assert points.of(runs).empty
    pool(ppo)
    responses(ppo, [2.0, 2.0, 3.0, 3.0])
    found = points.of(runs)
    assert found[["method", "setting", "seed"]].to_numpy().tolist() == [["ppo", "beta0.1", 0]]
    assert found["win_rate"].item() == pytest.approx((2.5 / 4 + 3.5 / 4) / 2)
    assert found["kl"].item() == pytest.approx(0.5)
    monkeypatch.setattr(Pool, "load", None)  # nothing is read again
    pd.testing.assert_frame_equal(points.of(runs), found)


def test_watch_tells_counts_failures_and_points(sweep, capsys, tmp_path):
    runs, _ = sweep
    finish(runs[1])
    pool(runs[1])
    responses(runs[1], [2.0, 2.0])
    failure_of(runs[2].folder).parent.mkdir(parents=True, exist_ok=True)
    failure_of(runs[2].folder).write_text("its process was killed")
    arguments = ["watch", "--once", "--configfile", "small.yaml", "--points", "now.csv"]
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert "5 runs: 1 done, 0 running, 1 failed, 3 waiting; 1 measured" in told
    assert "about 0:12 of training left; no workflow is running here" in " ".join(told.split())
    assert "failed sentiment ppo beta0.1 seed 1: its process was killed" in told
    assert pd.read_csv("now.csv")["win_rate"].item() == pytest.approx(0.625)


def test_watch_sees_that_a_workflow_runs(sweep, capsys):
    with open(".vbon.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["watch", "--once", "--configfile", "small.yaml"]) == 0
    assert "no workflow is running" not in capsys.readouterr().out


@pytest.mark.parametrize("seconds", ["0", "nan", "often"])
def test_watch_refuses_a_time_that_is_none(seconds, capsys):
    with pytest.raises(SystemExit):
        main(["watch", "--every", seconds])
    assert f"'{seconds}'" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[/INST]", "a [/x] b", "[red]no[/red]", "back\\", "[link=x]"])
def test_watch_prints_messages_as_they_are(sweep, capsys, text):
    """Errors quote texts of models, which may look like the markup of the terminal."""
    runs, _ = sweep
    failure_of(runs[3].folder).parent.mkdir(parents=True, exist_ok=True)
    failure_of(runs[3].folder).write_text(f"the reward of {text} is missing")
    assert main(["watch", "--once", "--configfile", "small.yaml"]) == 0
    assert f"the reward of {text} is missing" in " ".join(capsys.readouterr().out.split())

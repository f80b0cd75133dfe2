"""Damaged artifacts are found, set aside and requested again; others are left alone."""

import os

import pandas as pd
import pytest

from vbon.artifacts import write_table
from vbon.artifacts.integrity import find_damage, set_aside
from vbon.artifacts.tables import write_json, write_record

REWARDS = pd.DataFrame({"text": ["a", "b"], "reward": [0.5, 1.5]})
RUN, STUDY = "task/runs/vbon/n4/seed0", "task/studies/one/runs/vbon/n4/seed0"


@pytest.fixture
def results(tmp_path):
    """A task and a study of it, with one run each."""
    folder = tmp_path / "runs"  # a name that also occurs below it
    for name in ("reference/rewards/train", "prompts/test", "points", "studies/one/points"):
        write_table(folder / f"task/{name}.parquet", REWARDS, "text_rewards")
    for run in (RUN, STUDY):
        (folder / run / "policy").mkdir(parents=True)
        (folder / run / "policy/weights").write_text("weights")
        write_record(folder / run / "run.json", {"key": "k"})
        write_table(folder / run / "responses/test.parquet", REWARDS, "text_rewards")
    (folder / "task/models/reference").mkdir(parents=True)
    (folder / "task/models/reference/weights").write_text("weights")
    write_record(folder / "task/models/reference/card.json", {"key": "k"})
    (folder / "task/evaluated").mkdir()
    (folder / "task/evaluated/task_0").touch()
    (folder / "task/reference/.half.parquet").write_bytes(b"an interrupted writer's")
    write_json(folder / "task/tables/data.json", {"no": "record"})
    return folder


def cut(path):
    os.truncate(path, path.stat().st_size - 1)


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_intact_artifacts_are_left_alone(results):
    before = files(results)
    assert find_damage(results) == {}
    assert set_aside(results) == ({}, [])
    assert files(results) == before
    assert set_aside(results / "nothing") == ({}, [])


def test_a_damaged_table_is_set_aside_and_requested(results):
    path, before = results / "task/reference/rewards/train.parquet", files(results)
    cut(path)
    messages, requests = set_aside(results)
    assert list(messages) == [path]
    assert "is damaged" in messages[path]
    assert requests == [str(path)]
    name = str(path.relative_to(results))
    assert files(results) == before - {name} | {f"{name}.damaged"}


def test_a_model_with_a_changed_file_is_requested(results):
    (results / "task/models/reference/weights").write_text("other")
    card = results / "task/models/reference/card.json"
    messages, requests = set_aside(results)
    assert requests == [str(card)]
    assert "weights changed since" in messages[card]


@pytest.mark.parametrize(("run", "points"), [(RUN, "task"), (STUDY, "task/studies/one")])
def test_a_damaged_run_removes_the_points_of_its_root(results, run, points):
    (results / run / "policy/weights").unlink()
    before = files(results)
    messages, requests = set_aside(results)
    assert list(messages) == [results / run / "run.json"]
    assert requests == []  # points are requested in any case, and request the run
    gone = {f"{run}/run.json", f"{points}/points.parquet"}
    assert files(results) == before - gone | {f"{run}/run.json.damaged"}


@pytest.mark.parametrize("run", [RUN, STUDY])
def test_damaged_responses_are_measured_again(results, run):
    path = results / run / "responses/test.parquet"
    cut(path)
    messages, requests = set_aside(results)
    assert list(messages) == [path]
    assert requests == []
    assert not (results / "task/evaluated/task_0").exists()
    assert (results / run / "run.json").exists()

"""Damaged artifacts are found, set aside and requested again; others are left alone."""

import os
import random
from contextlib import suppress

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vbon.artifacts import read_table, write_table
from vbon.artifacts.integrity import find_damage, set_aside
from vbon.artifacts.tables import write_json, write_record
from vbon.errors import ArtifactError

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
    assert set_aside(results, ["task"]) == ({}, [])
    assert files(results) == before
    assert set_aside(results / "nothing", ["task"]) == ({}, [])


def test_a_damaged_table_is_set_aside_and_requested(results):
    path, before = results / "task/reference/rewards/train.parquet", files(results)
    cut(path)
    messages, requests = set_aside(results, ["task"])
    assert list(messages) == [path]
    assert "is damaged" in messages[path]
    assert requests == [str(path)]
    name = str(path.relative_to(results))
    assert files(results) == before - {name} | {f"{name}.damaged"}


def test_a_model_with_a_changed_file_is_requested(results):
    (results / "task/models/reference/weights").write_text("other")
    card = results / "task/models/reference/card.json"
    messages, requests = set_aside(results, ["task"])
    assert requests == [str(card)]
    assert "weights changed since" in messages[card]


@pytest.mark.parametrize(("run", "points"), [(RUN, "task"), (STUDY, "task/studies/one")])
def test_a_damaged_run_removes_the_points_of_its_root(results, run, points):
    (results / run / "policy/weights").unlink()
    before = files(results)
    messages, requests = set_aside(results, ["task"])
    assert list(messages) == [results / run / "run.json"]
    assert requests == []  # points are requested in any case, and request the run
    gone = {f"{run}/run.json", f"{points}/points.parquet"}
    assert files(results) == before - gone | {f"{run}/run.json.damaged"}


@pytest.mark.parametrize("run", [RUN, STUDY])
def test_damaged_responses_are_measured_again(results, run):
    path = results / run / "responses/test.parquet"
    cut(path)
    messages, requests = set_aside(results, ["task"])
    assert list(messages) == [path]
    assert requests == []
    assert not (results / "task/evaluated/task_0").exists()
    assert (results / run / "run.json").exists()


@pytest.mark.parametrize("part", ["anywhere", "footer"])
def test_a_flipped_bit_is_damage_and_never_another_error(tmp_path, part):
    path = tmp_path / "results/task/points.parquet"
    write_table(path, REWARDS, "text_rewards", {"settings": {"seed": 0}, "code": "x", "key": "k"})
    content, rows = path.read_bytes(), read_table(path, "text_rewards")
    start = content.index(b'{"code"') if part == "footer" else 0
    generator = random.Random(0)
    damaged = 0
    for _ in range(200):
        place, bit = generator.randrange(start, len(content)), 1 << generator.randrange(8)
        path.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
        os.utime(path, ns=(0, generator.randrange(2**60)))  # hashes are cached by time
        messages = find_damage(tmp_path / "results")
        damaged += len(messages)
        assert set(messages) <= {path}
        for message in messages.values():
            assert str(path) in message
            assert "\n" not in message
        with suppress(ArtifactError):
            assert read_table(path, "text_rewards").equals(rows)
    assert damaged > 25


@pytest.mark.parametrize("footer", ["[]", "null", "3", '{"content": []}', "[" * 100_000, "\x00"])
def test_footers_that_are_no_provenance(tmp_path, footer):
    path = tmp_path / "points.parquet"
    metadata = {b"vbon": footer.encode()}
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata(metadata), path)
    assert list(find_damage(tmp_path)) == [path]
    set_aside(tmp_path, ["."])
    assert files(tmp_path) == {"points.parquet.damaged"}


@pytest.mark.parametrize(
    "text",
    [
        *['{"key": "k", "parts": []}', '{"key": "k", "parts": null}', "[]", "null", "[" * 100_000],
        *[
            '{"key": "k", "parts": {"weights": 3}}',
            '{"key": "k", "parts": {"\\u0000": "x"}}',
            "\xff",
        ],
    ],
)
def test_records_that_are_no_records(tmp_path, text):
    path = tmp_path / "task/models/reference/card.json"
    path.parent.mkdir(parents=True)
    path.with_name("weights").write_text("weights")
    path.write_bytes(text.encode("latin-1"))
    assert list(find_damage(tmp_path)) == [path]
    messages, requests = set_aside(tmp_path, ["task"])
    assert (list(messages), requests) == ([path], [str(path)])


def test_a_folder_in_the_place_of_a_record_or_table(tmp_path):
    for name in (f"{RUN}/run.json", "task/points.parquet"):
        (tmp_path / name).mkdir(parents=True)
    assert {path.name for path in find_damage(tmp_path)} == {"run.json", "points.parquet"}
    set_aside(tmp_path, ["task"])
    assert (tmp_path / f"{RUN}/run.json.damaged").is_dir()


def test_damage_in_a_folder_on_another_disk_is_found(results, tmp_path):
    (results / "task").rename(tmp_path / "disk")
    (results / "task").symlink_to(tmp_path / "disk")
    path = results / "task/reference/rewards/train.parquet"
    cut(path)
    messages, requests = set_aside(results, ["task"])
    assert (list(messages), requests) == ([path], [str(path)])
    (results / "task/again").symlink_to(tmp_path / "disk")  # a circle
    assert find_damage(results) == {}

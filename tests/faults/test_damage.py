"""Files that a disk or a hand changed: found, set aside, made again."""

import shutil

import pandas as pd
import pytest
from checkout import POINTS, copy, plan, planned_jobs, run, same_points

from vbon.artifacts.integrity import find_damage

pytestmark = pytest.mark.faults


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


def edit_by_hand(path):
    table = pd.read_parquet(path)
    table.loc[0, "reward"] += 1
    table.to_parquet(path)


def empty(path):
    path.write_bytes(b"")


DAMAGE = {
    "reference/shards/samples-train-0.parquet": truncate,
    "reference/shards/rewards-train-1.parquet": edit_by_hand,
    "reference/rewards/test.parquet": flip_a_bit,
    "runs/vbon/n4/seed0/responses/test.parquet": edit_by_hand,
    "runs/ppo/beta0.5/seed0/policy/model.safetensors": flip_a_bit,
    "runs/vbon/n4/seed0/history.parquet": empty,
    "models/evaluator/model.safetensors": truncate,
}


def test_damaged_files_are_found_and_made_again(built, tmp_path):
    folder = copy(built, tmp_path / "checkout")
    root = folder / "results/sentiment"
    for name, damage in DAMAGE.items():
        damage(root / name)
    # A part of a run or of a model is found through the record that lists it.
    found = {str(path.relative_to(root)) for path in find_damage(root)}
    for name in DAMAGE:
        record = {f"{name.split('/policy/')[0]}/run.json", f"{name.rpartition('/')[0]}/card.json"}
        assert found & {name, *record, f"{name.rpartition('/')[0]}/run.json"}, name
    run(folder, "--cores", "2", "--", *POINTS)
    assert not find_damage(root)
    assert same_points(built, folder)
    assert plan(folder) == "3 runs, to train: 0"
    assert not planned_jobs(folder, "--", *POINTS)
    log = (folder / "log.txt").read_text()
    aside = log.count("set aside as")
    print(f"\ndamaged: {len(DAMAGE)}; found: {len(DAMAGE)}; files set aside: {aside}")


def test_a_shard_in_the_place_of_another_is_found(built, tmp_path):
    folder = copy(built, tmp_path / "checkout")
    shards = folder / "results/sentiment/reference/shards"
    shutil.copy(shards / "rewards-train-1.parquet", shards / "rewards-train-0.parquet")
    run(folder, "--cores", "2", "--", *POINTS)
    assert same_points(built, folder)

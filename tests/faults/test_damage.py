"""Files that a disk or a hand changed: found, set aside, made again."""

import os
import shutil
import signal

import pandas as pd
import pytest
from checkout import BUILT_POINTS, copy, plan, planned_jobs, run, same_points, start, wait_for

from vbon.artifacts.integrity import find_damage

pytestmark = [pytest.mark.faults, pytest.mark.long]


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


def whole(built, folder):
    """Whether everything is as it was, and nothing more is to be done."""
    root = folder / "results/sentiment"
    files = (built / "results/sentiment").rglob("*")
    names = [path.relative_to(built / "results/sentiment") for path in files]
    assert not [name for name in names if not (root / name).exists()]
    assert not find_damage(root)
    assert plan(folder) == "3 runs, to train: 0"
    assert not planned_jobs(folder, *BUILT_POINTS)
    return same_points(built, folder)


def test_damaged_files_are_found_and_made_again(built, tmp_path):
    """Also where the first attempt is killed when it has but set them aside."""
    folder = copy(built, tmp_path / "checkout")
    root = folder / "results/sentiment"
    for name, damage in DAMAGE.items():
        damage(root / name)
    found = find_damage(root)
    for name in DAMAGE:  # a part of a run or of a model is found through the record that lists it
        above = [root / name, *(parent / "run.json" for parent in (root / name).parents)]
        assert found.keys() & {*above, (root / name).parent / "card.json"}, name
    process = start(folder, "--cores", "2", *BUILT_POINTS)
    wait_for(root / "models/evaluator/card.json.damaged")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    run(folder, "--cores", "2", *BUILT_POINTS)
    assert whole(built, folder)
    aside = (folder / "log.txt").read_text().count("set aside as")
    print(f"\ndamaged: {len(DAMAGE)}; found: {len(DAMAGE)}; files set aside and remade: {aside}")


def test_a_shard_in_the_place_of_another_is_found(built, tmp_path):
    folder = copy(built, tmp_path / "checkout")
    shards = folder / "results/sentiment/reference/shards"
    shutil.copy(shards / "rewards-train-1.parquet", shards / "rewards-train-0.parquet")
    assert list(find_damage(folder / "results")) == [shards / "rewards-train-0.parquet"]
    run(folder, "--cores", "2", *BUILT_POINTS)
    assert whole(built, folder)
    print("\nshards in the place of another: 1; found: 1")

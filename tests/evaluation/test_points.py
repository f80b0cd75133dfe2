"""Rows of the comparison from what runs leave on disk."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from vbon.artifacts import SCHEMAS, write_table
from vbon.artifacts.tables import write_json
from vbon.errors import ArtifactError
from vbon.evaluation.points import Pool, cost_of, point_of

NAMES = ("b", "a")  # not in alphabetical order


def write_pool(folder):
    """Two prompts: 6 training draws, and 5 test draws of which the last is fresh."""
    rng = np.random.default_rng(0)
    rows = [(name, draw) for name in NAMES for draw in range(6)]
    samples = pd.DataFrame(rows, columns=["prompt_id", "draw"])
    samples["response"], samples["finished"], samples["log_prob"] = "r", True, -1.0
    samples["response_ids"] = [[1] * (draw + 1) for _, draw in rows]
    rewards = pd.DataFrame([row for row in rows if row[1] < 5], columns=["prompt_id", "draw"])
    for column in ("reward", "reward_prob", "evaluator_reward"):
        rewards[column] = rng.normal(size=len(rewards))
    paths = [folder / f"{name}.parquet" for name in ("train", "test", "rewards")]
    write_table(paths[0], samples, "samples")
    write_table(paths[1], samples, "samples")
    write_table(paths[2], rewards, "rewards")
    settings = {"test_draws": 4, "temperature": 0.7, "seed": 5}
    seconds = []
    for name, took in {"samples-train-0": 6, "samples-train-1": 3, "rewards-train-0": 12}.items():
        seconds.append(str(folder / f"{name}.json"))
        write_json(seconds[-1], {"draws": 6, "seconds": took})
    tables = [str(path) for path in paths]
    return Pool.load(tables[:2], tables[2], seconds, settings), rewards


def record(**changes):
    plain = {
        "task": "sentiment",
        "study": "",
        "method": "vbon",
        "setting": "n4",
        "seed": 1,
        "spec": {"logf": {"m": 3}},
        "status": "ok",
        "n": 4,
        "kl_coef": 1 / 3,
        "sampled_tokens": 100,
        "trainable_parameters": 7,
        "train_seconds": 2.0,
        "peak_memory_mb": 50.0,
        "updates": 12,
        "hardware": "machine",
        "seconds": {"sample": 0.5, "score": 0.25},
    }
    return plain | changes


def write_responses(path, rewards):
    frame = pd.DataFrame({"prompt_id": NAMES, "draw": 0, "response": "r", "finished": True})
    frame["response_ids"] = [[1, 2], [1]]
    for column in ("log_prob", "log_prob_ref", "kl", "kl_k3", "reward_prob"):
        frame[column] = 0.0
    frame["reward"], frame["evaluator_reward"] = rewards, 0.0
    write_table(path, frame, "responses")


def test_the_pool_holds_the_ranking_draws_only(tmp_path):
    pool, rewards = write_pool(tmp_path)
    for name in NAMES:
        rows = rewards[(rewards["prompt_id"] == name) & (rewards["draw"] < 4)]
        assert pool.rewards[name].tolist() == sorted(rows["reward"])
        assert pool.evaluator_rewards[name].tolist() == sorted(rows["evaluator_reward"])
        assert pool.first[name] == rows["reward"].iloc[0]
    assert pool.train_tokens.tolist() == [0, 2, 6, 12, 20, 30, 42]  # of the first 0, 1, 2, ...


@pytest.mark.parametrize(
    ("changes", "tokens"),
    [
        ({"spec": {"logf": {"m": 3}}}, 112),
        ({"spec": {}}, 100),
        ({"spec": {}, "sampled_tokens": 0, "stored_draws": 4}, 20),
        ({"spec": {"logf": {"m": 3}}, "stored_draws": 2}, 112),
        ({"spec": {"logf": {"m": 3, "estimator": "ibs"}}}, 100),
        ({"spec": {"logf": {"estimator": "exact"}}}, 100),
    ],
)
def test_a_point_has_every_column_and_counts_the_tokens_of_its_pool(tmp_path, changes, tokens):
    pool, _ = write_pool(tmp_path)
    path = tmp_path / "responses.parquet"
    write_responses(path, [pool.rewards[name][2] for name in NAMES])
    point = point_of(record(**changes), path, pool)
    assert set(point) == set(SCHEMAS["points"].columns)
    assert point["win_rate"] == pytest.approx(2.5 / 4)
    assert point["sampled_tokens"] == tokens
    keys = [point[name] for name in SCHEMAS["points"].keys]
    assert keys == ["sentiment", "vbon", "n4", 1, 5, 0.7, "all"]
    assert (point["n"], point["kl_coef"], point["status"]) == (4.0, 1 / 3, "ok")
    write_table(tmp_path / "points.parquet", pd.DataFrame([point]), "points")


def test_a_run_that_diverged_has_a_row_without_numbers(tmp_path):
    pool, _ = write_pool(tmp_path)
    point = point_of(record(status="diverged", n=None), tmp_path / "nothing.parquet", pool)
    assert set(point) == set(SCHEMAS["points"].columns)
    assert point["status"] == "diverged"
    assert np.isnan([point["kl"], point["win_rate"], point["reward"], point["n"]]).all()
    assert (point["num_prompts"], point["num_responses"]) == (0, 0)
    write_table(tmp_path / "points.parquet", pd.DataFrame([point]), "points")


def test_a_run_without_responses_is_named(tmp_path):
    pool, _ = write_pool(tmp_path)
    with pytest.raises(ArtifactError, match=r"nothing.parquet does not exist, but its run is done"):
        point_of(record(), tmp_path / "nothing.parquet", pool)


def test_costs_have_their_columns(tmp_path):
    pool, _ = write_pool(tmp_path)
    cost = cost_of(record(), pool)
    assert set(cost) == set(SCHEMAS["costs"].columns)
    assert (cost["train_seconds"], cost["sample_seconds"], cost["score_seconds"]) == (2, 0.5, 0.25)
    # One draw of every prompt takes 6 / 6 + 3 / 6 seconds, its reward 12 / 6.
    assert (cost["pool_sample_seconds"], cost["pool_score_seconds"]) == (4.5, 6)
    untrained = record()
    del untrained["seconds"], untrained["updates"]
    assert cost_of(untrained, pool)["updates"] == 0


def test_points_are_made_without_torch():
    code = "import sys, vbon.evaluation.points as _; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_points_of_a_study_say_how_log_f_was_estimated(tmp_path):
    pool, _ = write_pool(tmp_path)
    path = tmp_path / "responses.parquet"
    write_responses(path, [0.0, 0.0])
    settings = {"m": 3, "estimator": "shared"}
    point = point_of(record(study="few", spec={"logf": settings}), path, pool)
    assert {name: point[name] for name in settings} == settings
    other = point_of(record(study="few", spec={}), path, pool)
    assert np.isnan(other["m"])
    assert other["estimator"] is None

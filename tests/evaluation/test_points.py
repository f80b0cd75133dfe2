"""Rows of the comparison from what runs leave on disk."""

import numpy as np
import pandas as pd
import pytest

from vbon.artifacts import SCHEMAS, write_table
from vbon.artifacts.tables import write_json
from vbon.errors import ArtifactError, DataError
from vbon.evaluation.points import Measurement, _domains, cost_of, points_of

NAMES = ("b", "a")  # not in alphabetical order


def measure(folder, split="test", **changes):
    """Two prompts: 6 training draws, and 5 test draws of which the last is fresh."""
    rng = np.random.default_rng(0)
    rows = [(name, draw) for name in NAMES for draw in range(6)]
    samples = pd.DataFrame(rows, columns=["prompt_id", "draw"])
    samples["response"], samples["finished"], samples["log_prob"] = "r", True, -1.0
    samples["response_ids"] = [[1] * (draw + 1) for _, draw in rows]
    rewards = pd.DataFrame([row for row in rows if row[1] < 5], columns=["prompt_id", "draw"])
    for column in ("reward", "reward_prob", "evaluator_reward"):
        rewards[column] = rng.normal(size=len(rewards))
    prompts = pd.DataFrame({"prompt_id": NAMES, "domain": ["in_domain", "out_of_domain"]})
    prompts = prompts.assign(prompt="p", prompt_ids=[[1], [2]], source_id=NAMES)
    paths = [str(folder / f"{name}.parquet") for name in ("samples", "prompts", "rewards")]
    tables = (samples, prompts, rewards)
    for path, table, schema in zip(paths, tables, ("samples", "prompts", "rewards"), strict=True):
        write_table(path, table, schema)
    settings = {"test_draws": 4, "temperature": 0.7, "seed": 5, "splits": {split: 0.7}, **changes}
    seconds = []
    for name, took in {"samples-train-0": 6, "samples-train-1": 3, "rewards-train-0": 12}.items():
        seconds.append(str(folder / f"{name}.json"))
        write_json(seconds[-1], {"draws": 6, "seconds": took})
    loaded = Measurement.load(paths[0], paths[1], {split: paths[2]}, seconds, settings)
    return loaded, rewards


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


def write_responses(path, rewards, sample_seed=5):
    frame = pd.DataFrame({"prompt_id": NAMES, "draw": 0, "response": "r", "finished": True})
    frame["response_ids"], frame["sample_seed"] = [[1, 2], [1]], sample_seed
    for column in ("log_prob", "log_prob_ref", "kl", "kl_k3", "reward_prob"):
        frame[column] = 0.0
    frame["reward"], frame["evaluator_reward"] = rewards, 0.0
    write_table(path, frame, "responses")


def test_the_pool_holds_the_ranking_draws_only(tmp_path):
    measurement, rewards = measure(tmp_path)
    pool = measurement.pools["test"]
    for name in NAMES:
        rows = rewards[(rewards["prompt_id"] == name) & (rewards["draw"] < 4)]
        assert pool.rewards[name].tolist() == sorted(rows["reward"])
        assert pool.evaluator_rewards[name].tolist() == sorted(rows["evaluator_reward"])
        assert pool.first[name] == rows["reward"].iloc[0]
    assert measurement.train_tokens.tolist() == [
        0,
        2,
        6,
        12,
        20,
        30,
        42,
    ]  # of the first 0, 1, 2, ...


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
    measurement, _ = measure(tmp_path)
    rewards = measurement.pools["test"].rewards
    write_responses(tmp_path / "test.parquet", [rewards[name][2] for name in NAMES])
    (point,) = points_of(record(**changes), tmp_path, measurement)
    assert set(point) == set(SCHEMAS["points"].columns)
    assert point["win_rate"] == pytest.approx(2.5 / 4)
    assert point["sampled_tokens"] == tokens
    keys = [point[name] for name in SCHEMAS["points"].keys]
    assert keys == ["sentiment", "vbon", "n4", 1, 5, 0.7, "all"]
    assert (point["n"], point["kl_coef"], point["status"]) == (4.0, 1 / 3, "ok")
    write_table(tmp_path / "points.parquet", pd.DataFrame([point]), "points")


def test_a_run_that_diverged_has_a_row_without_numbers(tmp_path):
    measurement, _ = measure(tmp_path)
    (point,) = points_of(record(status="diverged", n=None), tmp_path / "nothing", measurement)
    assert set(point) == set(SCHEMAS["points"].columns)
    assert point["status"] == "diverged"
    assert np.isnan([point["kl"], point["win_rate"], point["reward"], point["n"]]).all()
    assert (point["num_prompts"], point["num_responses"]) == (0, 0)
    write_table(tmp_path / "points.parquet", pd.DataFrame([point]), "points")


def test_a_run_without_responses_is_named(tmp_path):
    measurement, _ = measure(tmp_path)
    with pytest.raises(ArtifactError, match=r"test.parquet does not exist"):
        points_of(record(), tmp_path / "nothing", measurement)


def test_costs_have_their_columns(tmp_path):
    measurement, _ = measure(tmp_path)
    cost = cost_of(record(), measurement)
    assert set(cost) == set(SCHEMAS["costs"].columns)
    assert (cost["train_seconds"], cost["sample_seconds"], cost["score_seconds"]) == (2, 0.5, 0.25)
    # Sampling one draw of every prompt takes 6 / 6 + 3 / 6 seconds, scoring it 12 / 6.
    assert (cost["pool_sample_seconds"], cost["pool_score_seconds"]) == (4.5, 6)
    untrained = record()
    del untrained["seconds"], untrained["updates"]
    assert cost_of(untrained, measurement)["updates"] == 0


def test_points_of_a_study_record_how_log_f_was_estimated(tmp_path):
    measurement, _ = measure(tmp_path)
    write_responses(tmp_path / "test.parquet", [0.0, 0.0])
    settings = {"m": 3, "estimator": "shared"}
    (point,) = points_of(record(study="few", spec={"logf": settings}), tmp_path, measurement)
    assert {name: point[name] for name in settings} == settings
    (other,) = points_of(record(study="few", spec={}), tmp_path, measurement)
    assert np.isnan(other["m"])
    assert other["estimator"] is None


def test_a_row_for_each_sample_seed_and_domain(tmp_path):
    split = "test-t0.7"
    measurement, _ = measure(tmp_path, split, sample_seeds=[1, 2], by_domain=True)
    rewards = measurement.pools[split].rewards
    parts = []
    for seed, place in ((1, 0), (2, 3)):  # below the pool, and at its upper end
        path = tmp_path / f"{seed}.parquet"
        write_responses(path, [rewards[name][place] - 0.01 for name in NAMES], seed)
        parts.append(pd.read_parquet(path).assign(draw=seed))
    write_table(tmp_path / f"{split}.parquet", pd.concat(parts), "responses")
    points = pd.DataFrame(points_of(record(), tmp_path, measurement))
    keys = points[["temperature", "sample_seed", "domain"]].to_numpy().tolist()
    assert keys == [[0.7, s, d] for s in (1, 2) for d in ("in_domain", "out_of_domain")]
    assert points["win_rate"].tolist() == [0, 0, 0.75, 0.75]
    assert (points["num_prompts"] == 1).all()
    assert points["win_rate_single"].notna().all()
    write_table(tmp_path / "points.parquet", points, "points")


def test_domains_of_unequal_size_are_refused(tmp_path):
    measure(tmp_path)
    prompts = pd.read_parquet(tmp_path / "prompts.parquet")
    more = prompts.iloc[:1].assign(prompt_id="c")
    write_table(tmp_path / "prompts.parquet", pd.concat([prompts, more]), "prompts")
    with pytest.raises(DataError, match=r"column 'domain' has groups of \{'in_domain': 2, "):
        _domains(str(tmp_path / "prompts.parquet"))

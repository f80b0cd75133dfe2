import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from vbon.analysis.bounds import assert_report, data_report, spearman_within
from vbon.errors import ConfigError, DataError

DRAWS = 40


@pytest.fixture
def artifacts() -> dict:
    rng = np.random.default_rng(0)
    names = [f"p{k}" for k in range(6)]
    keys = pd.DataFrame(
        {"prompt_id": np.repeat(names, DRAWS), "draw": np.tile(np.arange(DRAWS), len(names))}
    )
    reward = rng.normal(size=len(keys)) + np.repeat(rng.normal(size=6), DRAWS)
    samples = keys.assign(
        response=[f"text {k}" for k in range(len(keys))],
        response_ids=[[k, k + 1] for k in range(len(keys))],
        finished=rng.random(len(keys)) < 0.3,
        log_prob=-5.0,
    )
    rewards = keys.assign(
        reward=reward,
        reward_prob=1 / (1 + np.exp(-reward)),
        evaluator_reward=reward + rng.normal(size=len(keys)),
    )
    prompts = pd.DataFrame({"prompt_id": names, "prompt_ids": [[k, 7] for k in range(6)]})
    return {
        "texts": {"num_reviews": 50},
        "prompts": {"train": prompts[:4], "test": prompts[4:]},
        "samples": samples,
        "rewards": rewards,
        "metrics": {"reward_model": {"accuracy": 0.85}},
    }


def value(report: pd.DataFrame, quantity: str) -> float:
    return report.set_index("quantity").loc[quantity, "value"]


def test_values_against_direct_computation(artifacts):
    report = data_report(**artifacts, checks={})
    rewards, samples = artifacts["rewards"], artifacts["samples"]
    groups = [group for _, group in rewards.groupby("prompt_id")]
    direct = np.mean([spearmanr(g["reward"], g["evaluator_reward"])[0] for g in groups])
    assert value(report, "spearman_within") == pytest.approx(direct, abs=1e-9)
    assert value(report, "p_positive") == pytest.approx(rewards["reward_prob"].mean())
    assert value(report, "finished_share") == pytest.approx(samples["finished"].mean())
    assert value(report, "num_train_prompts") == 4
    assert value(report, "num_test_prompts") == 2
    assert value(report, "prompts_in_both") == 0
    assert value(report, "reward_model_accuracy") == 0.85
    assert value(report, "duplicate_share") == value(report, "tied_share") == 0
    assert report["ok"].all()
    assert_report(report)


def test_spearman_handles_ties_and_constant_prompts():
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "prompt_id": np.repeat(["a", "b", "c"], 30),
            "reward": rng.integers(0, 5, 90).astype(float),
            "evaluator_reward": rng.integers(0, 5, 90).astype(float),
        }
    )
    groups = [group for _, group in frame.groupby("prompt_id")]
    direct = [spearmanr(g["reward"], g["evaluator_reward"])[0] for g in groups]
    assert spearman_within(frame) == pytest.approx(np.mean(direct), abs=1e-9)
    frame.loc[frame["prompt_id"] == "c", "reward"] = 1.0  # no ranks there: left out
    assert spearman_within(frame) == pytest.approx(np.mean(direct[:2]), abs=1e-9)


def test_repeats_and_ties_are_told_apart(artifacts):
    samples, rewards = artifacts["samples"], artifacts["rewards"]
    # Draw 1 repeats draw 0; draw 3 is another text with the reward of draw 2.
    for column in ("response", "response_ids"):
        samples.at[1, column] = samples.at[0, column]
    rewards.loc[1, "reward"] = rewards.loc[0, "reward"]
    rewards.loc[3, "reward"] = rewards.loc[2, "reward"]
    report = data_report(**artifacts, checks={})
    assert value(report, "duplicate_share") == pytest.approx(1 / len(samples))
    assert value(report, "tied_share") == pytest.approx(1 / (len(samples) - 1))


@pytest.mark.parametrize(
    ("checks", "message"),
    [
        ({"p_positive": [0.9, 1]}, r"p_positive is 0\.\d+, accepted are 0\.9 to 1 \(checks\.p_"),
        ({"num_train_prompts": [500, None]}, r"num_train_prompts is 4, accepted are 500 to inf"),
        ({"reward_model_accuracy": [None, 0.8]}, r"reward_model_accuracy is 0\.85, .* -inf to 0"),
    ],
)
def test_a_broken_bound_is_named(artifacts, checks, message):
    report = data_report(**artifacts, checks={"num_reviews": [1, 99], **checks})
    with pytest.raises(DataError, match=message) as caught:
        assert_report(report)
    assert "\n" not in str(caught.value)


def test_bounds_are_inclusive_and_nan_fails(artifacts):
    assert data_report(**artifacts, checks={"num_train_prompts": [4, 4]})["ok"].all()
    artifacts["metrics"]["reward_model"]["accuracy"] = float("nan")
    report = data_report(**artifacts, checks={"reward_model_accuracy": [0, 1]})
    with pytest.raises(DataError, match="reward_model_accuracy is nan"):
        assert_report(report)


def test_unknown_checks_and_unmatched_draws_are_refused(artifacts):
    with pytest.raises(ConfigError, match=r"checks\.sparkle is not measured; known are num_rev"):
        data_report(**artifacts, checks={"sparkle": [0, 1]})
    artifacts["rewards"] = artifacts["rewards"][1:]
    with pytest.raises(DataError, match="240 samples and 239 rewards share 239 draws"):
        data_report(**artifacts, checks={})

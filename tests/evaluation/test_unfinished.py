"""One reward for responses without an end of sequence, set before F wherever F is used."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from support import Language, save_classifier, save_reference, settings

from vbon.artifacts import read_table, write_table
from vbon.batches import Prompts, Rollouts
from vbon.cli import main
from vbon.evaluation.policy import Evaluator
from vbon.methods.vbon import VBoN
from vbon.models.language_model import load_language_model, load_tokenizer
from vbon.pool.cdf import EstimatedCDF
from vbon.pool.table import load_prompts
from vbon.rewards import load_reward_model, replace_unfinished
from vbon.rewards.base import TRANSFORMS
from vbon.training.inputs import Inputs
from vbon.training.online import OnlineTrainer

PENALTY = -7.5
REWARDS = {"transform": "identity", "batch_size": 16, "missing_eos": PENALTY}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Models, prompts, and a pool drawn and scored by the commands of the workflow."""
    root = tmp_path_factory.mktemp("world")
    for role in ("reward_model", "evaluator"):
        save_classifier(root / "models" / role, seed=len(role))
    save_reference(root / "models/reference")
    words = load_tokenizer(root / "models/reference")
    texts = ["the film", "a plot is", "great cast"]
    prompts = pd.DataFrame({"prompt_id": list("abc"), "prompt": texts, "source_id": list("xyz")})
    prompts["prompt_ids"], prompts["domain"] = words(texts)["input_ids"], "positive"
    write_table(root / "prompts.parquet", prompts, "prompts")
    limits = {"backend": "native", "max_new_tokens": 6, "prompts_per_shard": 9}
    sampling = json.dumps(limits | {"prompts_per_batch": 2})
    given = ["--prompts", f"{root}/prompts.parquet", "--reference", f"{root}/models/reference"]
    drawn = ["--drawing", sampling, "--draws", "40", "--shard", "0", "--seed", "0"]
    took = ["--seconds", f"{root}/seconds.json"]
    one = ["--temperatures", "1", "--samples", f"{root}/samples.parquet", *took]
    assert main(["sample", *given, *drawn, *one]) == 0
    models = [f"--{r.replace('_', '-')}={root}/models/{r}" for r in ("reward_model", "evaluator")]
    scored = ["--samples", f"{root}/samples.parquet", "--scoring", json.dumps(REWARDS)]
    output = ["--rewards", f"{root}/rewards.parquet", *took]
    assert main(["score", *given, *models, *scored, *output]) == 0
    return root


def test_unfinished_draws_of_the_pool_have_the_penalty(world):
    samples = read_table(world / "samples.parquet", "samples")
    rewards = read_table(world / "rewards.parquet", "rewards")
    assert 0.01 < samples["finished"].mean() < 0.9
    assert ((rewards["reward"] == PENALTY) == ~samples["finished"]).all()
    assert not (rewards["evaluator_reward"] == PENALTY).any()  # the evaluator judges the text


def test_evaluation_replaces_the_same_responses(world):
    evaluator = Evaluator(
        prompts=load_prompts(world / "prompts.parquet"),
        reference=load_language_model(world / "models/reference"),
        tokenizer=load_tokenizer(world / "models/reference"),
        reward_model=load_reward_model(world / "models/reward_model", 16),
        evaluator=load_reward_model(world / "models/evaluator", 16),
        responses=30,
        max_new_tokens=6,
        temperature=1.0,
        seed=0,
        rewards=REWARDS,
    )
    frame = evaluator.evaluate(evaluator.reference)
    assert ((frame["reward"] == PENALTY) == ~frame["finished"]).all()
    assert 0.01 < frame["finished"].mean() < 0.9
    plain = replace(evaluator, rewards={}).evaluate(evaluator.reference)
    assert (plain["reward"] != PENALTY).all()
    kept = frame["finished"]
    assert (plain["reward"][kept] == frame["reward"][kept]).all()
    assert (plain["evaluator_reward"] == frame["evaluator_reward"]).all()


def test_training_replaces_rewards_before_it_computes_f(world):
    """An unfinished response ties with the unfinished ones of the pool, and nothing is below it."""
    rewards = read_table(world / "rewards.parquet", "rewards")
    pool = rewards.groupby("prompt_id")["reward"].agg(np.sort)
    paths = {
        "reference": f"{world}/models/reference",
        "reward_model": f"{world}/models/reward_model",
        "evaluator": f"{world}/models/evaluator",
        "prompts": f"{world}/prompts.parquet",
    }
    limits = {"max_new_tokens": 6, "temperature": 1.0}
    spec = {"rewards": REWARDS | {"monitored": 4}, "sampling": limits}
    environment = Inputs(paths, spec).environment
    prompts = environment.prompts
    rollouts = environment.sample(environment.reference, prompts, 20, seed=3)
    reward = environment.score(prompts.select(rollouts.prompt_index), rollouts)
    assert ((reward == PENALTY) == ~rollouts.finished).all()
    assert 0 < (~rollouts.finished).sum() < len(rollouts)
    sorted_rewards = torch.from_numpy(np.stack(pool.loc[list(prompts.prompt_id)].to_list()))
    nothing = torch.full((len(prompts), 2), torch.nan).double()
    cdf = EstimatedCDF(sorted_rewards, nothing, pooled_ties=True)
    log_ref = torch.full_like(reward, -50.0)
    below, level = cdf(rollouts.prompt_index, reward, log_ref)
    lowest = torch.log(torch.tensor(1 / 41)).double()
    assert torch.allclose(below[~rollouts.finished], lowest)
    assert (below[rollouts.finished] > lowest).any()
    share = rewards.assign(low=rewards["reward"] == PENALTY).groupby("prompt_id")["low"].mean()
    expected = torch.tensor([share[prompts.prompt_id[i]] for i in rollouts.prompt_index.tolist()])
    unfinished = ~rollouts.finished
    assert torch.allclose(level[unfinished].exp(), expected[unfinished].double())
    # The history records the evaluator's unchanged scores of the first rollouts.
    said = environment.evaluated(prompts.select(rollouts.prompt_index), rollouts)
    assert set(said) == {"evaluator_reward"}


def test_the_history_records_an_evaluator_that_training_does_not_use():
    language, plain = Language(), []
    judged = []

    def evaluate(prompts, rollouts):
        judged.append(len(rollouts))
        return torch.full((len(rollouts),), 2.5, dtype=torch.float64)

    for changes in ({}, {"evaluator": evaluate, "monitored": 5}):
        environment, policy = language.environment(**changes), language.policy()
        history = list(OnlineTrainer(policy, VBoN(n=3), environment, settings(), seed=0))
        plain.append((policy.table.detach().clone(), history))
    assert torch.equal(plain[0][0], plain[1][0])
    assert all("evaluator_reward" not in row for row in plain[0][1])
    assert [row["evaluator_reward"] for row in plain[1][1]] == [2.5] * len(judged)
    assert set(judged) == {5}


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_penalty_is_transformed_like_a_reward(transform):
    raw, finished = np.array([-9.0, -1.0, 0.5, 2.0]), np.array([True, True, False, True])
    config = {"transform": transform, "missing_eos": -5.0}
    rewards = replace_unfinished(TRANSFORMS[transform](raw), finished, config)
    assert rewards.argsort().tolist() == [0, 2, 1, 3]  # between -9 and -1, whatever the transform
    assert (replace_unfinished(raw, finished, {"missing_eos": None}) == raw).all()
    assert (replace_unfinished(raw, finished, {}) == raw).all()


def test_selected_rollouts_are_the_first_ones():
    ids = torch.arange(12).view(4, 3)
    mask = torch.ones(4, 3, dtype=torch.bool)
    rollouts = Rollouts(torch.arange(4), ids, mask, mask[:, 0], torch.zeros(4, 3), torch.ones(4, 3))
    first = rollouts.select(torch.arange(2))
    assert len(first) == 2
    assert first.values.tolist() == [[1, 1, 1]] * 2
    assert first.response_lists() == [[0, 1, 2], [3, 4, 5]]
    assert isinstance(Prompts.from_lists([[1]], ["a"]), Prompts)

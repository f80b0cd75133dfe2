"""The commands of the summarization task in the workflow's order, on very small models."""

import json

import numpy as np
import pandas as pd
import pytest
from vbon.tasks.lead import baselines, rouge

from vbon.artifacts import read_table
from vbon.cli import main
from vbon.models.language_model import load_tokenizer
from vbon.planning.config import load
from vbon.rewards import load_reward_model

TINY = {"layers": 1, "width": 16, "heads": 2, "epochs": 1, "max_tokens": 96}
FULL = {"batch_size": 32, "learning_rate": 0.003, "warmup": 0.1, "held_out": 0.1}
FRACTIONS = {"reference": 0.3, "reward_model": 0.2, "evaluator": 0.2, "train": 0.15, "test": 0.15}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Posts, a reference, two scalar models, prompts and scored draws at two temperatures."""
    root = tmp_path_factory.mktemp("summarization")
    config = load(["config.yaml"])["summarization"]

    def call(verb, *words, **options):
        named = [part for k, v in options.items() for part in (f"--{k.replace('_', '-')}", str(v))]
        assert main([verb, *words, *named]) == 0

    posts = config["posts"] | {"num_posts": 160, "fractions": FRACTIONS}
    call("posts", settings=json.dumps(posts), seed=0, output=root / "posts.parquet")
    for role in ("reference", "reward_model", "evaluator"):
        build = {**TINY, **FULL} | ({"architecture": "gpt_neox"} if role == "reference" else {})
        model = {"settings": json.dumps({"id": None, "revision": None, "build": build})}
        model |= {"tokenizer": json.dumps(config["tokenizer"]), "prompt_tokens": 64, "seed": 0}
        where = {"texts": root / "posts.parquet", "card": root / role / "card.json"}
        call("build", role=role, **model, **where)
    chosen = json.dumps({"num_train": 6, "num_test": 4, "max_tokens": 64})
    splits = {name: root / f"{name}.parquet" for name in ("train", "test")}
    shared = {"reference": root / "reference", "prompts": root / "train.parquet"}
    texts = {"texts": root / "posts.parquet", "settings": chosen, "seed": 0}
    call("prompts", reference=root / "reference", **texts, **splits)
    limits = {"max_new_tokens": 20, "prompts_per_shard": 6, "prompts_per_batch": 4}
    limits |= {"backend": "transformers"}
    kinds = ("samples", "rewards", "seconds")
    names = {kind: [str(root / f"{kind}-{t}.parquet") for t in ("cold", "warm")] for kind in kinds}
    drawn = {"settings": json.dumps(limits), "draws": 5, "shard": 0, "seed": 0}
    took = ["--seconds", *names["seconds"], "--temperatures", "0.25", "1"]
    call("sample", "--output", *names["samples"], *took, **shared, **drawn)
    models = {name: root / name for name in ("reward_model", "evaluator")}
    rewards = {"transform": "identity", "batch_size": 16, "missing_eos": -4}
    scored = ["--samples", *names["samples"], "--output", *names["rewards"]]
    scored += ["--seconds", *names["seconds"]]
    call("score", *scored, settings=json.dumps(rewards), **shared, **models)
    files = {"texts": root / "posts.parquet", "samples": names["samples"][1]}
    files |= {"evaluator": root / "evaluator", "output": root / "baselines.csv"}
    call("baselines", settings=json.dumps(rewards), **shared, **files)
    return root


def test_each_temperature_has_draws_of_its_own(root):
    cold, warm = (read_table(root / f"samples-{t}.parquet", "samples") for t in ("cold", "warm"))
    assert len(cold) == len(warm) == 6 * 5
    assert (cold["response"] != warm["response"]).any()
    kinds = [table.groupby("prompt_id")["response"].nunique().mean() for table in (cold, warm)]
    assert kinds[0] <= kinds[1]
    scored = read_table(root / "rewards-warm.parquet", "rewards")
    assert ((scored["reward"] == -4) == ~warm["finished"]).all()
    assert scored["reward_prob"].isna().all()


def test_models_are_padded_on_the_left_and_know_their_prompts(root):
    for role in ("reference", "reward_model", "evaluator"):
        tokenizer = load_tokenizer(root / role)
        assert (tokenizer.padding_side, tokenizer.truncation_side) == ("left", "left")
        assert tokenizer.pad_token_id != tokenizer.eos_token_id
    prompts = read_table(root / "train.parquet", "prompts")
    assert prompts["prompt"].str.startswith("SUBREDDIT: r/").all()
    rewards = load_reward_model(root / "evaluator")(prompts["prompt"].tolist())
    assert rewards.reward.shape == (6,)


def test_a_summary_is_its_own_best_baseline(root):
    table = pd.read_csv(root / "baselines.csv").set_index("candidate")
    assert list(table.index) == ["reference", "lead", "summary", "reference_minus_lead"]
    assert table.loc["summary", "rougeL"] > 0.95  # but for words that the tokenizer lacks
    gap = table.loc["reference", "rougeL"] - table.loc["lead", "rougeL"]
    assert table.loc["reference_minus_lead", "rougeL"] == pytest.approx(gap)


def test_rouge_and_paired_differences_by_hand():
    scores = rouge(["a b c", "x"], ["a b d", "y"])
    assert scores["rouge1"].tolist() == pytest.approx([2 / 3, 0])
    assert scores["rouge2"].tolist() == pytest.approx([1 / 2, 0])
    texts = {"reference": ["a b", "c d"], "lead": ["a x", "y d"]}
    rewards = {"reference": np.array([3.0, 1.0]), "lead": np.array([1.0, 1.0])}
    row = baselines(texts, rewards, ["a b", "c d"]).set_index("candidate")
    gap = row.loc["reference_minus_lead"]
    assert (gap["evaluator_reward"], gap["evaluator_reward_se"]) == (1.0, 1.0)
    assert gap["rouge1"] == pytest.approx(0.5)

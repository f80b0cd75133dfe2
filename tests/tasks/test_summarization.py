"""The commands of the summarization task in the workflow's order, on very small models."""

import json

import numpy as np
import pandas as pd
import pytest

from vbon.analysis.lead import compare, rouge
from vbon.artifacts import read_table
from vbon.cli import main
from vbon.models.language_model import load_tokenizer
from vbon.planning.config import load
from vbon.rewards import load_reward_model
from vbon.tasks.base import ROLES
from vbon.tasks.registry import make_task

TINY = {"layers": 1, "width": 16, "heads": 2, "epochs": 1, "max_tokens": 96}
FULL = {"batch_size": 32, "learning_rate": 0.003, "warmup": 0.1, "held_out": 0.1}
FRACTIONS = {"reference": 0.3, "reward_model": 0.2, "evaluator": 0.2, "train": 0.15, "test": 0.15}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Posts, a reference, two scalar models, prompts and scored draws at two temperatures."""
    root = tmp_path_factory.mktemp("summarization")
    config = load(["config.yaml"])["summarization"]
    for role in ROLES:
        architecture = {"architecture": "gpt_neox"} if role == "reference" else {}
        config[role] = {"id": None, "revision": None, "build": {**TINY, **FULL} | architecture}
    config["posts"] |= {"num_posts": 160, "fractions": FRACTIONS}
    config["prompts"] |= {"num_train": 6, "num_test": 4, "max_tokens": 64}
    task = make_task(config)

    def call(verb, **options):
        words = [verb]
        for name, value in options.items():
            values = value if isinstance(value, list) else [value]
            encoded = [json.dumps(v) if isinstance(v, dict) else str(v) for v in values]
            words += [f"--{name.replace('_', '-')}", *encoded]
        assert main(words) == 0

    texts = {"texts": root / "texts.parquet", "seed": 0}
    call("texts", task=task.cut(), seed=0, output=root / "texts.parquet")
    for role in ROLES:
        cut = task.cut(role, "tokenizer", "prompts")
        call("build", role=role, task=cut, card=root / role / "card.json", **texts)
    splits = {name: root / f"{name}.parquet" for name in ("train", "test")}
    models = {role: root / role / "card.json" for role in ROLES}
    call("prompts", task=task.cut("prompts"), reference=models["reference"], **texts, **splits)
    limits = {"max_new_tokens": 20, "prompts_per_shard": 6, "prompts_per_batch": 4}
    limits |= {"backend": "native"}
    kinds = ("samples", "rewards", "seconds")
    names = {kind: [f"{root}/{kind}-{t}.parquet" for t in ("cold", "warm")] for kind in kinds}
    drawn = {"drawing": limits, "draws": 5, "shard": 0, "seed": 0, "temperatures": [0.25, 1]}
    shared = {"prompts": splits["train"], "samples": names["samples"], "seconds": names["seconds"]}
    call("sample", reference=models["reference"], **shared, **drawn)
    scoring = {"transform": "identity", "batch_size": 16, "missing_eos": -4}
    call("score", rewards=names["rewards"], scoring=scoring, **shared, **models)
    files = {"texts": texts["texts"], "train_prompts": splits["train"]}
    files |= {"samples": names["samples"][1], "output": root / "lead.csv"}
    judged = {role: models[role] for role in ("reference", "evaluator")}
    call("lead", scoring=scoring, **files, **judged)
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
    table = pd.read_csv(root / "lead.csv").set_index("candidate")
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
    row = compare(texts, rewards, ["a b", "c d"]).set_index("candidate")
    gap = row.loc["reference_minus_lead"]
    assert (gap["evaluator_reward"], gap["evaluator_reward_se"]) == (1.0, 1.0)
    assert gap["rouge1"] == pytest.approx(0.5)

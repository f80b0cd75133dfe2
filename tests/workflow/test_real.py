"""config/real.yaml at toy size: eight prompts, two updates, and a tiny Llama in a GGUF file."""

import json
import shutil

import pandas as pd
import pytest
import torch
import yaml
from checkout import ROOT, run
from gguf_files import TOKENS, random_model, write_gguf
from transformers import LlamaConfig

from vbon.artifacts import read_table
from vbon.rewards.function import load_function

METHODS = {
    "best_of_n": {"n": [2]},
    "bon_sft": {"n": [2]},
    "ppo": {"kl_coef": [0.1]},
    "dpo": {"kl_coef": [0.1]},
    "bonbon": {"n": [2]},
    "vbon": {"n": [4]},
    "vbon_l": {"n": [4]},
}
TOY = {
    "prompts": {"num_train": 8, "num_test": 4, "max_tokens": 400},
    "reference": {"gguf": "tiny.gguf"},
    "sampling": {"max_new_tokens": 16, "train_draws": 8, "test_draws": 8, "fresh_draws": 4},
    "logf": {"m": 8},
    "online": {"iterations": 1, "rollouts": 8, "minibatch": 4},
    "offline": {"updates": 2, "batch_size": 4, "monitors": 1, "monitor_rollouts": 4},
    "budgets": {"bon_sft": {"batch_size": 4}},
    "evaluation": {"responses": 2},
    "inference": {"prompts": 2},
}
CHAT = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
REWARDS = {"films": ("vader", "textblob"), "instructions": ("follows", "content")}


def tiny_model(path):
    """A Llama of two layers that draws key words, keys and opinions, and few single bytes."""
    words = {"Ġgood", "Ġbad", "Ġgreat", "Ġawful", "Ġlovely", "Ġboring", "Ġhate", "Ġlove"}
    for line in (ROOT / "real/instructions.jsonl").read_text().splitlines():
        row = json.loads(line)
        words |= {f"Ġ{word}" for word in row.get("keywords", [])}
        words |= {f'Ġ"{key}":' for key in row.get("keys", [])}
    config = LlamaConfig(
        vocab_size=len(TOKENS) + len(words), hidden_size=16, intermediate_size=32,
        num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=512,
        bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    model = random_model(config)
    with torch.no_grad():
        model.lm_head.weight[2 : len(TOKENS)] = 0
        model.lm_head.weight *= 4
    fields = {"tokenizer.chat_template": CHAT}
    write_gguf(path, model, "llama", fields=fields, words=sorted(words))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    for name in ("workflow", "profiles", "real", "config"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(ROOT / name, folder)
    tiny_model(folder / "tiny.gguf")
    toy = {"runs_per_job": 8, "figures": {"bootstrap": 20}, "methods": METHODS, "films": TOY}
    instructions = TOY | {"methods": {name: METHODS[name] for name in ("bonbon", "vbon")}}
    text = yaml.safe_dump(toy | {"instructions": instructions})
    (folder / "toy.yaml").write_text(text)
    run(folder, "--cores", "2", "--configfile", "config/real.yaml", "toy.yaml")
    return folder / "results-real"


@pytest.mark.workflow
@pytest.mark.long
@pytest.mark.parametrize("task", REWARDS)
def test_the_whole_graph_runs_on_each_task(finished, task):
    points = pd.read_csv(finished / task / "points.csv")
    assert set(points["method"]) == {"reference", *METHODS}
    assert (points["status"] == "ok").all()
    tables = {path.stem for path in (finished / task / "tables").glob("*.csv")}
    assert {"data", "orderings", "claims", "excerpts", "inference"} <= tables
    card = json.loads((finished / task / "models/reference/card.json").read_text())
    assert card["weights"].startswith("tiny.gguf, dequantised")
    assert task in (finished / "report/index.html").read_text()


@pytest.mark.workflow
@pytest.mark.long
@pytest.mark.parametrize(("task", "names"), REWARDS.items())
def test_rewards_of_draws_are_those_of_the_functions(finished, task, names):
    prompts = read_table(finished / task / "prompts/test.parquet", "prompts")
    draws = read_table(finished / task / "reference/samples/test.parquet", "samples")
    rewards = read_table(finished / task / "reference/rewards/test.parquet", "rewards")
    draws = draws.merge(rewards, on=["prompt_id", "draw"]).merge(prompts, on="prompt_id")
    views = {"responses": draws["response"].tolist(), "rows": draws["row"].map(json.loads).tolist()}
    if task == "films":
        del views["rows"]
    for name, column in zip(names, ("reward", "evaluator_reward"), strict=True):
        function = load_function(ROOT / f"real/{task}.py", name)
        assert draws[column].tolist() == pytest.approx(function(**views))
        assert draws[column].nunique() > 1

"""The tutorials on models, prompts and rewards, block by block, with a hub of the tests' own."""

import json
import math
import os
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from commands import follow
from hub import COMMIT, serve
from support import save_reference

from vbon.artifacts import read_table
from vbon.artifacts.tables import read_either
from vbon.planning.workflow import SPLITS

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs/tutorials/bring-your-own-model.md").read_text()
PROMPTS = (ROOT / "docs/tutorials/bring-your-own-prompts.md").read_text()


def checkout(folder):
    """What the workflow needs of the repository, in a new folder."""
    folder.mkdir()
    for name in ("Snakefile", "config.yaml", "workflow", "profiles"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    return folder


@pytest.mark.workflow
def test_a_chat_task_with_verified_answers_does_what_its_page_says(tmp_path):
    """Ten sums, a tiny Llama and its chat template, and a reward that reads the answer."""
    folder = checkout(tmp_path / "checkout")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    follow(PROMPTS, folder, os.environ | {"PATH": path, "HF_HUB_OFFLINE": "1"})
    results = folder / "results-sums/sums"
    prompts = {
        split: read_table(results / f"prompts/{split}.parquet", "prompts") for split in SPLITS
    }
    rows = [json.loads(line) for line in (folder / "sums.jsonl").read_text().splitlines()]
    kept = [json.loads(row) for split in SPLITS for row in prompts[split]["row"]]
    assert sorted(map(str, kept)) == sorted(map(str, rows))
    for row in prompts["test"].itertuples():
        asked = json.loads(row.row)["prompt"]
        assert json.loads(row.messages) == [{"role": "user", "content": asked}]
        assert row.prompt_ids[0] == 0  # <bos>, once
        assert list(row.prompt_ids).count(0) == 1
        assert row.prompt == asked

    samples = read_table(results / "reference/samples/test.parquet", "samples")
    rewards = read_table(results / "reference/rewards/test.parquet", "rewards")
    draws = samples.merge(rewards, on=["prompt_id", "draw"]).merge(prompts["test"], on="prompt_id")
    right = [row.response == json.loads(row.row)["answer"] for row in draws.itertuples()]
    assert 0.1 < sum(right) / len(right) < 0.6
    assert draws["reward"].tolist() == right
    assert draws["evaluator_reward"].tolist() == draws["response"].str.isdecimal().tolist()

    points = pd.read_csv(results / "points.csv").set_index(["method", "setting"])
    assert (points["status"] == "ok").all()
    assert points["reward"]["best_of_n", "n4"] > points["reward"]["reference", "default"]
    bound = math.log(4) - 3 / 4  # of rewards without ties
    assert 0.1 < points["kl"]["best_of_n", "n4"] < 0.95 * bound
    tables = {path.stem for path in (results / "tables").glob("*.csv")}
    assert {"data", "orderings", "claims", "excerpts", "inference"} <= tables
    assert not {"distances", "oracle_curves", "bands"} & tables
    excerpts = read_either(results / "tables/excerpts.csv")
    assert excerpts["response"].str.contains(r"\d").any()
    assert "What is 2+5?" in (folder / "results-sums/report/index.html").read_text()


@pytest.mark.workflow
def test_the_tutorial_does_what_it_says(tmp_path):
    folder = checkout(tmp_path / "checkout")
    model = save_reference(tmp_path / "model")
    with serve({"models/sshleifer/tiny-gpt2": model}) as endpoint:
        bin_folder = Path(sys.executable).parent
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSF"))}
        environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "home")}
        environment["PATH"] = f"{bin_folder}{os.pathsep}{environment['PATH']}"
        fetched, *_ = follow(PAGE, folder, environment)
    assert "sentiment.reference.revision: None is no commit" in fetched
    assert f"sentiment.reference.id: sshleifer/tiny-gpt2 at {COMMIT}" in fetched
    for name in ("results-mine", "results-folder"):
        points = pd.read_csv(folder / name / "sentiment/points.csv")
        assert set(points["method"]) == {"reference", "best_of_n", "dpo", "vbon"}
        assert (points["status"] == "ok").all()
    hubs = folder / "results-mine/sentiment/models/reference/pointer.json"
    assert json.loads(hubs.read_text())["revision"] == COMMIT
    rewards = pd.read_parquet(folder / "results-folder/sentiment/reference/rewards/train.parquet")
    assert (rewards["reward"] <= 0).all()  # minus the mean length of a word, 0 of no text
    assert rewards["reward_prob"].isna().all()

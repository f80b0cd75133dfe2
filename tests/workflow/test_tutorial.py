"""docs/tutorials/bring-your-own-model.md, block by block, with a hub of the tests' own."""

import json
import os
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from commands import follow
from hub import COMMIT, serve
from support import save_reference

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs/tutorials/bring-your-own-model.md").read_text()


@pytest.mark.workflow
def test_the_tutorial_does_what_it_says(tmp_path):
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("Snakefile", "config.yaml", "workflow", "profiles"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
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

"""Figures of a sweep that is not finished: they say what is missing, and nothing is trained."""

import json
import shutil

import pandas as pd
import pytest
import yaml
from checkout import CONFIG, SWEEP_POINTS, make_checkout, plan, run


@pytest.mark.long
@pytest.mark.workflow
def test_partial_figures_say_what_is_missing_and_train_nothing(tmp_path):
    folder = make_checkout(tmp_path / "checkout")
    started = CONFIG | {"methods": {"reference": {}, "vbon": {"n": [2]}, "vbon_l": {"n": [2]}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(started))
    run(folder, "--cores", "2", *SWEEP_POINTS)
    task = folder / "results/enumerable"
    records = {path: path.read_text() for path in task.glob("runs/*/*/*/run.json")}

    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    (folder / "partial.yaml").write_text("partial: true\n")
    assert plan(folder) == "6 runs, to train: 2"  # best-of-1 is the reference
    run(folder, "--cores", "2", "--configfile", "partial.yaml")
    assert "partial: 3 runs of enumerable are missing" in (folder / "log.txt").read_text()
    assert {path: path.read_text() for path in task.glob("runs/*/*/*/run.json")} == records
    missing = pd.read_csv(task / "tables/missing.csv")
    assert missing["folder"].tolist() == [
        f"results/enumerable/runs/{name}/seed0" for name in ("vbon/n1", "vbon/n4", "vbon_l/n4")
    ]
    assert (missing["planned"] == 6).all()
    assert "| vbon | n4 | 0 |" in (task / "tables/missing.md").read_text()
    assert list(pd.read_csv(task / "points.csv")["setting"]) == ["default", "n2", "n2"]
    assert "3 of 6 runs are missing" in (task / "figures/optimum.svg").read_text()
    assert json.loads((task / "figures/optimum.json").read_text())["inputs"].keys() >= {"missing"}

    run(folder, "--cores", "2")
    assert plan(folder) == "6 runs, to train: 0"
    assert pd.read_csv(task / "tables/missing.csv").empty
    assert "are missing" not in (task / "figures/optimum.svg").read_text()
    for path, text in records.items():
        assert path.read_text() == text

    points = (task / "points.csv").read_bytes()
    shutil.rmtree(task / "runs/vbon/n4")  # nobody said why; it is made again
    run(folder, "--cores", "2", *SWEEP_POINTS)
    assert plan(folder) == "6 runs, to train: 0"
    assert (task / "points.csv").read_bytes() == points


@pytest.mark.workflow
def test_with_nothing_finished_there_is_nothing_to_draw(tmp_path):
    folder = make_checkout(tmp_path / "checkout")
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"partial": True}))
    with pytest.raises(AssertionError, match="no run is finished yet"):
        run(folder, "--cores", "1")

"""A task of one's own, added as its page says; and two sections of one kind side by side."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from checkout import BUILT, ROOT, environment, make_checkout, planned_jobs
from commands import FILE, blocks, type_in

from vbon.artifacts import read_table
from vbon.tasks.base import Task, TextTask

PAGE = (ROOT / "docs/how-to/own-task.md").read_text()
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())


def on_path(**more: str) -> dict[str, str]:
    """Environment in which the page's programs are found."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, **more}


@pytest.mark.workflow
def test_a_task_is_added_as_its_page_says(tmp_path):
    """File, section and commands are taken from the page, letter by letter."""
    folder = make_checkout(tmp_path / "checkout", CONFIG)
    files = {FILE.match(text)[1]: text for kind, text in blocks(PAGE) if kind != "sh"}
    (folder / "my_tasks").mkdir()
    for name in ("my_tasks/colours.py", "colours.yaml"):
        (folder / name).write_text(files[name])
    [script] = [text for kind, text in blocks(PAGE) if kind == "sh"]
    *lines, last = script.splitlines()
    printed = type_in("\n".join(lines), folder, environment(folder, **on_path()))
    assert "colours: Continue a list of colours; the longer their waves, the better." in printed
    assert "figures: figure2a, figure2b" in printed

    results = folder / "results-colours/colours"
    points = pd.read_csv(results / "points.csv")
    assert set(points["task"]) == {"colours"}
    assert list(points["method"]) == ["reference", *["best_of_n"] * 2, "ppo", *["vbon"] * 2]
    assert (points["status"] == "ok").all()
    means = points.set_index(["method", "setting"])["reward"]
    assert means["vbon", "n4"] > means["reference", "default"]
    section = yaml.safe_load(files["colours.yaml"])["colours"]
    texts = read_table(results / "data/texts.parquet", "texts")
    assert set(texts["part"]) == {"reference", "train", "test"}
    assert len(texts) == section["texts"]["num_texts"]
    assert texts["text"].str.split().map(len).between(8, section["longest"]).all()
    for name in ("figures/figure2a", "figures/figure2b", "tables/orderings", "tables/claims"):
        assert len(pd.read_csv(results / f"{name}.csv")), name
    data = pd.read_csv(results / "tables/data.csv").set_index("quantity")
    assert data.loc["num_texts", "value"] == len(texts)
    assert data.loc["reference_perplexity", ["low", "high"]].tolist() == [5, 8]
    assert "colours" in (folder / "results-colours/report/index.html").read_text().lower()

    command = re.sub(r"\s+# .*", "", last).split()
    assert command[0] == "pytest"
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=os.environ | {"VBON_TASKS": str(folder / "my_tasks")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"[1-9]\d passed", done.stdout)
    assert "skipped" not in done.stdout


def test_the_page_names_every_method_and_attribute():
    """What a class may define is in the two tables."""
    names = {name for cls in (Task, TextTask) for name in (*vars(cls), *cls.__annotations__)}
    derived = {"kind", "own_keys", "cut", "num_prompts", "splits"}
    public = {name for name in names if not name.startswith("_")} - derived
    missing = [name for name in sorted(public) if not re.search(rf"^\| `{name}\b", PAGE, re.M)]
    assert missing == []
    for name in ("figures", "tables", "claims"):
        row = re.search(rf"^\| `{name}` .*$", PAGE, re.M)[0]
        inherited = row.split("|")[3]
        assert re.findall(r"`(\w+)`", inherited) == list(getattr(TextTask, name))


@pytest.mark.workflow
def test_two_sections_of_a_kind_share_a_results_folder(tmp_path):
    sections = {"films": BUILT["sentiment"] | {"kind": "reviews"}}
    sections["books"] = sections["films"] | {"prompts": {"num_train": 6, "num_test": 4}}
    config = {key: value for key, value in BUILT.items() if key != "sentiment"}
    folder = make_checkout(tmp_path / "checkout", config | sections | {"tasks": list(sections)})
    jobs = planned_jobs(folder)
    for name in ("texts", "prompts", "pareto", "headline", "data"):
        assert jobs[name] == 2, name
    assert jobs["build"] == 6
    for name in sections:
        assert jobs[f"train_{name}_0"] == jobs[f"evaluate_{name}_0"] == 1
        assert jobs[f"sample_{name}_train"] == len([6, 12][: 1 + (name == "films")])
    assert jobs["page"] == 1

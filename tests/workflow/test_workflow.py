"""The real workflow on a tiny enumerable language: resumed after a kill, on one core or two."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from checkout import (
    BUILT,
    CONFIG,
    ROOT,
    SWEEP_POINTS,
    change,
    make_checkout,
    plan,
    run,
    start,
    wait_for,
)

from vbon.report.style import SHAPES

pytestmark = pytest.mark.workflow


@pytest.mark.long
def test_a_killed_sweep_resumes_and_cores_change_nothing(tmp_path):
    whole, killed = make_checkout(tmp_path / "whole"), make_checkout(tmp_path / "killed")
    assert plan(whole) == "6 runs, to train: 4"
    run(whole, "--cores", "1", *SWEEP_POINTS)
    assert plan(whole) == "6 runs, to train: 0"

    first = killed / "results/enumerable/runs/vbon/n2/seed0/run.json"
    process = start(killed, "--cores", "2")
    wait_for(first)
    refused = start(killed, "--cores", "1")
    assert refused.wait(timeout=60) == 1
    assert "another benchmark is running" in (killed / "log.txt").read_text()
    os.kill(process.pid, signal.SIGKILL)  # the guard alone: Snakemake and its jobs are orphans
    process.wait()
    kept = json.loads(first.read_text())
    run(killed, "--cores", "2")
    assert json.loads(first.read_text()) == kept  # times and all: it was not trained again

    points = [folder / "results/enumerable/points.csv" for folder in (whole, killed)]
    assert points[0].read_bytes() == points[1].read_bytes()
    table = pd.read_csv(points[0])
    assert list(table["method"]) == ["reference", *["vbon"] * 3, *["vbon_l"] * 2]
    assert (table["status"] == "ok").all()
    assert table.loc[table["setting"] == "n1", "kl"].item() == pytest.approx(0, abs=1e-9)
    for name in ("points.parquet", "pareto.csv", "tables/optimum.md", "figures/optimum.png"):
        assert (killed / "results/enumerable" / name).exists()


def test_a_method_is_added_as_contributing_says(tmp_path):
    """File, config entry and last command are taken from the document, letter by letter."""
    document = (ROOT / "CONTRIBUTING.md").read_text()
    code, entry, commands = (
        document.split(f"```{kind}\n")[1].split("```")[0] for kind in ("python", "yaml", "sh")
    )
    folder = make_checkout(tmp_path / "checkout", BUILT)
    (folder / "my_methods").mkdir()
    (folder / "my_methods/capped.py").write_text(code)
    (folder / "capped.yaml").write_text(entry)
    added = yaml.safe_load(entry)["methods"]["capped"]["kl_coef"]
    base = {"best_of_n": {"n": [2]}, "ppo": {"kl_coef": [1]}}
    config = BUILT | {"methods": BUILT["methods"] | base, "figures": CONFIG["figures"]}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    run(folder, "--cores", "2", "--configfile", "capped.yaml", VBON_METHODS="my_methods")
    results = folder / "results/sentiment"
    points = pd.read_parquet(results / "points.parquet")
    mine = points[points["method"] == "capped"]
    assert mine["kl_coef"].tolist() == added
    assert (mine["status"] == "ok").all()
    assert (mine["kl"] > 1e-6).all()  # it was trained, if only for two steps
    for name in ("costs", "pareto", "figures/figure2a", "figures/figure7b", "tables/matched_kl",
                 "tables/attainment", "tables/convergence", "tables/excerpts"):  # fmt: skip
        assert "capped" in set(pd.read_csv(results / f"{name}.csv")["method"]), name
    page = (folder / "results/report/index.html").read_text()
    for part in ("PPO, capped", "#b8860b", SHAPES["d"]):
        assert page.count(part) > 1, part

    export, *_, last = commands.splitlines()
    assert export == "export VBON_METHODS=my_methods"
    program, *words = shlex.split(last, comments=True)
    assert program == ".venv/bin/pytest"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=ROOT,
        env=os.environ | {"VBON_METHODS": str(folder / "my_methods")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"[1-9]\d passed", done.stdout)
    assert "skipped" not in done.stdout


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("seeds=[]", "seeds"),
        ("trian=1", "trian: unknown key"),
    ],
)
def test_a_bad_configuration_fails_before_any_rule(tmp_path, option, words):
    folder = make_checkout(tmp_path / "checkout")
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "--cores", "1", "--config", option],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert words in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (folder / "results").exists()


def test_tables_about_training_are_asked_for_only_where_something_is_trained(tmp_path):
    folder = make_checkout(tmp_path / "checkout")
    studies = {"equivalence": {"run_methods": ["vbon_l"], "methods": {"vbon_l": {"n": [4]}}}}
    planned = {}
    for name, methods in {"trained": ["reference", "vbon"], "chosen": ["reference"]}.items():
        config = CONFIG | {"tasks": ["sentiment"], "run_methods": methods}
        config["sentiment"] = {"studies": studies}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        command = [sys.executable, "-m", "snakemake", "-n", "--cores", "1", "--quiet", "host"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        lines = (line.split() for line in done.stdout.splitlines())
        planned[name] = {words[0] for words in lines if words} & {"convergence", "equivalence"}
    assert planned == {"trained": {"convergence", "equivalence"}, "chosen": set()}


def test_a_job_that_trains_has_a_process_for_each_gpu(tmp_path):
    folder = make_checkout(tmp_path / "checkout", BUILT)
    change(folder, "gpus_per_job", value=3)
    command = [sys.executable, "-m", "snakemake", "-n", "-p", "--cores", "1", "--quiet", "host"]
    given = ["--resources", "gpu=2"]  # no more than there are
    done = subprocess.run(
        [*command, *given], cwd=folder, capture_output=True, text=True, check=True
    )
    words = done.stdout.split()
    assert words.count("--processes") == 1
    assert words[words.index("--processes") + 1] == "2"
    asked = [word.strip(",") for word in words if word.startswith("gpu=")]
    assert asked.count("gpu=2") == 1
    assert set(asked) == {"gpu=2", "gpu=1"}  # one for jobs that draw and measure


def test_summaries_are_drawn_at_all_temperatures_at_once(tmp_path):
    folder = make_checkout(tmp_path / "checkout")
    overlay = {"tasks": ["summarization"], "run_methods": ["reference", "ppo"]}
    methods = {"methods": {"reference": {}, "ppo": {"kl_coef": [0.05]}}}
    section = {"evaluation": {"temperatures": [0.25, 0.5], "sample_seeds": [0, 1]}}
    section["rewards"] = {"monitored": 8}
    (folder / "config.yaml").write_text(yaml.safe_dump(overlay | methods))
    (folder / "more.yaml").write_text(yaml.safe_dump({"summarization": section}))
    command = [sys.executable, "-m", "snakemake", "-n", "--cores", "1", "--quiet", "host"]
    given = ["--configfile", "more.yaml"]
    done = subprocess.run(
        [*command, *given], cwd=folder, capture_output=True, text=True, check=True
    )
    lines = (line.split() for line in done.stdout.splitlines())
    counts = {words[0]: int(words[1]) for words in lines if len(words) == 2 and words[1].isdigit()}
    assert counts["sample_summarization_test"] == counts["score_summarization_test"] == 1
    assert counts["logf"] == 2  # of test prompts at two temperatures; nobody asks for more
    assert counts["example"] == 3  # tables 2, 4 and 5
    assert counts["figure"] == 3
    assert counts["section6"] == counts["lead"] == counts["monitored"] == 1
    assert counts["pareto"] == 1  # without rows: a run has several points

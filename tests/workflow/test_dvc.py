"""What DVC records is enough to draw figures from and to continue a sweep, wherever it goes."""

import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from checkout import (
    CONFIG,
    ROOT,
    change,
    edit,
    environment,
    make_checkout,
    make_once,
    plan,
    planned_jobs,
    records,
    run,
)

from vbon.artifacts.steps import PHASES, steps
from vbon.methods.registry import method_modules
from vbon.planning.config import resolve
from vbon.planning.phases import STAGES
from vbon.planning.runs import expand

RECORDED = CONFIG | {
    "results_dir": "results",
    "run_methods": ["reference", "vbon"],
    "methods": {"reference": {}, "vbon": {"n": [2, 4]}},
}
"""Three runs, two of them trained."""


def shell(folder: Path, command: str, code: int = 0) -> str:
    """A command of someone who works in a checkout; DVC finds `vbon` as a user's shell would."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    settings = {"env": environment(folder, PATH=path), "cwd": folder, "shell": True}
    done = subprocess.run(command, capture_output=True, text=True, **settings)
    assert done.returncode == code, f"{command}: {(done.stdout + done.stderr)[-3000:]}"
    return done.stdout + done.stderr


def make_repository(folder: Path, config: dict = RECORDED) -> Path:
    """A checkout under git, as small as DVC needs it."""
    make_checkout(folder, config, code=True)
    for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    (folder / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copy(ROOT / ".dvc" / name, folder / ".dvc" / name)
    commit(folder, "git init -q && git config user.email a@b && git config user.name a")
    return folder


def commit(folder: Path, before: str = "true") -> None:
    shell(folder, f"{before} && git add -A && git commit -qm state")


def recorded(tmp_path_factory) -> Path:
    """A repository whose results are recorded, with the folder `store` beside it as remote."""

    def make(base: Path) -> None:
        base.mkdir()
        folder = make_repository(base / "origin")
        (folder / "first.txt").write_text(shell(folder, "dvc repro"))
        shell(folder, "dvc remote add --default store ../store")
        commit(folder)
        shell(folder, "dvc push")

    return make_once(tmp_path_factory, "recorded", make)


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """The folder of that repository, not to be changed."""
    return recorded(tmp_path_factory)


@pytest.fixture
def clone(base, tmp_path):
    """A clone of it with everything pulled and all times shuffled."""
    shell(tmp_path, f"cp -r {base}/store store && git clone -q {base}/origin clone")
    shell(tmp_path / "clone", "dvc pull")
    shuffle_times(tmp_path / "clone/results")
    return tmp_path / "clone"


def shuffle_times(folder: Path, seed: int = 0) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    order = random.Random(seed).sample(range(len(files)), len(files))
    now = time.time()
    for path, place in zip(files, order, strict=True):
        os.utime(path, (now - 60 * place, now - 60 * place))


def stages(output: str) -> tuple[set[str], set[str]]:
    """Stages that DVC ran, and those that it skipped."""
    ran = set(re.findall(r"Running stage '([^']+)'", output))
    return ran, set(re.findall(r"Stage '([^']+)' didn't change, skipping", output))


def pictures(folder: Path) -> dict[str, bytes]:
    found = [*folder.glob("*/figures/*.png"), *folder.glob("*/figures/*.svg")]
    found += [*folder.glob("*/figures/*.csv"), *folder.glob("*/tables/*.md")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.long
@pytest.mark.workflow
def test_a_recorded_benchmark_is_up_to_date_and_shows_metrics_and_plots(base):
    folder = base / "origin"
    ran, skipped = stages((folder / "first.txt").read_text())
    assert {"plan", "training@enumerable-vbon", "analysis@enumerable"} <= ran
    assert not skipped
    assert stages(shell(folder, "dvc repro")) == (set(), ran)
    points = pd.read_csv(folder / "results/enumerable/points.csv")
    shown = shell(folder, "dvc metrics show --json")
    assert f'"runs": {(points["method"] == "vbon").sum()}' in shown
    assert shell(folder, "dvc metrics diff HEAD").strip() == ""
    shell(folder, "dvc plots show --out plots && rm -r plots")
    tracked = shell(folder, "git ls-files").split()
    assert not [path for path in tracked if path.startswith("results")]


@pytest.mark.long
@pytest.mark.workflow
def test_figures_are_redrawn_from_what_was_pulled_and_nothing_else_is(base, clone):
    before = {path: path.stat().st_mtime_ns for path in clone.glob("results/**/*.parquet")}
    graph = ["-s", "workflow/figures.smk", "-F"]
    jobs = planned_jobs(clone, *graph)
    assert set(jobs) == {"figure", "table", "redraw", "total"}
    for path in clone.glob("results/*/figures/*"):
        path.unlink()
    run(clone, *graph, "--cores", "2")
    assert pictures(clone / "results") == pictures(base / "origin/results")
    assert {p: p.stat().st_mtime_ns for p in clone.glob("results/**/*.parquet")} == before


@pytest.mark.long
@pytest.mark.workflow
def test_a_restored_sweep_continues_with_the_new_runs_alone(clone):
    old = records(clone)
    edited = clone / "vbon/analysis/pareto.py"
    edit(edited, "import numpy as np\n", "import numpy as np\n\nCHANGED = 1\n")
    assert "results/enumerable/points.parquet was not made in this folder" in shell(
        clone, "dvc repro", code=255
    )
    assert "git stash" in shell(clone, "vbon restore", code=1)
    shell(clone, "git checkout -q vbon dvc.lock && dvc checkout")
    # Figures that were drawn again do not stand in the way.
    run(clone, "-s", "workflow/figures.smk", "-F", "--cores", "2")
    assert shell(clone, "vbon restore 2> /dev/null").splitlines()[-1] == "3 runs, to train: 0"
    assert planned_jobs(clone) == {}

    change(clone, "seeds", value=[0, 1])
    change(clone, "methods", "reference", value={"seeds": [0]})
    assert plan(clone) == "5 runs, to train: 2"
    change(clone, "seeds", value=[0])
    change(clone, "methods", "vbon", value={"n": [2, 3, 4]})
    ran, skipped = stages(shell(clone, "dvc repro"))
    assert {stage for stage in ran if "training" in stage} == {"training@enumerable-vbon"}
    assert {"tasks@enumerable", "pool@enumerable", "training@enumerable-reference"} <= skipped
    assert {name: record for name, record in records(clone).items() if name in old} == old
    assert set(records(clone)) - set(old) == {"enumerable/runs/vbon/n3/seed0"}


@pytest.mark.long
@pytest.mark.workflow
def test_restoring_before_everything_is_there_is_refused(base, tmp_path):
    shell(tmp_path, f"git clone -q {base}/origin clone")
    message = shell(tmp_path / "clone", "vbon restore", code=1)
    assert "dvc pull" in message
    assert "Traceback" not in message


def dry_run_of_figures(folder: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "snakemake", "-s", "workflow/figures.smk", "-n"]
    done = subprocess.run([*command, "--cores", "1"], cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.workflow
def test_what_readme_shows_is_drawn_from_published_tables(tmp_path):
    """Nobody has to compute or pull anything to redraw it."""
    folder = make_checkout(tmp_path / "checkout")
    shutil.copy(ROOT / "config.yaml", folder)
    (folder / "published").symlink_to(ROOT / "published")
    code, output = dry_run_of_figures(folder)
    assert code == 0
    readme = (ROOT / "README.md").read_text()
    shown = re.findall(r"published/(\S+/(?:figures|tables)/\w+)\.(?:png|md)", readme)
    assert "sentiment/figures/figure2a" in shown
    assert [name for name in shown if f"left out: results/{name}," in output] == []


@pytest.mark.workflow
def test_figures_that_cannot_be_drawn_are_named_with_what_they_lack(tmp_path):
    folder = make_checkout(tmp_path / "checkout", RECORDED | {"results_dir": "elsewhere"})
    (folder / "published").symlink_to(ROOT / "published")  # of `results`, not of elsewhere
    code, output = dry_run_of_figures(folder)
    assert code == 1
    assert (
        "left out: elsewhere/enumerable/figures/optimum, since elsewhere/enumerable/tables/"
        "optimum.csv and elsewhere/enumerable/tables/curves.csv is missing"
    ) in output
    assert "dvc pull" in output
    assert "Traceback" not in output


def test_a_folder_is_a_phase_a_rule_file_and_in_a_stage():
    """A change that a rule sees must be seen by DVC, or it would skip what is outdated."""
    files = {path.stem for path in (ROOT / "workflow/rules").glob("*.smk")}
    assert files == {*PHASES, "common", "targets"}
    assert set(PHASES) == {folder for folders in STAGES.values() for folder in folders}
    recorded = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert set(STAGES) | {"plan", "training_more"} == set(recorded)
    used = re.compile(r'STEPS\["(\w+)"\]')
    for phase in PHASES:
        text = (ROOT / f"workflow/rules/{phase}.smk").read_text()
        for name in used.findall(text):
            assert steps()[name].phase == phase, f"{phase}.smk: {name}"


def test_every_run_of_the_shipped_config_is_recorded():
    config = resolve(yaml.safe_load((ROOT / "config.yaml").read_text()))
    recorded = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    more = recorded["training_more"]["matrix"]["method"]
    assert set(more) <= set(method_modules())
    assert not set(more) & set(config["run_methods"])  # one stage a folder
    methods = {run.method for run in expand(config) if not run.study}
    assert methods <= {*config["run_methods"], *more}

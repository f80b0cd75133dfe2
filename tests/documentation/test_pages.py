"""README and the first tutorial, typed block by block in a checkout of their own.

`make test-docs` types them where `make smoke` has run before, and looks at long commands by dry
runs; `make faults` types everything. What neither types as it stands is in the tables of
replacements, with the reason. The other tutorial is followed by tests/workflow/test_tutorial.py.
"""

import os
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from commands import Replaced, follow

from vbon.tasks.grammar import write_reviews

ROOT = Path(__file__).parent.parent.parent
COPIED = ("config", "workflow", "profiles", "Snakefile", "Makefile", "config.yaml", "dvc.yaml")
LINKED = ("published", "docs", "README.md")
SMOKE = (*COPIED, "results-smoke", ".snakemake/metadata")

NOT_HERE = [
    Replaced("make benchmark", "make smoke", "half an hour; the same graph at toy size"),
    Replaced(
        r"(.*vbon workflow .*config/(?:extended|matched).yaml)",
        r"\1 -n --quiet host",
        "a study of the full benchmark, whose models would be trained first",
    ),
]
README = {
    "quick": [
        *NOT_HERE,
        Replaced(
            "make figures",
            "vbon workflow -s workflow/figures.smk -F -n --quiet host",
            "a minute; whole workflows draw figures elsewhere",
        ),
        Replaced(r"(.*vbon workflow .*mine.yaml)", r"\1 -n --quiet host", "minutes"),
    ],
    "whole": [
        *NOT_HERE,
        Replaced(
            r"(.*vbon workflow .*)mine.yaml",
            r"\1config/smoke.yaml mine.yaml -- results-mine/sentiment/points.csv",
            "an hour at full size",
        ),
    ],
}
FIRST_RUN = {
    "quick": [
        Replaced("make smoke", "make smoke", "nothing is to be done, and so other words come"),
        Replaced(
            r"(vbon workflow .* more.yaml)",
            r"\1 -n --quiet host",
            "a minute of training and drawing",
        ),
        Replaced("grep -c .*points.csv", None, "the run before it was a dry one"),
        Replaced(
            "vbon compare .*", r"vbon compare before results-smoke", "the same: nothing differs"
        ),
    ],
    "whole": [],
}
LENGTHS = [
    pytest.param("quick", marks=pytest.mark.docs),
    pytest.param("whole", marks=[pytest.mark.workflow, pytest.mark.long]),
]


def make_checkout(folder: Path, length: str) -> dict[str, str]:
    """A checkout with this environment as its `.venv`; returns what its commands see."""
    (folder / ".venv").mkdir(parents=True)
    for entry in Path(sys.prefix).iterdir():
        if not entry.name.startswith("."):
            (folder / ".venv" / entry.name).symlink_to(entry)
    if length == "quick" and not (ROOT / "results-smoke/sentiment/points.csv").exists():
        pytest.fail("results-smoke is missing; run `make smoke` before `make test-docs`")
    for name in SMOKE if length == "quick" else COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        (folder / name).parent.mkdir(exist_ok=True)
        copy(ROOT / name, folder / name)
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    for name in ("requirements.lock", "requirements-slurm.lock", "pyproject.toml"):
        shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv/.complete").touch()  # newer than all that make would install it from
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSF"))}
    return environment | {"PATH": f"{folder / '.venv/bin'}{os.pathsep}{environment['PATH']}"}


@pytest.mark.parametrize("length", LENGTHS)
def test_readme(length, tmp_path):
    folder = tmp_path / "checkout"
    environment = make_checkout(folder, length)
    write_reviews(1500, seed=1)[["text", "label"]].to_json(
        folder / "my_reviews.jsonl", orient="records", lines=True
    )
    follow((ROOT / "README.md").read_text(), folder, environment, README[length])
    if length == "whole":
        assert (folder / "results/sentiment/figures/figure2a.png").exists()
        points = pd.read_csv(folder / "results-mine/sentiment/points.csv")
        assert (points["status"] == "ok").all()


@pytest.mark.parametrize("length", LENGTHS)
def test_first_run(length, tmp_path):
    folder = tmp_path / "checkout"
    environment = make_checkout(folder, length)
    page = (ROOT / "docs/tutorials/first-run.md").read_text()
    follow(page, folder, environment, FIRST_RUN[length])
    for name in ("sentiment/figures/figure2a.png", "report/index.html"):
        assert (folder / "results-smoke" / name).exists()


def test_every_page_with_a_walk_is_walked():
    """A new tutorial is followed by a test, too."""
    named = {page.name for page in (ROOT / "docs/tutorials").glob("*.md")} - {"index.md"}
    tests = [Path(__file__), ROOT / "tests/workflow/test_tutorial.py"]
    followed = "".join(test.read_text() for test in tests)
    assert {name for name in named if f"docs/tutorials/{name}" not in followed} == set()

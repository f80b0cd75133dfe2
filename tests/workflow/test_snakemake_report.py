"""The page that the workflow makes, alone from tables, and Snakemake's own report beside it."""

import re
import shutil
import zipfile

import pytest
from checkout import copy, run

from vbon.report.captions import CAPTIONS

PAGE = "results/report/index.html"


@pytest.mark.long
@pytest.mark.workflow
def test_the_page_shows_what_is_there_and_snakemakes_report_has_captions(swept, tmp_path):
    folder = copy(swept, tmp_path / "checkout")
    whole = (folder / PAGE).read_text()
    for part in ("Training", "Costs", "Models and texts"):
        assert f"<h2>{part}</h2>" in whole
    assert 'class="missing"' not in whole

    run(folder, "--cores", "1", "--report", "own.zip")
    with zipfile.ZipFile(folder / "own.zip") as archive:
        names = archive.namelist()
        html = next(archive.read(name) for name in names if name.endswith("report.html")).decode()
    assert " ".join(CAPTIONS["optimum"].split()) in re.sub(r"(\\n|\s)+", " ", html)
    assert "Table optimum of the task enumerable" in re.sub(r"(\\n|\s)+", " ", html)
    assert any(name.endswith("/optimum.svg") for name in names)
    assert any(name.endswith("/index.html") for name in names)

    task = folder / "results/enumerable"  # as `make figures` does where only some tables came
    alone = ("-s", "workflow/figures.smk", "-F", "--cores", "1")
    shutil.rmtree(task / "runs")
    run(folder, *alone)
    assert (folder / PAGE).read_text() == whole
    (task / "tables/excerpts.csv").unlink()
    run(folder, *alone)
    bare = (folder / PAGE).read_text()
    assert "<code>results/enumerable/tables/excerpts.csv</code>" in bare
    assert "to the same test prompts" in whole
    assert "to the same test prompts" not in bare

"""The page without a browser: what it says of the tables, and what no text in them can do to it."""

import base64
import itertools
import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from report.made_up import EVIL, points, task_files

from vbon.figures.style import METHODS
from vbon.report import page as page_module
from vbon.report.captions import CAPTIONS
from vbon.report.charts import compact
from vbon.report.page import render
from vbon.report.sources import origin, tasks_of
from vbon.report.style import DARK, RAMP, SHAPES, contrast
from vbon.report.tables import table_block

VOID = {"meta", "link", "img", "br", "path"}


class Outline(HTMLParser):
    """Headings, ids and texts of a page; elements that are not closed are found."""

    def __init__(self):
        super().__init__()
        self.open, self.headings, self.ids, self.scripts, self.text = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids += [values["id"]] if "id" in values else []
        assert not [key for key in ("src", "href") if values.get(key, "").startswith("http")]
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.scripts.append(data) if self.open[-1:] == ["script"] else self.text.append(data)

    @classmethod
    def of(cls, html):
        outline = cls()
        outline.feed(html)
        outline.close()
        assert not outline.open
        return outline


@pytest.fixture(autouse=True, scope="module")
def _without_vega():
    """Vega's own script takes seconds to bundle, and is no matter of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_module.vl_convert, "javascript_bundle", lambda: "'</script><!--';")
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return task_files(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def tasks(files):
    return tasks_of(files)


@pytest.fixture(scope="module")
def html(tasks):
    return render(tasks)


def test_it_is_the_same_text_for_the_same_tables(files, html):
    assert html == render(tasks_of(files))
    outline = Outline.of(html)
    assert len(outline.ids) == len(set(outline.ids))
    levels = outline.headings
    assert levels[0] == 1
    assert all(deeper <= level + 1 for level, deeper in itertools.pairwise(levels))


def test_no_text_of_a_table_is_taken_as_markup(html):
    outline = Outline.of(html)
    assert "evil" not in outline.ids
    assert any(EVIL in text for text in outline.text)  # letter by letter, in the table of samples
    assert len(outline.scripts) == 3
    payload = json.loads(outline.scripts[0])
    runs = payload["data"]["sentiment-runs"]
    said = [row[runs["columns"].index("Response")] for row in runs["rows"]]
    assert set(said) == {EVIL}


def test_every_run_is_a_point_and_a_row(html):
    payload = json.loads(Outline.of(html).scripts[0])
    table = points()
    drawn = payload["data"]["sentiment-runs"]["rows"]
    assert len(drawn) == (table["status"] == "ok").sum() < len(table)
    first = dict(zip(payload["data"]["sentiment-runs"]["columns"], drawn[1], strict=True))
    row = table.loc[first["run"]]
    assert first["kl"] == pytest.approx(row["kl"], rel=1e-4)
    assert first["Win rate ± SE"] == f"{row['win_rate']:.3f} ± {row['win_rate_se']:.3f}"
    assert f"{len(table) - len(drawn)} runs diverged" in html


def test_it_says_what_the_data_are_and_where_they_come_from(html, tasks):
    assert "synthetic. Texts are written by a seeded grammar" in html
    found = origin(tasks)
    assert found["Results of"] == "2026-01-02 03:04:05+00:00"
    assert found["Configuration"] == "sentiment 0123abc"
    assert found["Commit"] == "abc1234"
    for words in found.values():
        assert words in html


def test_other_texts_are_not_called_synthetic(tmp_path):
    files = task_files(tmp_path)
    path = files["sentiment/tables/models"]
    table = pd.read_csv(path)
    table.loc[table["quantity"] == "source", "value"] = "stanfordnlp/imdb"
    table.to_csv(path, index=False)
    html = render(tasks_of(files))
    assert "texts of stanfordnlp/imdb" in html
    assert "synthetic" not in html


PARTS = {
    "points": "<h2>Main figure</h2>",
    "costs": "<h2>What methods cost</h2>",
    "tables/claims": "<h2>Claims of the paper</h2>",
    "tables/table1": "Table 1: samples of each size",
    "tables/training": "<h2>Training</h2>",
    "tables/samples": '<p class="source">sentiment/tables/samples.csv</p>',
    "tables/models": "Reference</h4>",
    "figures/figure7a": "Figure 7a</h4>",
}


@pytest.mark.parametrize("kept", [("points",), ("tables/table1", "tables/models")])
def test_a_part_whose_table_is_missing_is_left_out_and_named(files, html, kept):
    assert all(words in html for words in PARTS.values())
    rest = {name: path for name, path in files.items() if name.partition("/")[2] in kept}
    lacking = [f"results/sentiment/{name}.csv" for name in PARTS if name not in kept]
    bare = render(tasks_of(rest), lacking)
    Outline.of(bare)
    assert [name for name, words in PARTS.items() if words in bare] == list(kept)
    assert all(f"<li><code>{path}</code></li>" in bare for path in lacking)


def test_verdicts_are_words_in_their_own_column(html, tasks):
    for word in ("supported", "not supported", "undecided"):
        assert f'data-verdict="{word}">{word}<' in html
    block = table_block(tasks[0], "claims")
    assert block["header"][:3] == ["claim", "verdict", "source"]
    assert block["verdict"] == 1
    assert block["rows"][1][:3] == ["DPO is below PPO", "not supported", "figure 2"]
    assert block["numeric"][block["header"].index("value")]


def test_printed_figures_are_whole(html, tasks):
    (found,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', html)
    assert base64.b64decode(found).decode() == tasks[0].svg("figure7a")
    assert CAPTIONS["figure7a"] in html


def test_colours_can_be_told_from_both_papers():
    css = page_module.FILES[1].read_text()
    light, dark = re.findall(r"--paper: (#\w+);", css)[:2]
    for style in METHODS.values():
        assert contrast(DARK.get(style.colour, style.colour), dark) > 3
        assert style.marker in SHAPES
    assert all(contrast(colour, dark) > 3 for colour in RAMP)
    assert all(contrast(colour, light) > 2 for colour in RAMP)
    for paper, ink in zip(*(re.findall(rf"--{name}: (#\w+);", css)[:2] for name in
                            ("paper", "quiet")), strict=True):  # fmt: skip
        assert contrast(paper, ink) > 4.5


def test_rows_hold_what_json_can(tasks):
    table = compact(pd.DataFrame({"a": [1.23456789e-7, float("inf")], "b": ["x", None]}))
    assert table["rows"] == [[1.2346e-07, "x"], [None, None]]

"""The page without a browser: its content, and the escaping of text from tables."""

import base64
import itertools
import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from markupsafe import escape
from report.made_up import EVIL, points, task_files, write

from vbon.figures.style import method_styles
from vbon.methods.registry import MARKERS, method_modules
from vbon.report import page as page_module
from vbon.report.captions import CAPTIONS
from vbon.report.charts import compact
from vbon.report.page import render
from vbon.report.sources import origin, tasks_of
from vbon.report.style import DARK, DARK_PAPER, RAMP, SHAPES, contrast
from vbon.report.summary import sentences
from vbon.report.tables import claims_block

VOID = {"meta", "link", "img", "br", "path"}


class Outline(HTMLParser):
    """Headings, ids and texts of a page; fails on elements that are not closed."""

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
    """Bundling Vega takes seconds, and these tests do not run it."""
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
    assert any(EVIL in text for text in outline.text)  # letter by letter, in the table of excerpts
    assert len(outline.scripts) == 3
    payload = json.loads(outline.scripts[0])
    runs = payload["data"]["sentiment-runs"]
    responses = [row[runs["columns"].index("Response")] for row in runs["rows"]]
    assert set(responses) == {EVIL}


def test_every_run_is_a_point_and_a_row(html):
    payload = json.loads(Outline.of(html).scripts[0])
    table = points()
    drawn = payload["data"]["sentiment-runs"]["rows"]
    assert len(drawn) == (table["status"] == "ok").sum() < len(table)
    first = dict(zip(payload["data"]["sentiment-runs"]["columns"], drawn[1], strict=True))
    row = table.loc[first["run"]]
    assert first["kl"] == pytest.approx(row["kl"], rel=1e-4)
    assert first["Win rate ± SE"] == f"{row['win_rate']:.3f} ± {row['win_rate_se']:.3f}"
    assert f"Not drawn: {len(table) - len(drawn)} runs that diverged" in html


def test_it_names_the_data_and_the_origin_of_the_results(html, tasks):
    assert "sentiment (synthetic, texts of a seeded grammar" in html
    words = origin(tasks)
    assert words["Results of"] == "2026-01-02 03:04:05+00:00"
    assert words["Configuration"] == "sentiment 0123abc"
    assert words["Commit"] == "abc1234"
    assert "<summary>Results of 2026-01-02, commit abc1234, seed 0</summary>" in html
    for text in words.values():
        assert text in html


def test_the_page_begins_with_the_figure_its_sentences_and_then_the_claims(html, tasks):
    chart = html.index('data-chart="sentiment-win_rate"')
    places = [html.index(str(escape(sentence))) for sentence in sentences(tasks)]
    claims = html.index('<section id="claims">')
    assert [chart, *places, claims] == sorted([chart, *places, claims])
    assert "<table" not in html[:chart]
    assert "Sentiment: win rate against KL</h2>" in html[:chart]


def test_any_name_of_a_task_gives_the_same_page(html, tmp_path):
    renamed = render(tasks_of(task_files(tmp_path, "my_task")))
    same = renamed.replace("my_task", "sentiment").replace("my task", "sentiment")
    assert same.replace("My task", "Sentiment") == html


def test_a_task_without_a_trade_off_leads_with_its_temperatures(tmp_path):
    files = task_files(tmp_path, "other") | task_files(tmp_path)
    table = pd.DataFrame({"method": "vbon", "setting": "n4", "domain": "in_domain",
                          "temperature": [0.5, 1.0], "mean": [0.6, 0.7], "sd": 0.01})  # fmt: skip
    path = write(tmp_path / "other", "figures/figure5a", table)
    path.with_suffix(".svg").write_text("<svg/>")
    files["other/figures/figure5a"] = str(path)
    both = render(tasks_of(files))
    assert both.index('data-chart="sentiment-win_rate"') < both.index('<section id="claims">')
    assert both.index('data-chart="other-figure5a"') > both.index('<section id="figures">')
    html = render(tasks_of({name: path for name, path in files.items() if name[:5] == "other"}))
    assert html.index('data-chart="other-figure5a"') < html.index('<section id="claims">')


def test_exact_optima_replace_the_trade_off(files):
    path = files["sentiment/tables/table1"]
    html = render(tasks_of(files | {"sentiment/tables/optimum": path}))
    assert 'data-chart="sentiment-win_rate"' not in html
    assert "<h2>Summary</h2>" in html


def test_other_texts_are_not_called_synthetic(tmp_path):
    files = task_files(tmp_path)
    path = files["sentiment/tables/cards"]
    table = pd.read_csv(path)
    table.loc[table["quantity"] == "source", "value"] = "stanfordnlp/imdb"
    table.to_csv(path, index=False)
    html = render(tasks_of(files))
    assert "sentiment (texts of stanfordnlp/imdb)" in html
    assert "synthetic" not in html


PARTS = {
    "points": "Sentiment: win rate against KL</h2>",
    "costs": "<h2>Costs</h2>",
    "tables/claims": "<h2>Claims of the paper</h2>",
    "tables/matched_kl": "<h4>Methods at equal KL</h4>",
    "tables/table1": "Table 1: samples of each size",
    "tables/histories": "<h2>Training</h2>",
    "tables/excerpts": '<p class="source">sentiment/tables/excerpts.csv</p>',
    "tables/cards": "Reference</h4>",
    "figures/figure7a": "Figure 7a</h4>",
}


@pytest.mark.parametrize("kept", [("points",), ("tables/table1", "tables/cards")])
def test_a_part_whose_table_is_missing_is_left_out_and_named(files, html, kept):
    assert all(words in html for words in PARTS.values())
    rest = {name: path for name, path in files.items() if name.partition("/")[2] in kept}
    lacking = [f"results/sentiment/{name}.csv" for name in PARTS if name not in kept]
    bare = render(tasks_of(rest), lacking)
    Outline.of(bare)
    assert [name for name, words in PARTS.items() if words in bare] == list(kept)
    assert all(f"<li><code>{path}</code></li>" in bare for path in lacking)


def test_each_claim_is_one_line_that_unfolds(html, tasks):
    rows = claims_block(tasks[0])["rows"]
    assert [row["verdict"] for row in rows] == ["supported", "not supported", "undecided"]
    assert rows[1]["claim"] == "DPO is below PPO"
    assert rows[1]["number"] == "−0.1 (−0.2 to −0.05)"
    names = [name for name, _ in rows[1]["details"]]
    assert names == ["Statistic", "Value and interval", "Rule", "Source"]  # the note is empty
    for row in rows:
        line = f'<summary><span class="verdict" data-verdict="{row["verdict"]}">{row["verdict"]}<'
        assert f'{line}/span> <span class="claim">{row["claim"]}</span>' in html


def test_printed_figures_are_whole(html, tasks):
    (image,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', html)
    assert base64.b64decode(image) == tasks[0].svg("figure7a")
    assert CAPTIONS["figure7a"] in html


def test_colours_contrast_with_both_backgrounds():
    css = page_module.FILES[1].read_text()
    pairs = re.findall(r"--(\w+): light-dark\((#\w+), (#\w+)\);", css)
    colours = {name: shades for name, *shades in pairs}
    light, dark = colours["paper"]
    assert dark == DARK_PAPER
    for style in method_styles([*method_modules(), *"abcde"]).values():
        assert contrast(DARK[style.colour], dark) > 4.4
    assert SHAPES.keys() == set(MARKERS)
    assert all(contrast(colour, dark) > 3 for colour in RAMP)
    assert all(contrast(colour, light) > 2 for colour in RAMP)
    for name in ("ink", "quiet", "accent", "good", "bad"):
        for paper in ("paper", "wash"):
            pairs = zip(colours[paper], colours[name], strict=True)
            assert all(contrast(*pair) > 4.5 for pair in pairs), name


def test_rows_are_valid_json():
    table = compact(pd.DataFrame({"a": [1.23456789e-7, float("inf")], "b": ["x", None]}))
    assert table["rows"] == [[1.2346e-07, "x"], [None, None]]

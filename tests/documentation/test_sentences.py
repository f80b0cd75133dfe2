"""Results in README.md and docs/ are those of the published tables."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SPEC = importlib.util.spec_from_file_location("sentences", ROOT / "docs/sentences.py")
sentences = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(sentences)

PAGES = sentences.templates()
SETTINGS = {".02", ".05", ".25", ".5", ".75", ".9", ".3", "3.11"}
"""Numbers that are no results: margins, temperatures, coefficients, the level of F, Python."""
ASIDE = re.compile(r"```.*?```|`[^`]*`|\]\([^)]*\)|\d{4}\.\d{5}|<!--.*?-->", re.DOTALL)
"""Code, links, arXiv's numbers and comments."""


def decimals(text: str) -> set[str]:
    """Decimal numbers in prose that are no settings."""
    return set(re.findall(r"(?<![\w.])\d*\.\d+", ASIDE.sub(" ", text))) - SETTINGS


@pytest.mark.parametrize("page", PAGES)
def test_blocks_are_what_the_published_tables_give(page):
    assert (ROOT / page).read_text() == sentences.filled(page), "run `make sentences`"


@pytest.mark.parametrize("page", PAGES)
def test_results_are_in_blocks_alone(page):
    assert decimals(sentences.BLOCK.sub("", (ROOT / page).read_text())) == set()


@pytest.mark.parametrize("page", PAGES)
def test_templates_have_no_results_of_their_own(page):
    templates = "\n".join(PAGES[page].values())
    assert decimals(sentences.PLACEHOLDER.sub("", templates)) == set()
    verdicts = re.findall(r"(?:not )?supported|undecided", sentences.PLACEHOLDER.sub("", templates))
    assert verdicts == []


@pytest.fixture
def published(tmp_path, monkeypatch):
    (tmp_path / "published/t").mkdir(parents=True)
    rows = ["method,n,value,low,high,verdict", "vbon,2,-0.5,-0.6,-0.4,supported",
            "vbon,4,0.25,0.1,0.4,undecided", "ppo,,1.5,1.0,2.0,supported"]  # fmt: skip
    (tmp_path / "published/t/rows.csv").write_text("\n".join(rows))
    monkeypatch.setattr(sentences, "ROOT", tmp_path)
    sentences.table.cache_clear()
    yield tmp_path
    sentences.table.cache_clear()


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("is {t/rows method=vbon n=2 : verdict}.", "is supported."),
        ("{t/rows method=vbon n=4 : interval .2f}", ".25 (.10 to .40)"),
        ("{t/rows method=vbon : value mean .3f}", "−.125"),
        ("{t/rows method=vbon : value max +.1%}", "+25.0 %"),
        ("{t/rows method=ppo : value .1f}", "1.5"),
    ],
)
def test_placeholders(published, template, expected):
    assert sentences.render(template) == expected


def test_a_placeholder_without_one_value_is_refused(published):
    with pytest.raises(LookupError, match=r"method=vbon : value.*2 rows of published/t/rows\.csv"):
        sentences.render("{t/rows method=vbon : value .1f}")
    with pytest.raises(LookupError, match="0 rows"):
        sentences.render("{t/rows method=dpo : value mean .1f}")


def test_a_changed_table_changes_the_page_and_a_block_without_a_template_is_refused(
    published, monkeypatch
):
    blocks = {"page.md": {"one": "now {t/rows n=4 : value .2f}\n"}}
    monkeypatch.setattr(sentences, "templates", lambda: blocks)
    page = published / "page.md"
    page.write_text("a\n<!-- results: one -->\nstale\n<!-- end of results -->\nz\n")
    assert sentences.filled("page.md") == page.read_text().replace("stale", "now .25")
    page.write_text(page.read_text().replace("one", "two"))
    with pytest.raises(LookupError, match="two"):
        sentences.filled("page.md")

"""The documentation is built without a warning, and its reference leaves nothing out."""

import html
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from vbon.artifacts import SCHEMAS
from vbon.cli import VERBS
from vbon.methods.registry import get_method, method_modules
from vbon.planning.config import schema, section_schema
from vbon.tasks.registry import KINDS

pytestmark = pytest.mark.docs
ROOT = Path(__file__).parent.parent.parent
SOURCES = ROOT / "docs"


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The pages, from sources without anything that an earlier build left."""
    folder = tmp_path_factory.mktemp("pages")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet"]
    paths = ["-b", "html", "-d", str(folder / "doctrees"), str(SOURCES), str(folder / "html")]
    done = subprocess.run([*command, *paths], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "html"


def text(page: Path) -> str:
    """What a page says, without its markup."""
    found = re.sub(r"<[^>]+>", "", page.read_text())
    return html.unescape(found)


def keys(node: Mapping[str, Any], path: str) -> Iterator[str]:
    """Paths of all keys below a part of the schema."""
    for name, own in node.get("properties", {}).items():
        yield f"{path}{name}"
        yield from keys(own, f"{path}{name}.")


def test_every_page_is_built_and_none_is_left_out(built):
    sources = [p for p in SOURCES.rglob("*.md") if not any(s[0] == "_" for s in p.parts[-3:])]
    assert len(sources) > 30
    for source in sources:
        assert (built / source.relative_to(SOURCES).with_suffix(".html")).exists(), source
    for section in ("tutorials", "how-to", "reference", "explanation", "decisions"):
        assert f"{section}/index.html" in (built / "index.html").read_text()


def test_every_key_of_the_configuration_is_listed(built):
    listed = text(built / "reference/config.html")
    every = {key for key in keys(schema(), "") if not key.startswith("$defs")}
    every |= {key for kind in KINDS.files() for key in keys(section_schema(kind), "{task}.")}
    assert len(every) > 100
    assert [key for key in sorted(every) if key not in listed] == []


def test_every_method_has_a_section_with_its_settings_and_paper(built):
    page = built / "reference/methods.html"
    listed, anchors = text(page), page.read_text()
    for name in method_modules():
        method = get_method(name)
        assert f'id="{name.replace("_", "-")}"' in anchors, name
        assert method.paper in listed
        for field in fields(method):
            assert not field.init or field.name in listed


def test_every_verb_and_table_has_a_section(built):
    verbs = text(built / "reference/verbs.html")
    for verb, (_, summary) in VERBS.items():
        assert f"vbon {verb}" in verbs
        assert summary.replace("`", "") in verbs
        assert f"usage: vbon {verb}" in verbs, f"the help of {verb} is missing"
    tables = text(built / "reference/artifacts.html")
    for name, known in SCHEMAS.items():
        assert name in tables
        assert all(column in tables for column in known.columns)

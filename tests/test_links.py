"""Relative links and anchors of all pages lead somewhere; so do paths in comments."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    ROOT / "published/README.md",
    ROOT / "benchmarks/README.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if "/_" not in str(page)),
]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^ *(```+)[^`\n]*\n.*?^ *\1$", re.DOTALL | re.MULTILINE)
NAMED = re.compile(r"docs/[\w/-]+\.md")


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and MyST make them."""
    found = set()
    for line in FENCED.sub("", page.read_text()).splitlines():
        if line.startswith("#"):
            words = re.sub(r"[^\w\s-]", "", line.lstrip("#").strip().lower())
            found.add(re.sub(r"\s", "-", words))
    return found


def broken(page: Path) -> list[str]:
    """Links of a page that lead nowhere in this repository."""
    found = []
    for link in LINK.findall(FENCED.sub("", page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert broken(page) == []


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# One two!\n[a](#one-two) [b](#three) [c](no.md) [d](https://x.org) [e](page.md)"
    )
    assert broken(page) == ["#three", "no.md"]


def test_pages_that_code_and_configuration_name_exist():
    folders = ("vbon", "workflow", "config", "profiles", "tests", "docs")
    files = [path for name in folders for path in (ROOT / name).rglob("*")]
    files += [*ROOT.glob("*.md"), *ROOT.glob("*.yaml"), ROOT / "Makefile"]
    texts = [f for f in files if f.suffix in (".py", ".smk", ".yaml", ".md", "") and f.is_file()]
    named = {name for f in texts if "/_" not in str(f) for name in NAMED.findall(f.read_text())}
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []

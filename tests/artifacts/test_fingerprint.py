"""What counts as a change: of code, of files, and of what was asked for."""

import os

import pytest

from vbon.artifacts import fingerprint
from vbon.artifacts.fingerprint import code_fingerprint, content_hash, digest, provenance

MODULE = '''"""Doc of the module."""

from toy.helper import twice  # a comment


class Thing:
    """Doc of the class."""

    size: int = 1
    """Doc of the field."""


def grow(x):
    """Doc of the function."""
    return twice(x) + 1
'''


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A package of three modules, in the place of the real one."""
    package = tmp_path / "toy"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text('"""Doc."""\n')
    (package / "main.py").write_text(MODULE)
    (package / "helper.py").write_text("import toy.deep\n\n\ndef twice(x):\n    return 2 * x\n")
    (package / "deep" / "__init__.py").write_text("from toy.deep.core import LIMIT\n")
    (package / "deep" / "core.py").write_text("import os\n\nLIMIT = 3\n")
    (package / "alone.py").write_text("ALONE = 1\n")
    monkeypatch.setattr(fingerprint, "PACKAGE", package)
    return package


def hashed(*modules):
    """The fingerprint as a fresh process finds it."""
    fingerprint._parsed.cache_clear()
    return code_fingerprint(*modules)


def edit(file, old, new):
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# a comment", "# another one"),
        ("Doc of the module.", "Other words."),
        ("Doc of the class.", "Other words."),
        ("Doc of the field.", "Other words."),
        ('    """Doc of the function."""\n', ""),
        ("return twice(x) + 1", "return (\n        twice(x)\n        + 1\n    )"),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(toy, old, new):
    before = hashed("toy.main")
    edit(toy / "main.py", old, new)
    assert hashed("toy.main") == before


@pytest.mark.parametrize(
    ("old", "new"),
    [("+ 1", "+ 2"), ("def grow(x)", "def grow(x, y=0)"), ("size: int = 1", "size: int = 2")],
)
def test_code_counts(toy, old, new):
    before = hashed("toy.main")
    edit(toy / "main.py", old, new)
    assert hashed("toy.main") != before


@pytest.mark.parametrize(
    ("file", "old", "new"), [("helper.py", "2 * x", "3 * x"), ("deep/core.py", "= 3", "= 4")]
)
def test_imported_modules_count_however_far_away(toy, file, old, new):
    before, alone = hashed("toy.main"), hashed("toy.alone")
    edit(toy / file, old, new)
    assert hashed("toy.main") != before
    assert hashed("toy.alone") == alone


def test_modules_that_are_not_imported_do_not_count(toy):
    before = hashed("toy.main")
    edit(toy / "alone.py", "= 1", "= 2")
    assert hashed("toy.main") == before


def test_a_file_outside_the_package_counts_with_what_it_imports(toy, tmp_path):
    extra = tmp_path / "extra.py"
    extra.write_text("from toy.helper import twice\n")
    before = hashed("toy.alone", extra)
    assert before != hashed("toy.alone")
    edit(toy / "deep/core.py", "= 3", "= 4")
    assert hashed("toy.alone", extra) != before


def test_the_training_fingerprint_sees_the_loop_and_no_figure():
    files = set()
    seen = fingerprint._parsed.__wrapped__

    def spy(file):
        files.add(file.relative_to(fingerprint.PACKAGE).as_posix())
        return seen(file)

    original, fingerprint._parsed = fingerprint._parsed, spy
    try:
        code_fingerprint("vbon.training.runs")
    finally:
        fingerprint._parsed = original
    needed = {
        "training/online.py",
        "objectives/policy_gradient.py",
        "sampling/transformers.py",
        "models/gpt2.py",
        "rewards/classifier.py",
        "logf.py",
        "seeding.py",
    }
    assert needed <= files
    assert not [file for file in files if file.startswith(("figures/", "cli/", "evaluation/"))]


def test_content_is_bytes_and_names_below_a_folder(tmp_path):
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("one")
    (folder / "deep" / "b.txt").write_text("two")
    before = content_hash(folder)
    os.utime(folder / "a.txt", (1, 1))
    assert content_hash(folder) == before
    (folder / ".hidden").write_text("three")
    assert content_hash(folder) == before
    (folder / "a.txt").rename(folder / "c.txt")
    renamed = content_hash(folder)
    assert renamed != before
    (folder / "deep" / "b.txt").write_text("TWO")
    os.utime(folder / "deep" / "b.txt", (2, 2))
    assert content_hash(folder) != renamed
    with pytest.raises(FileNotFoundError):
        content_hash(tmp_path / "nothing")


def test_a_copy_has_the_content_of_its_original(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"same")
    assert content_hash(tmp_path / "a") == content_hash(tmp_path / "b")
    assert content_hash(tmp_path / "a" / "file") == content_hash(tmp_path / "b" / "file")


def test_a_digest_depends_on_values_and_not_on_the_order_of_keys():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    different = [{"a": 1}, {"a": 1.5}, {"a": "1"}, {"b": 1}, [1], {"a": [1, 2]}, {"a": [2, 1]}]
    assert len({digest(value) for value in different}) == len(different)


def test_provenance_has_a_key_of_settings_inputs_and_code(tmp_path):
    path = tmp_path / "input"
    path.write_text("one")

    def made(seed=0, modules=("vbon.seeding",)):
        return provenance({"seed": seed}, {"input": path}, modules)

    first = made()
    assert made() == first
    assert first["inputs"] == {"input": content_hash(path)}
    assert set(first["versions"]) == {"numpy", "torch", "transformers"}
    path.write_text("other")
    keys = {first["key"], made()["key"], made(seed=1)["key"], made(modules=("vbon.errors",))["key"]}
    assert len(keys) == 4

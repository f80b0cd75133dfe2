"""Changes of code, files and settings that change a hash, and those that do not."""

import os

import numpy as np
import pandas as pd
import pytest

from vbon.artifacts import fingerprint, read_provenance, tables, write_table
from vbon.artifacts.fingerprint import code_fingerprint, content_hash, digest, provenance
from vbon.artifacts.tables import write_json

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
    """A package of three modules, in place of the real one."""
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
    """The fingerprint that a fresh process computes."""
    fingerprint._module.cache_clear()
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
def test_comments_docstrings_and_formatting_do_not_count(toy, old, new):
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
    places = fingerprint.reached("vbon.training.runs")
    files = {file.relative_to(fingerprint.PACKAGE).as_posix() for file, _ in places}
    needed = {
        "training/online.py",
        "objectives/policy_gradient.py",
        "sampling/decode.py",
        "models/gpt2.py",
        "rewards/classifier.py",
        "pool/logf.py",
        "seeding.py",
    }
    assert needed <= files
    assert "__init__.py" not in files, "a release retrains nothing"
    apart = ("figures/", "cli/", "evaluation/", "planning/", "analysis/")
    assert not [file for file in files if file.startswith(apart)]


RAISING = """
from toy.helper import twice


def check(x):
    if x < 0:
        raise ValueError(f"x is {x}; give more")
    if x > 9:
        return KeyError("too much")
    return twice(x)
"""


@pytest.mark.parametrize(("old", "new"), [("x is {x}", "got {x}, {x:g}"), ("too much", "less")])
def test_error_messages_do_not_count(toy, old, new):
    (toy / "raising.py").write_text(RAISING)
    before = hashed("toy.raising")
    edit(toy / "raising.py", old, new)
    assert hashed("toy.raising") == before
    edit(toy / "raising.py", "x < 0", "x < 1")
    assert hashed("toy.raising") != before


def test_a_moved_module_is_the_same_code(toy):
    before = hashed("toy.main")
    (toy / "deep" / "elsewhere.py").write_text((toy / "helper.py").read_text())
    (toy / "helper.py").unlink()
    edit(toy / "main.py", "from toy.helper", "from toy.deep.elsewhere")
    assert hashed("toy.main") == before


def test_the_version_of_the_package_does_not_count(toy):
    edit(toy / "main.py", "from toy.helper", "from toy import __version__\nfrom toy.helper")
    (toy / "__init__.py").write_text('__version__ = "1"\n')
    before = hashed("toy.main")
    (toy / "__init__.py").write_text('__version__ = "2"\n')
    assert hashed("toy.main") == before


TWO = """
import math

from toy.deep import core

SIZE = 3


def first(x):
    return x + SIZE


def second(SIZE):
    return SIZE + core.LIMIT
"""


def test_a_definition_counts_with_what_it_uses_and_no_more(toy):
    (toy / "two.py").write_text(TWO)
    first, second = hashed("toy.two:first"), hashed("toy.two:second")
    edit(toy / "two.py", "SIZE = 3", "SIZE = 4")
    assert hashed("toy.two:first") != first
    assert hashed("toy.two:second") == second, "its own argument has that name"
    first = hashed("toy.two:first")
    edit(toy / "deep/core.py", "LIMIT = 3", "LIMIT = 4")
    assert hashed("toy.two:second") != second
    assert hashed("toy.two:first") == first
    second = hashed("toy.two:second")
    edit(toy / "deep/core.py", "import os", "import os\n\nos.environ.setdefault('A', '1')")
    assert hashed("toy.two:second") != second, "an import runs it"


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


def test_the_time_that_a_table_took_is_not_part_of_its_content(tmp_path, monkeypatch):
    frame = pd.DataFrame({"text": ["a", "b"], "reward": [0.5, 1.5]})
    for name, seconds in (("a", 1.0), ("b", 2.0)):
        times = {"seconds": seconds}
        monkeypatch.setattr(tables, "measured", lambda times=times: times)
        write_table(tmp_path / f"{name}.parquet", frame, "text_rewards", {"seed": seconds})
    a, b = tmp_path / "a.parquet", tmp_path / "b.parquet"
    assert a.read_bytes() != b.read_bytes()
    assert content_hash(a) == content_hash(b) == read_provenance(a)["content"]
    frame.loc[1, "reward"] = np.nextafter(1.5, 2)
    write_table(b, frame, "text_rewards")
    assert content_hash(a) != content_hash(b)
    write_table(b, frame.rename(columns={"reward": "rewards"}).assign(reward=0.0), "text_rewards")
    assert content_hash(a) != content_hash(b)


def test_paths_and_times_are_not_part_of_the_content_of_a_card(tmp_path):
    cards = [tmp_path / name / "card.json" for name in ("a", "b")]
    for number, card in enumerate(cards):
        around = {"measured": {"seconds": number}, "paths": {"texts": card.parent.name}}
        write_json(card, {"metrics": {"loss": 1.5}, "key": "k", **around})
    assert content_hash(cards[0]) == content_hash(cards[1])
    write_json(cards[1], {"metrics": {"loss": 1.25}, "key": "k"})
    assert content_hash(cards[0]) != content_hash(cards[1])


@pytest.mark.parametrize("name", ["t.parquet", "card.json"])
def test_a_damaged_file_has_the_content_of_its_bytes(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"no table and no card")
    first = content_hash(path)
    path.write_bytes(b"nor is this one here")
    os.utime(path, (3, 3))
    assert content_hash(path) != first


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
    assert first["paths"] == {"input": str(path)}
    assert {"python", "numpy", "pyarrow", "torch", "transformers", "vbon"} == {
        *first["versions"]
    } - {"pandas"}
    path.write_text("other")
    keys = {first["key"], made()["key"], made(seed=1)["key"], made(modules=("vbon.errors",))["key"]}
    assert len(keys) == 4

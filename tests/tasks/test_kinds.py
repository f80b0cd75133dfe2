"""Kinds of task in a folder of one's own."""

import sys

import pytest

from vbon.artifacts.steps import steps
from vbon.errors import ConfigError
from vbon.planning.config import resolve
from vbon.tasks.registry import KINDS, make_task

BASE = {"run_methods": ["reference"], "methods": {"reference": {}}, "seeds": [0]}
HELPER = "def words(stream, number):\n    return [str(stream.random()) for _ in range(number)]\n"
NUMBERS = '''"""Numbers."""

import random

import pandas as pd

from vbon.tasks.base import TextTask
from vbon.tasks.registry import register

from ._words import words


@register
class Numbers(TextTask):
    """Continue a number."""

    def texts(self, seed):
        """Numbers in a row."""
        return self.divided(pd.DataFrame({"text": words(random.Random(seed), 100)}), seed)
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with one kind and a helper, which no earlier test has imported."""
    for name in [name for name in sys.modules if name.endswith("._words")]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "numbers.py").write_text(NUMBERS)
    (tmp_path / "_words.py").write_text(HELPER)
    monkeypatch.setenv("VBON_TASKS", str(tmp_path))
    return tmp_path


def make(kind, **section):
    return make_task(
        resolve({"tasks": ["some"], **BASE, "some": {"kind": kind, **section}})["some"]
    )


def test_a_kind_is_found_by_its_file_and_may_import_a_helper(folder):
    assert KINDS.files()["numbers"] == folder / "numbers.py"
    assert "_words" not in KINDS.files()
    task = make("numbers")
    assert (task.kind, len(task.texts(0))) == ("numbers", 100)
    assert task.cut() == {"kind": "numbers", "texts": task.section["texts"]}


def test_code_of_a_kind_counts_where_a_step_calls_it(folder):
    """Of the inherited methods as well, and of helpers."""

    def codes():
        task = make("numbers")
        return {name: steps()[name].code(task=task) for name in ("texts", "prompts", "data")}

    from vbon.artifacts import fingerprint

    before = codes()
    (folder / "_words.py").write_text(HELPER.replace("random()", "gauss(0, 1)"))
    fingerprint._module.cache_clear()
    after = codes()
    assert {name for name in before if before[name] != after[name]} == {"texts"}


def test_texts_without_labels_train_no_classifier(folder, tmp_path):
    from vbon.errors import DataError

    task = make("numbers")
    with pytest.raises(DataError, match=r"reward_model: texts of kind numbers have no column"):
        task.train_model("reward_model", task.texts(0), 0, tmp_path / "model")


def test_repeated_texts_are_dropped_and_counted(folder):
    (folder / "_words.py").write_text(
        "def words(stream, number):\n    return [str(k % 80) for k in range(number)]\n"
    )
    texts = make("numbers").texts(0)
    assert texts["text"].is_unique
    assert (len(texts), texts.attrs["duplicates"]) == (80, 20)
    assert texts["source_id"].tolist()[0] == "numbers-000000"


def test_a_folder_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setenv("VBON_TASKS", "nowhere")
    with pytest.raises(ConfigError, match="VBON_TASKS: 'nowhere' is not a folder"):
        KINDS.files()


def test_a_kind_of_a_shipped_name_is_refused(folder):
    (folder / "posts.py").write_text(NUMBERS)
    with pytest.raises(ConfigError, match="kind 'posts' is defined by two files"):
        KINDS.files()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('    """Continue a number."""\n\n', "", "its class needs a docstring"),
        ("", "\n\n@register\nclass Other(Numbers):\n    'Other.'\n", "registers Numbers and Other"),
    ],
)
def test_a_file_that_registers_badly_is_refused(folder, old, new, words):
    text = NUMBERS.replace(old, new) if old else NUMBERS + new
    (folder / "numbers.py").write_text(text)
    with pytest.raises(ConfigError, match=words):
        make("numbers")


@pytest.mark.parametrize("length", [11, 24])
def test_a_language_of_too_many_strings_is_refused(length):
    words = (
        rf"some.sampling.max_new_tokens: {length} is not allowed with some.num_letters = 3, since"
    )
    with pytest.raises(ConfigError, match=words):
        make("enumerable", sampling={"max_new_tokens": length})
    make("enumerable", sampling={"max_new_tokens": 9})

"""Texts of models in CSV and Markdown: they may contain ends of lines, or look like numbers."""

import pandas as pd
import pytest

from vbon.artifacts.markdown import markdown_table, shown_cells
from vbon.artifacts.tables import read_either, write_csv
from vbon.report.sources import Task
from vbon.report.tables import sample_texts, table_block

TEXTS = [
    "a\rb", "c\r\nd", "e\nf", "g\u2028h\u2029i\x85j\x0bk", "", "NA", "None", "null", "nan", "007",
    "1.50", "1e5", '"quoted", with commas', "x" * 140_000, " blanks ", "| bar |",
]  # fmt: skip


def written(tmp_path, texts, column="response"):
    runs = {"method": "ppo", "setting": "kl0.5", "seed": 0, "prompt": "Why?", "prompt_id": "p"}
    rewards = {"reward": 0.5, "reward_prob": 0.25, "evaluator_reward": float("nan")}
    frame = pd.DataFrame({**runs, column: texts, **rewards})
    write_csv(tmp_path / "excerpts.csv", frame, {"key": "k"})
    return tmp_path / "excerpts.csv"


@pytest.mark.parametrize("column", ["response", "summary", "post", "text", "prompt"])
def test_texts_are_read_as_they_were_written(tmp_path, column):
    path = written(tmp_path, TEXTS, column)
    table = read_either(path)
    assert table[column].tolist() == TEXTS
    assert (table["reward"] == 0.5).all()
    assert table["evaluator_reward"].isna().all()
    _, header, rows = shown_cells(path)
    assert [row[header.index(column)] for row in rows] == TEXTS


@pytest.mark.parametrize("text", TEXTS)
def test_each_text_alone(tmp_path, text):
    """A column of one text is of no other type, whatever the text."""
    path = written(tmp_path, [text])
    assert read_either(path)["response"].tolist() == [text]
    lines = markdown_table(path).splitlines()
    assert len(lines) == 2 + 3  # the prompt, a blank line; header, rule and one row
    assert all(line[0] == line[-1] == "|" for line in lines[2:])
    task = Task("sentiment", {"tables/excerpts": path})
    (block,) = sample_texts(task)
    assert [row[2] for row in block["rows"]] == [text]
    assert len(table_block(task, "excerpts")["rows"]) == 1


def test_a_table_without_carriage_returns_is_not_quoted(tmp_path):
    path = written(tmp_path, ["one", "two"])
    assert '"' not in path.read_text()

import pandas as pd
import pytest

from vbon.artifacts.markdown import markdown_table


def rendered(tmp_path, frame):
    frame.to_csv(tmp_path / "table.csv", index=False)
    return markdown_table(tmp_path / "table.csv")


def body(text):
    return [line.strip("| ").split(" | ") for line in text.splitlines()[2:]]


def test_decimals_have_four_digits_and_other_cells_are_unchanged(tmp_path):
    frame = pd.DataFrame(
        {
            "kl": [0.123456, 36000.0, float("inf")],
            "runs": [36000, 1, 2],
            "ok": [True, False, True],
            "setting": ["n4", "m16-add1", "beta0.05"],
        }
    )
    assert body(rendered(tmp_path, frame)) == [
        ["0.1235", "36000", "True", "n4"],
        ["3.6e+04", "1", "False", "m16-add1"],
        ["inf", "2", "True", "beta0.05"],
    ]


def test_an_empty_cell_is_a_missing_number_only_among_numbers(tmp_path):
    frame = pd.DataFrame({"n": [2.0, None], "note": ["", "few"], "empty": ["", ""]})
    assert rendered(tmp_path, frame).splitlines()[2:] == ["| 2 |  |  |", "| nan | few |  |"]


@pytest.mark.parametrize(("other", "quoted"), [("<s>\n\ntwo", True), ("three", False)])
def test_a_prompt_that_all_rows_share_is_quoted_above(tmp_path, other, quoted):
    frame = pd.DataFrame({"prompt": ["<s>\n\ntwo", other], "summary": ["a|</s>&lt;", "c"]})
    text = rendered(tmp_path, frame)
    if quoted:
        assert text.startswith("> &lt;s>\n>\n> two\n\n| summary |\n| --- |\n")
    else:
        assert text.startswith("| prompt | summary |\n")
        assert "| &lt;s>  two | a" in text
    assert "a\\|&lt;/s>&amp;lt; |" in text


def test_a_table_without_rows_has_its_header(tmp_path):
    frame = pd.DataFrame(columns=["prompt", "kl"])
    assert rendered(tmp_path, frame) == "| prompt | kl |\n| --- | --- |\n"

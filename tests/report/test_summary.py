"""Sentences of the page: each follows from its rows, whatever they say."""

import numpy as np
import pandas as pd
import pytest
from report.made_up import claims, matched, task_files, write

from vbon.report.sources import tasks_of
from vbon.report.summary import (
    CLAIMS,
    featured,
    highest_at_equal_kl,
    sentences,
    verdict_of,
    verdicts,
)

KEY, NAME = next(iter(CLAIMS.items()))


def claim(verdict, value, low, high, **columns):
    """A row of a table of claims."""
    row = {"claim": NAME, "statistic": "win rate: rival minus vBoN", "rule": "interval above 0"}
    numbers = {"value": value, "low": low, "high": high}
    return row | numbers | {"verdict": verdict, "note": "no data"} | columns


def test_verdicts_are_counted():
    assert verdicts(claims()) == (
        "These runs support 1 of the paper's claims, do not support 1 and leave 1 undecided."
    )
    assert "support 3 of" in verdicts(claims().assign(verdict="supported"))
    assert verdicts(pd.DataFrame()) == ""


@pytest.mark.parametrize(
    ("verdict", "numbers", "words"),
    [
        ("supported", (0.02, 0.01, 0.03), "0.02 (0.01 to 0.03)"),
        ("not supported", (-0.02, -0.03, -0.01), "−0.02 (−0.03 to −0.01)"),
        ("undecided", (0.0, -0.01, 0.01), "0 (−0.01 to 0.01)"),
    ],
)
def test_a_claim_has_its_own_verdict_and_numbers(verdict, numbers, words):
    assert verdict_of(claim(verdict, *numbers)) == (
        f"The claim “{NAME}” is {verdict}: {words} by the rule “interval above 0” "
        "(win rate: rival minus vBoN)."
    )


def test_a_claim_without_data_has_its_note():
    row = claim("undecided", np.nan, np.nan, np.nan)
    assert verdict_of(row) == f"The claim “{NAME}” is undecided: no data."


def test_claims_are_found_by_key_or_by_name():
    rows = [claim("supported", value, 1, 1, claim=name) for value, name in enumerate("abc")]
    table = pd.DataFrame([*rows, claim("supported", 3, 1, 1)])
    assert featured(table)["value"].tolist() == [3]
    keyed = table.iloc[:3].assign(key=["x", KEY, "y"])
    assert featured(keyed)["value"].tolist() == [1]
    assert featured(pd.concat([keyed, table.iloc[3:]]))["value"].tolist() == [1, 3]
    assert featured(table.iloc[:3])["value"].tolist() == [0, 1]  # neither: the first two
    assert featured(pd.DataFrame()).empty


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"best_of_n": 0.9, "ppo": 0.795, "vbon": 0.8, "dpo": 0.7},
            "BoN has the highest win rate, 0.900 (95 % interval 0.890 to 0.910): 0.100 above "
            "vBoN, 0.800 (0.790 to 0.810), whose interval overlaps with those of PPO.",
        ),
        (
            {"best_of_n": 0.7, "ppo": 0.8, "vbon": 0.75},
            "PPO has the highest win rate, 0.800 (95 % interval 0.790 to 0.810): 0.050 above "
            "vBoN, 0.750 (0.740 to 0.760).",
        ),
        (
            {"dpo": 0.8, "vbon": 0.81},
            "vBoN has the highest win rate, 0.810 (95 % interval 0.800 to 0.820): 0.010 above "
            "DPO, 0.800 (0.790 to 0.810); their intervals overlap.",
        ),
    ],
)  # fmt: skip
def test_the_highest_methods_come_from_the_table(values, expected):
    sentence = highest_at_equal_kl(matched(values))
    assert sentence == f"At a KL of up to 2 nats, which {len(values)} methods reach, {expected}"


def test_the_kl_is_the_largest_that_most_methods_reach():
    table = matched({"vbon": 0.8, "ppo": 0.7})
    table.loc[table["method"] == "ppo", "reaches"] = 1.5
    assert "up to 1 nat, which 2 methods" in highest_at_equal_kl(table)
    table.loc[(table["method"] == "ppo"), "value"] = np.nan
    assert highest_at_equal_kl(table) == ""
    assert highest_at_equal_kl(table.assign(axes="reward")) == ""
    assert highest_at_equal_kl(table.iloc[:0]) == ""


def test_a_sentence_without_its_table_is_left_out(tmp_path):
    files = task_files(tmp_path)
    full = sentences(tasks_of(files))
    assert [text.split()[0] for text in full] == ["These", "At", "The", "The", "Data:"]
    for name, lost in (("claims", [0, 2, 3]), ("matched_kl", [1])):
        rest = {key: path for key, path in files.items() if key != f"sentiment/tables/{name}"}
        assert sentences(tasks_of(rest)) == [
            text for index, text in enumerate(full) if index not in lost
        ]
    points = {name: path for name, path in files.items() if name == "sentiment/points"}
    assert sentences(tasks_of(points)) == ["Data: sentiment (no table names its data)."]


def test_claims_of_all_tasks_count(tmp_path):
    files = task_files(tmp_path) | task_files(tmp_path, "other")
    path = write(
        tmp_path / "other", "tables/claims", pd.DataFrame([claim("supported", 0.02, 0.01, 0.03)])
    )
    texts = sentences(tasks_of(files | {"other/tables/claims": str(path)}))
    assert texts[0].startswith("These runs support 2 of")
    assert texts[2].startswith(f"The claim “{NAME}” is supported: 0.02")
    assert texts[-1].startswith("Data: sentiment and other (synthetic")

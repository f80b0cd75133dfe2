"""Prompts of real language, and the rewards that read their rows."""

import json

import pytest
from checkout import ROOT

from vbon.rewards.function import load_function

FILMS, INSTRUCTIONS = (
    [json.loads(line) for line in (ROOT / f"real/{name}.jsonl").read_text().splitlines()]
    for name in ("films", "instructions")
)
WORDS = {"keywords": ["late", "rain"], "max_words": 4}
KEYS = {"keys": ["name", "age"]}


def test_prompts_are_many_distinct_and_of_the_stated_length():
    for rows in (FILMS, INSTRUCTIONS):
        assert len({row["prompt"].lower() for row in rows}) == len(rows) >= 72
    assert all(4 <= len(row["prompt"].split()) <= 12 for row in FILMS)


def test_each_instruction_states_its_rule_and_its_answer_follows_it():
    follows = load_function(ROOT / "real/instructions.py", "follows")
    content = load_function(ROOT / "real/instructions.py", "content")
    answers = [row["answer"] for row in INSTRUCTIONS]
    assert follows(answers, INSTRUCTIONS) == content(answers, INSTRUCTIONS) == [1] * len(answers)
    for row in INSTRUCTIONS:
        for word in row.get("keywords") or row["keys"]:
            assert word in row["prompt"]
        assert "keys" in row or f"at most {row['max_words']} words" in row["prompt"]


@pytest.mark.parametrize(
    ("response", "row", "reward"),
    [
        ("", WORDS, 0),
        ("Rain made us late", WORDS, 1),
        ("Rainy and later", WORDS, 0),  # other words
        ("The rain was heavy", WORDS, 1 / 2),
        ("The bus was late because of rain", WORDS, 4 / 7),  # seven words
        ("Tom is three", KEYS, 0),
        ('{"name": "Tom", "age": 3}\n', KEYS, 1),
        ('Sure: {"name": "Tom", "age": 3}', KEYS, 3 / 4),  # not alone
        ('{"name": "Tom"}', KEYS, (1 / 2 + 1 + 0 + 1) / 4),
        ('{"name": "Tom", "age": 3, "town": "Rome"}', KEYS, 3 / 4),
        ('{"name": "Tom", "age": ', KEYS, 1 / 4),  # cut
        ('["name", "age"]', KEYS, 0),
        ("}{" * 9, KEYS, 0),
    ],
)
def test_rules_have_the_values_worked_out_by_hand(response, row, reward):
    follows = load_function(ROOT / "real/instructions.py", "follows")
    assert follows([response], [row]) == [pytest.approx(reward)]


def test_content_prefers_an_answer_to_a_list_of_its_key_words():
    content = load_function(ROOT / "real/instructions.py", "content")
    for row in (row for row in INSTRUCTIONS if "keywords" in row):
        assert content([" ".join(row["keywords"])], [row])[0] <= 0.5


def test_vader_adds_up_praise_and_textblob_averages_it():
    vader = load_function(ROOT / "real/films.py", "vader")
    textblob = load_function(ROOT / "real/films.py", "textblob")
    once, twice, bad, neutral = (
        "good",
        "good and good",
        "an awful film",
        "the second hour is set in",
    )
    for function in (vader, textblob):
        good, more, worse, none = function([once, twice, bad, neutral])
        assert worse < none == 0 < good
        assert (more > good) == (function is vader)

"""Posts from the grammar and from files: pairs, truncation, equal domains."""

import gzip
import json
import re

import pandas as pd
import pytest

from vbon.artifacts import write_table
from vbon.errors import ConfigError, DataError
from vbon.models.tokenizer import build_tokenizer
from vbon.tasks.post_grammar import CLAUSES, RAMBLE_COST, TOPICS, WORTH, _Writer, write_posts
from vbon.tasks.posts import corrupted, load_posts, make_post_prompts, prompt_text, render

FRACTIONS = {"reference": 0.3, "reward_model": 0.2, "evaluator": 0.2, "train": 0.15, "test": 0.15}
SETTINGS = {
    "source": "grammar",
    "num_posts": 300,
    "in_domain": ["relationships", "relationship_advice"],
    "fractions": FRACTIONS,
}
REAL = [
    {
        "subreddit": name,
        "title": f"Title {number}",
        "post": f"Line one of {number}.\nLine two. It is longer.\nThird line",
        "summary": f"Summary {number}. Second sentence {number}.",
    }
    for number, name in enumerate(["relationships", "dogs"] * 20)
]


@pytest.fixture(scope="module")
def posts():
    return load_posts(SETTINGS, seed=0)


@pytest.fixture(scope="module")
def tokenizer(posts):
    texts = [
        render(*row) for row in zip(posts["subreddit"], posts["title"], posts["post"], strict=True)
    ]
    return build_tokenizer([*texts, *posts["summary"]], vocab_size=512, side="left")


def write_lines(path, rows):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt") as file:
        file.writelines(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)
    return str(path)


def test_posts_repeat_by_seed_and_have_the_schema(posts, tmp_path):
    assert load_posts(SETTINGS, seed=0).equals(posts)
    assert not load_posts(SETTINGS, seed=1)["post"].isin(posts["post"]).any()
    write_table(tmp_path / "texts.parquet", posts, "texts")
    assert posts["post"].is_unique
    assert set(posts["subreddit"]) == set(TOPICS)
    home = posts["subreddit"].isin(SETTINGS["in_domain"])
    assert ((posts["domain"] == "in_domain") == home).all()
    assert 0.4 < home.mean() < 0.6


def test_a_writer_who_errs_never_has_the_highest_quality():
    writer = _Writer(0)
    writer.random.choice = lambda options: max(options) if 0.95 in options else options[0]
    facts = {name: writer.pick("dogs", name) for name in WORTH}
    best = sum(WORTH.values())
    qualities = [writer.summary("dogs", facts) for _ in range(200)]
    words = set(" ".join(facts.values()).split())
    for summary, quality in qualities:
        complete = words <= set(re.findall(r"\w+", summary)) and "anyway" not in summary
        assert quality <= best + 1e-9
        assert (quality == pytest.approx(best)) == complete
    assert min(quality for _, quality in qualities) < best - RAMBLE_COST
    assert {name for names in CLAUSES for name in names} < set(WORTH)


def test_preferred_summaries_carry_more_of_the_post(posts):
    def carried(side):
        pairs = zip(posts["post"], posts[side], strict=True)
        return [len(set(re.findall(r"\w+", a)) & set(re.findall(r"\w+", b))) for a, b in pairs]

    gap = pd.Series(carried("chosen")) - pd.Series(carried("rejected"))
    assert gap.mean() > 3 * gap.sem()
    assert (posts["chosen"] != posts["rejected"]).all()


@pytest.mark.parametrize("name", ["posts.jsonl", "posts.jsonl.gz"])
def test_files_take_the_place_of_the_grammar(tmp_path, name):
    source = write_lines(tmp_path / name, [*REAL, REAL[0]])
    loaded = load_posts(SETTINGS | {"source": source, "num_posts": None}, seed=0)
    assert len(loaded) == len(REAL)
    assert loaded.attrs["duplicates"] == 1
    assert loaded["source_id"].iloc[1] == "posts-000002"
    assert (loaded["chosen"] == loaded["summary"]).all()
    assert (loaded["rejected"] != loaded["summary"]).all()
    assert loaded["domain"].value_counts().to_dict() == {"in_domain": 20, "out_of_domain": 20}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"subreddit": "dogs", "title": "", "post": "a"}, "line 2: no column 'summary'"),
        (REAL[0] | {"post": " "}, "line 2: column 'post' is empty or not text"),
        (REAL[0] | {"summary": 3}, "line 2: column 'summary' is empty or not text; got 3"),
        ([1], "line 2: is not a JSON object but list"),
        ("{", "line 2: unreadable JSON"),
    ],
)
def test_bad_rows_are_named(tmp_path, row, words):
    source = write_lines(tmp_path / "posts.jsonl", [REAL[0], row])
    with pytest.raises(DataError, match=re.escape(words)):
        load_posts(SETTINGS | {"source": source}, seed=0)


def test_a_corruption_differs_from_its_summary_and_loses_or_exchanges_something():
    texts = pd.Series([row["summary"] for row in REAL])
    worse = corrupted(texts, seed=0)
    assert worse == corrupted(texts, seed=0)
    kinds = set()
    for text, other in zip(texts, worse, strict=True):
        assert other != text
        own = set(text.split(". "))
        kinds.add((other in set(texts), bool(own & set(other.split(". ")))))
    assert len(kinds) >= 2  # whole ones of others, and parts of one's own
    with pytest.raises(DataError, match="2 posts share one summary"):
        corrupted(pd.Series(["same", "same"]), seed=0)


def test_the_prompt_has_the_format_of_the_papers():
    text = render("dogs", "A title", "A post.")
    assert text == "SUBREDDIT: r/dogs\n\nTITLE: A title\n\nPOST: A post.\n\nTL;DR:"


@pytest.mark.parametrize(
    ("post", "expected"),
    [
        ("one two.\nthree four. five\nsix seven", "one two.\nthree four. five"),
        ("one two. three four. five six seven", "one two. three four."),
        ("one two three four five six seven", "one two three four five six"),
    ],
)
def test_a_post_is_cut_at_the_last_newline_sentence_or_word(tokenizer, post, expected):
    row = {"subreddit": "dogs", "title": "i feel lost", "post": post}

    def count(text):
        return len(tokenizer(text)["input_ids"])

    whole = count(render("dogs", "i feel lost", post))
    assert prompt_text(row, tokenizer, whole) == render("dogs", "i feel lost", post)
    cut = prompt_text(row, tokenizer, whole - 1)
    assert cut == render("dogs", "i feel lost", expected)
    assert count(cut) < whole
    empty = count(render("dogs", "i feel lost", ""))
    assert prompt_text(row, tokenizer, empty) == render("dogs", "i feel lost", "")
    with pytest.raises(ConfigError, match=r"prompts\.max_tokens is .* needs 1 more"):
        prompt_text(row, tokenizer, empty - 1)


def test_prompts_are_in_domain_to_train_and_equal_to_test(posts, tokenizer, tmp_path):
    settings = {"num_train": 12, "num_test": 10, "max_tokens": 40}
    train, test = (make_post_prompts(posts, tokenizer, s, settings) for s in ("train", "test"))
    assert (train["domain"] == "in_domain").all()
    assert test["domain"].value_counts().to_dict() == {"in_domain": 5, "out_of_domain": 5}
    assert not set(train["source_id"]) & set(test["source_id"])
    for frame in (train, test):
        write_table(tmp_path / "prompts.parquet", frame, "prompts")
        assert (frame["prompt_ids"].map(len) <= 40).all()
        for text, ids in zip(frame["prompt"], frame["prompt_ids"], strict=True):
            assert tokenizer.decode(ids) == text
    with pytest.raises(DataError, match="999 are requested"):
        make_post_prompts(posts, tokenizer, "train", settings | {"num_train": 999})


def test_numbers_that_cannot_work():
    with pytest.raises(ConfigError, match=r"posts\.num_posts is 0"):
        write_posts(0, seed=0)
    with pytest.raises(ConfigError, match=r"posts\.num_posts is null"):
        load_posts(SETTINGS | {"num_posts": None}, seed=0)

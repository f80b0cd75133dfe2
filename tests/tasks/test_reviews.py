import gzip
import json
import os
from pathlib import Path

import pandas as pd
import pytest

from vbon.errors import ConfigError, DataError
from vbon.tasks import texts
from vbon.tasks.base import PARTS
from vbon.tasks.registry import make_task
from vbon.tasks.reviews import load_reviews
from vbon.tasks.texts import assign_parts

FRACTIONS = {"reference": 0.4, "reward_model": 0.3, "evaluator": 0.1, "train": 0.1, "test": 0.1}


def split_reviews(reviews, fractions, seed):
    return assign_parts(reviews, "text", fractions, seed, "reviews")


def write_lines(path: Path, lines: list[str]) -> str:
    data = "".join(line + "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def row(text: str, label: object, **more: object) -> str:
    return json.dumps({"text": text, "label": label, **more})


@pytest.mark.parametrize("name", ["films.jsonl", "films.jsonl.gz"])
def test_a_file_is_read_and_repeated_texts_dropped(tmp_path, name):
    lines = [row("good film", 1), row("bad film", 0), row("good film", 0), row("so so", 1)]
    reviews = load_reviews(write_lines(tmp_path / name, lines))
    assert reviews["text"].tolist() == ["good film", "bad film", "so so"]
    assert reviews["label"].tolist() == [1, 0, 1]  # the first of the two labels stays
    assert reviews["source_id"].tolist() == ["films-000001", "films-000002", "films-000004"]
    assert reviews.attrs["duplicates"] == 1


def test_other_columns_and_a_seeded_choice(tmp_path):
    lines = [json.dumps({"body": f"film {k}", "stars": k % 2}) for k in range(50)]
    source = write_lines(tmp_path / "films.jsonl", lines)
    chosen = [load_reviews(source, 20, "body", "stars", seed=seed) for seed in (0, 0, 1)]
    assert len(chosen[0]) == 20
    assert chosen[0].equals(chosen[1])
    assert not chosen[0].equals(chosen[2])
    assert len(load_reviews(source, 99, "body", "stars")) == 50


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ('{"text": "cut', r"films\.jsonl, line 3: unreadable JSON"),
        ('{"label": 1}', r"line 3: no column 'text' \(reviews\.text_column\); .*found: label"),
        ('{"text": "x"}', r"line 3: no column 'label' \(reviews\.label_column\); .*found: text"),
        (row("x", 2), r"line 3: column 'label' is 2; accepted are 0 \(negative\) and 1"),
        (row("x", "pos"), r"line 3: column 'label' is 'pos'; accepted"),
        (row("x", None), r"line 3: column 'label' is None; accepted"),
        (row("  ", 1), r"line 3: column 'text' is empty or not text; got '  '"),
        (row(None, 1), r"line 3: column 'text' is empty or not text; got None"),
        ("[1, 2]", r"line 3: is not a JSON object but list"),
    ],
)
def test_bad_lines_are_named(tmp_path, bad, message):
    # The blank second line counts: the number is the one an editor shows.
    source = write_lines(tmp_path / "films.jsonl", [row("good film", 1), "", bad, "never reached"])
    with pytest.raises(DataError, match=message) as caught:
        load_reviews(source)
    assert "\n" not in str(caught.value)


def test_unreadable_files_are_refused_in_one_line(tmp_path):
    with pytest.raises(DataError, match=r"does not exist; give a file that ends in \.jsonl, "):
        load_reviews(str(tmp_path / "absent.jsonl"))
    broken = tmp_path / "films.jsonl.gz"
    broken.write_bytes(gzip.compress((row("good film", 1) + "\n").encode() * 999)[:-20])
    with pytest.raises(DataError, match="cannot be read"):
        load_reviews(str(broken))
    with pytest.raises(DataError, match="holds no reviews"):
        load_reviews(write_lines(tmp_path / "empty.jsonl", []))
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes(b'{"text": "caf\xe9", "label": 1}\n')
    with pytest.raises(DataError, match="line 1: is not UTF-8; save"):
        load_reviews(str(latin))


def test_a_dataset_id_is_loaded_with_its_split(monkeypatch, tmp_path):
    import datasets

    asked = []

    def load_dataset(name, split):
        asked.append((name, split))
        return datasets.Dataset.from_dict({"text": ["good", "bad"], "label": [1, 0]})

    def snapshot(name, revision, kind):
        asked.append((name, revision, kind))
        return tmp_path

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(texts, "snapshot", snapshot)
    reviews = load_reviews("someone/films:test")
    assert asked == [("someone/films", None, "dataset"), (str(tmp_path), "test")]
    assert reviews["source_id"].tolist() == ["someone-films-000001", "someone-films-000002"]
    load_reviews("someone/films", revision="abc")
    assert asked[2:] == [("someone/films", "abc", "dataset"), (str(tmp_path), "train")]


def test_a_dataset_without_such_a_split_is_one_line(tmp_path):
    folder = tmp_path / "films"
    folder.mkdir()
    write_lines(folder / "train.jsonl", [row("good", 1)])
    message = r"reviews\.source '.*films:tset' has no data files of split 'tset'; give a file that"
    with pytest.raises(DataError, match=message):
        load_reviews(f"{folder}:tset")


def test_a_dataset_that_was_not_fetched_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    message = (
        r"reviews\.source: dataset 'someone/films' is not on this machine; run `vbon prefetch`"
    )
    with pytest.raises(DataError, match=message):
        load_reviews("someone/films")


@pytest.mark.parametrize("number", [0, None])
def test_the_grammar_needs_a_number(number):
    with pytest.raises(ConfigError, match=r"reviews\.num_reviews is"):
        load_reviews("grammar", number)


def test_parts_are_disjoint_of_the_right_size_and_seeded():
    reviews = load_reviews("grammar", 500, seed=0)
    split = split_reviews(reviews, FRACTIONS, seed=0)
    sizes = split["part"].value_counts().to_dict()
    assert sizes == {part: round(500 * share) for part, share in FRACTIONS.items()}
    assert split.drop(columns="part").equals(reviews)
    assert split_reviews(reviews, FRACTIONS, seed=0).equals(split)
    assert not split_reviews(reviews, FRACTIONS, seed=1)["part"].equals(split["part"])


def test_a_text_keeps_its_part_whatever_its_row():
    reviews = load_reviews("grammar", 300, seed=0)
    split = split_reviews(reviews, FRACTIONS, seed=0).set_index("text")["part"]
    turned = split_reviews(reviews[::-1].reset_index(drop=True), FRACTIONS, seed=0)
    assert turned.set_index("text")["part"].loc[split.index].equals(split)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": 0.2}, r"reviews\.fractions has sum 1\.1; shares must not be negative and add up"),
        ({"test": -0.1, "train": 0.3}, r"reviews\.fractions has test: -0\.1; shares must not"),
        ({"dev": 0.1}, r"reviews\.fractions names .*'dev'.*must name each of"),
    ],
)
def test_fractions_that_cannot_work(change, message):
    reviews = load_reviews("grammar", 20)
    with pytest.raises(ConfigError, match=message):
        split_reviews(reviews, {**FRACTIONS, **change}, seed=0)


def test_parts_must_be_filled_and_texts_distinct():
    with pytest.raises(DataError, match="gives no review to part 'evaluator' of 4"):
        split_reviews(load_reviews("grammar", 4), FRACTIONS, seed=0)
    twice = pd.concat([load_reviews("grammar", 10)] * 2, ignore_index=True)
    with pytest.raises(DataError, match="repeat a text"):
        split_reviews(twice, FRACTIONS, seed=0)


def test_a_source_of_its_own_gives_all_test_texts_and_none_of_them_elsewhere(tmp_path):
    ours = [row(f"film {k}", k % 2) for k in range(8)]
    theirs = [row(f"film {k}", k % 2) for k in (6, 7, 8, 9, 9)]
    source = write_lines(tmp_path / "train.jsonl", ours)
    other = write_lines(tmp_path / "test.jsonl", theirs)
    reviews = load_reviews(source, test_source=other)
    assert reviews.attrs["duplicates"] == 3  # films 6 and 7 of ours, the second film 9 of theirs
    shares = dict.fromkeys(PARTS, 0.0) | {"evaluator": 0.5, "train": 0.5}
    split = split_reviews(reviews, shares, seed=0)
    assert list(split.columns) == ["source_id", "text", "label", "part"]
    assert split["source_id"].is_unique
    by_part = split.groupby("part")["text"].agg(set)
    assert by_part["test"] == {f"film {k}" for k in (6, 7, 8, 9)}
    assert by_part["train"] | by_part["evaluator"] == {f"film {k}" for k in range(6)}
    assert set(by_part.index) == {"train", "evaluator", "test"}


@pytest.mark.skipif(
    "VBON_DATA" not in os.environ, reason="VBON_DATA names no folder with imdb.jsonl.gz"
)
def test_real_reviews():
    source = str(Path(os.environ["VBON_DATA"]) / "imdb.jsonl.gz")
    split = split_reviews(load_reviews(source, 1000, seed=0), FRACTIONS, seed=0)
    assert len(split) == 1000
    assert set(split["part"]) == set(PARTS)
    assert 0.3 < split["label"].mean() < 0.7


def test_quantities_of_the_data_report_are_counts_and_shares():
    reviews = load_reviews("grammar", 50)
    quantities = make_task({"kind": "reviews"}).quantities(reviews)
    assert quantities == {"num_reviews": 50, "positive_reviews": reviews["label"].sum() / 50}
    posts = pd.DataFrame({"domain": ["in_domain", "in_domain", "in_domain", "out_of_domain"]})
    quantities = make_task({"kind": "posts"}).quantities(posts)
    assert quantities == {"num_posts": 4, "in_domain_posts": 0.75}

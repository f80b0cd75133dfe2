import re

import numpy as np
import pandas as pd
import pytest

from vbon.errors import ConfigError
from vbon.tasks import grammar
from vbon.tasks.grammar import write_reviews


@pytest.fixture(scope="module")
def reviews() -> pd.DataFrame:
    return write_reviews(3000, seed=0)


def words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text)


def test_same_seed_same_reviews_and_another_seed_others(reviews):
    pd.testing.assert_frame_equal(write_reviews(3000, seed=0), reviews)
    other = write_reviews(3000, seed=1)
    assert len(set(other["text"]) & set(reviews["text"])) < 0.02 * len(reviews)


def test_labels_are_balanced_and_texts_distinct(reviews):
    # Labels have a standard error of .009.
    assert abs(reviews["label"].mean() - 0.5) < 0.03
    assert reviews["text"].is_unique
    assert reviews["source_id"].is_unique


def test_vocabulary_and_lengths_suit_a_small_model(reviews):
    lengths = reviews["text"].map(lambda text: len(words(text)))
    vocabulary = {word for text in reviews["text"] for word in words(text)}
    assert 200 <= len(vocabulary) <= 400
    assert lengths.min() >= 11
    assert lengths.max() <= 120
    # Some reviews end within a prompt of 8 and a response of 24 tokens, most do not.
    assert 0.1 < (lengths <= 32).mean() < 0.6
    assert reviews["text"].str.islower().all()


def test_reviews_start_in_many_ways(reviews):
    tokens = reviews["text"].map(words)
    distinct = {length: len({tuple(row[:length]) for row in tokens}) for length in (2, 4, 8)}
    assert distinct[2] > 50
    assert distinct[4] > 0.2 * len(reviews)
    assert distinct[8] > 0.8 * len(reviews)


def graded_sum(tokens: list[str]) -> float:
    lexicon = {word: grade for table in grammar.GRADED.values() for word, grade in table.items()}
    return sum(lexicon.get(token, 0.0) for token in tokens)


def test_words_predict_the_label_but_not_surely(reviews):
    """A count of graded words, which ignores negation and importance, agrees in part."""
    sums = reviews["text"].map(lambda text: graded_sum(words(text)))
    agreement = ((sums > sums.median()) == (reviews["label"] == 1)).mean()
    assert 0.65 < agreement < 0.95


def test_a_prefix_leaves_the_sentiment_open(reviews):
    """The first eight tokens carry sentiment, but little of the rest is known from them."""
    tokens = reviews["text"].map(words)
    starts = tokens.map(lambda row: graded_sum(row[:8]))
    rests = tokens.map(lambda row: graded_sum(row[8:32]))
    correlation = np.corrcoef(starts, rests)[0, 1]
    assert 0.05 < correlation < 0.6
    assert rests.std() > 2 * starts.std()


def test_no_reviews_is_refused():
    with pytest.raises(ConfigError, match=r"reviews\.num_reviews is 0; set it to at least 1"):
        write_reviews(0, seed=0)

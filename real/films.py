"""Sentiment of film reviews by two lexicons: one for training, the other as the evaluator."""

from textblob.en import sentiment
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

_VADER = SentimentIntensityAnalyzer()


def vader(responses):
    """VADER's compound score, from -1 to 1: the training reward.

    It sums the ratings of a response's words, so that more praise scores higher. A response without
    a word of the lexicon scores 0, and many tie there.
    """
    return [_VADER.polarity_scores(response)["compound"] for response in responses]


def textblob(responses):
    """TextBlob's polarity, from -1 to 1: the evaluator.

    It is the mean rating of adjectives and other words in the lexicon of Pattern, which repetition
    does not raise.
    """
    return [sentiment(response)[0] for response in responses]

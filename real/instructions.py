"""Rules that instructions state in their rows, and overlap with an answer written by hand."""

import json
import re

from rouge_score.rouge_scorer import RougeScorer

_ROUGE = RougeScorer(["rouge1"], use_stemmer=True)


def follows(responses, rows):
    """Degree to which a response follows its instruction, from 0 to 1: the training reward.

    Rows with `keys` request a JSON object, rows with `keywords` and `max_words` a short text.
    """
    return [
        _as_json(response, row["keys"]) if "keys" in row else _in_words(response, row)
        for response, row in zip(responses, rows, strict=True)
    ]


def content(responses, rows):
    """ROUGE-1 (F1) of a response and the row's `answer`, from 0 to 1: the evaluator.

    A list of key words alone, or an object with the right keys and wrong values, follows the rule
    and scores lower here.
    """
    return [
        _ROUGE.score(row["answer"], response)["rouge1"].fmeasure
        for response, row in zip(responses, rows, strict=True)
    ]


def _in_words(response, row):
    """Share of the key words that are kept, lowered in proportion for a text that is too long."""
    words = re.findall(r"[\w']+", response.lower())
    kept = sum(keyword.lower() in words for keyword in row["keywords"]) / len(row["keywords"])
    return kept * min(1.0, row["max_words"] / max(len(words), 1))


def _as_json(response, keys):
    """Mean of four parts: keys that are named, an object, with exactly these keys, and alone."""
    named = sum(re.search(rf'"{re.escape(key)}"\s*:', response) is not None for key in keys)
    start, end = response.find("{"), response.rfind("}") + 1
    try:
        fields = json.loads(response[start:end]) if start >= 0 else None
    except (ValueError, RecursionError):
        fields = None
    is_object = isinstance(fields, dict)
    alone = is_object and response.strip() == response[start:end]
    parts = (named / len(keys), is_object, is_object and set(fields) == set(keys), alone)
    return sum(parts) / len(parts)

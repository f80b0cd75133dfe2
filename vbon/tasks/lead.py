"""Whether the reference summarizes at all: its draws against the beginning of the post."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float64
from rouge_score import rouge_scorer

from vbon.statistics import clustered_mean

ROUGE = ("rouge1", "rouge2", "rougeL")
DRAWN, LEAD, WRITTEN = "reference", "lead", "summary"


def rouge(texts: Sequence[str], references: Sequence[str]) -> pd.DataFrame:
    """ROUGE F-measures of texts against references, one row a text (Lin, 2004).

    Example:
        >>> rouge(["my boss lied"], ["my boss lied to me"])["rouge1"].round(2).item()
        0.75
    """
    scorer = rouge_scorer.RougeScorer(list(ROUGE))
    pairs = zip(references, texts, strict=True)
    scores = [scorer.score(reference, text) for reference, text in pairs]
    return pd.DataFrame([{name: each[name].fmeasure for name in ROUGE} for each in scores])


def baselines(
    texts: Mapping[str, Sequence[str]],
    evaluator_rewards: Mapping[str, Float64[np.ndarray, " posts"]],
    references: Sequence[str],
) -> pd.DataFrame:
    """Mean evaluator reward and ROUGE of several answers to the same posts.

    Args:
        texts: Answers to each post: :data:`DRAWN`, :data:`LEAD`, :data:`WRITTEN`.
        evaluator_rewards: Of the same.
        references: Summary of each post.

    Returns:
        Rows ``candidate``, ``posts``, then ``evaluator_reward``, ``rouge1``, ``rouge2``, ``rougeL``
        each with its standard error over posts. The row ``reference_minus_lead`` is of the paired
        differences.
    """
    scores = {
        name: rouge(found, references).assign(evaluator_reward=evaluator_rewards[name])
        for name, found in texts.items()
    }
    scores[f"{DRAWN}_minus_{LEAD}"] = scores[DRAWN] - scores[LEAD]
    rows = []
    for name, table in scores.items():
        row = {"candidate": name, "posts": len(table)}
        for metric in ("evaluator_reward", *ROUGE):
            estimate = clustered_mean(table[metric].to_numpy(), np.arange(len(table)))
            row |= {metric: estimate.mean, f"{metric}_se": estimate.se}
        rows.append(row)
    return pd.DataFrame(rows)

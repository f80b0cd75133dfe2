"""The reference's summaries compared with the beginnings of the posts and the data's own."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float64
from rouge_score import rouge_scorer

from vbon.statistics import clustered_mean

ROUGE = ("rouge1", "rouge2", "rougeL")
DRAWN, LEAD, WRITTEN = "reference", "lead", "summary"


def rouge(texts: Sequence[str], references: Sequence[str]) -> pd.DataFrame:
    """ROUGE F-measures of texts against references, one row per text (Lin, 2004).

    Example:
        >>> rouge(["my boss lied"], ["my boss lied to me"])["rouge1"].round(2).item()
        0.75
    """
    scorer = rouge_scorer.RougeScorer(list(ROUGE))
    pairs = zip(references, texts, strict=True)
    scores = [scorer.score(reference, text) for reference, text in pairs]
    return pd.DataFrame([{name: each[name].fmeasure for name in ROUGE} for each in scores])


def compare(
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
        name: rouge(answers, references).assign(evaluator_reward=evaluator_rewards[name])
        for name, answers in texts.items()
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


def lead_table(
    posts: pd.DataFrame,
    prompts: pd.DataFrame,
    samples: pd.DataFrame,
    reference: str,
    evaluator: str,
    batch_size: int,
) -> pd.DataFrame:
    """Compare the reference's first draw, the beginning of the post, and the post's own summary.

    Args:
        posts: Texts of the task, with columns ``post`` and ``summary``.
        prompts: Rows of schema "prompts".
        samples: Rows of schema "samples" for these prompts.
        reference: Model folder, for its tokenizer.
        evaluator: Model folder.
        batch_size: Texts per forward pass.

    Returns:
        The table of :func:`compare`.
    """
    import torch

    from vbon.batches import without_ends
    from vbon.models.language_model import load_tokenizer
    from vbon.rewards import Completions, load_reward_model

    torch.set_num_threads(1)
    tokenizer = load_tokenizer(reference)
    first = samples[samples["draw"] == 0]
    frame = prompts.merge(first, on="prompt_id", validate="one_to_one")
    written = posts.set_index("source_id").loc[frame["source_id"]]
    summaries, beginnings = (
        tokenizer((" " + written[column]).tolist(), add_special_tokens=False)["input_ids"]
        for column in ("summary", "post")
    )
    lengths = frame["response_ids"].map(len)
    responses = {
        DRAWN: without_ends(frame["response_ids"], frame["finished"]),
        LEAD: [ids[:length] for ids, length in zip(beginnings, lengths, strict=True)],
        WRITTEN: summaries,
    }
    score = load_reward_model(evaluator, batch_size)
    texts = {
        name: tokenizer.batch_decode([list(ids) for ids in rows], skip_special_tokens=True)
        for name, rows in responses.items()
    }
    rewards = {
        name: score(Completions.from_texts(rows, frame["prompt"].tolist())).reward
        for name, rows in texts.items()
    }
    return compare(texts, rewards, written["summary"].tolist())

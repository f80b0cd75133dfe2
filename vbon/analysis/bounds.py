"""The data report: measured properties of the embedded data, and the bounds they must keep.

A benchmark of alignment methods says little when its reference already pleases the reward model,
repeats itself, or when the held-out evaluator is the reward model in disguise. This module reads
artifacts only and needs no model.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from vbon.errors import ConfigError, DataError

# The rewards of very few draws have no ranks worth correlating.
_FEWEST_DRAWS = 3


def spearman_within(rewards: pd.DataFrame) -> float:
    """Mean over prompts of Spearman's correlation of ``evaluator_reward`` with ``reward``.

    Args:
        rewards: Schema "rewards"; several draws a prompt.

    Returns:
        A number in [-1, 1]; NaN if no prompt has three draws with differing rewards.

    Example:
        >>> spearman_within(pd.DataFrame({
        ...     "prompt_id": ["a"] * 4, "reward": [1, 2, 3, 4], "evaluator_reward": [1, 3, 2, 9]}))
        0.8
    """
    columns = ["reward", "evaluator_reward"]
    groups = rewards.groupby("prompt_id", sort=False)
    ranks = groups[columns].rank()
    centred = ranks - ranks.groupby(rewards["prompt_id"], sort=False).transform("mean")
    centred["product"] = centred["reward"] * centred["evaluator_reward"]
    centred[columns] **= 2
    sums = centred.groupby(rewards["prompt_id"], sort=False).sum()[groups.size() >= _FEWEST_DRAWS]
    norms = np.sqrt(sums["reward"] * sums["evaluator_reward"])
    return round(float((sums["product"] / norms.where(norms > 0)).mean()), 12)


def duplicate_share(samples: pd.DataFrame) -> float:
    """Share of draws whose token ids repeat an earlier draw of the same prompt.

    Example:
        >>> duplicate_share(pd.DataFrame({
        ...     "prompt_id": ["a", "a", "b", "b"], "response_ids": [[1, 2], [1, 2], [1, 2], [3]]}))
        0.25
    """
    ids = [np.asarray(ids, np.int32).tobytes() for ids in samples["response_ids"]]
    return float(samples[["prompt_id"]].assign(ids=ids).duplicated().mean())


def data_report(
    texts: Mapping[str, float],
    prompts: Mapping[str, pd.DataFrame],
    samples: pd.DataFrame,
    rewards: pd.DataFrame,
    metrics: Mapping[str, Mapping[str, float]],
    checks: Mapping[str, Sequence[float | None]],
    lead: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Measure the data of a task and compare them with their bounds.

    Args:
        texts: Quantities of the texts (:meth:`vbon.tasks.base.TextTask.quantities`).
        prompts: ``{"train": …, "test": …}``, schema "prompts".
        samples: Schema "samples", the reference's draws for the train prompts.
        rewards: Schema "rewards" of the same draws.
        metrics: Numbers from the builders, for example ``{"reward_model": {"accuracy": 0.85}}``;
            a number appears as the quantity ``reward_model_accuracy``.
        checks: ``{quantity: [low, high]}``; null leaves a side open, and two of them ask for
            nothing. Bounds are inclusive.
        lead: Table of :func:`vbon.analysis.lead.compare`; its numbers appear as quantities such as
            ``reference_minus_lead_rougeL``.

    Returns:
        Rows (quantity, value, low, high, ok): counts of texts and prompts,
        ``prompts_beginning_with_<s>`` (share of the prompts that begin with special tokens, by
        these), ``prompts_with_the_time`` and so on (share of the prompts with each of
        :mod:`vbon.tasks.cautions`), ``p_positive`` (the reference's mean probability of POSITIVE,
        if there is one),
        ``reward_mean``, ``reward_sd_within`` and ``reward_sd_between`` prompts,
        ``duplicate_share``, ``tied_share`` (draws of differing text whose reward equals another's
        of the same prompt), ``tokenless_share`` (draws with ids for which the tokenizer has no
        token, if the model has such ids),
        ``spearman_within``, ``finished_share``, ``response_tokens``, the metrics and the numbers of
        that table. A quantity without bounds is always ok.

    Raises:
        ConfigError: If ``checks`` names a quantity that is not measured.
        DataError: If samples and rewards are not the same draws.
    """
    keys = ["prompt_id", "draw"]
    draws = samples[[*keys, "response"]].merge(rewards, on=keys, validate="one_to_one")
    if not len(draws) == len(samples) == len(rewards):
        raise DataError(
            f"column 'draw': {len(samples)} samples and {len(rewards)} rewards share {len(draws)} "
            "draws; score the same draws again"
        )
    by_prompt = draws.groupby("prompt_id", sort=False)["reward"]
    differing = draws.drop_duplicates(["prompt_id", "response"])
    train, test = (set(prompts[split]["prompt_ids"].map(tuple)) for split in ("train", "test"))
    measured: dict[str, float] = {
        **texts,
        "num_train_prompts": len(prompts["train"]),
        "num_test_prompts": len(prompts["test"]),
        "prompts_in_both": len(train & test),
        **_marked(prompts.values()),
        "draws_per_prompt": len(draws) / draws["prompt_id"].nunique(),
        **({"p_positive": p.mean()} if (p := draws["reward_prob"]).notna().any() else {}),
        "reward_mean": draws["reward"].mean(),
        "reward_sd_within": by_prompt.std().mean(),
        "reward_sd_between": by_prompt.mean().std(),
        "duplicate_share": duplicate_share(samples),
        "tied_share": differing.duplicated(["prompt_id", "reward"]).mean(),
        "spearman_within": spearman_within(rewards),
        "finished_share": samples["finished"].mean(),
        "response_tokens": samples["response_ids"].map(len).mean(),
    }
    if "tokenless" in samples:
        measured["tokenless_share"] = (samples["tokenless"] > 0).mean()
    for model, numbers in metrics.items():
        measured |= {f"{model}_{name}": value for name, value in numbers.items()}
    if lead is not None:
        numbers = lead.set_index("candidate").drop(columns="posts")
        measured |= {
            f"{row}_{name}": x for row, part in numbers.iterrows() for name, x in part.items()
        }
    bounded = [name for name, bounds in checks.items() if any(b is not None for b in bounds)]
    unknown = [name for name in bounded if name not in measured]
    if unknown:
        raise ConfigError(f"checks.{unknown[0]} is not measured; known are {', '.join(measured)}")
    rows = []
    for name, value in measured.items():
        low, high = checks.get(name, (None, None))
        low, high = -np.inf if low is None else float(low), np.inf if high is None else float(high)
        free = name not in checks
        rows.append((name, float(value), low, high, bool(free or low <= value <= high)))
    return pd.DataFrame(rows, columns=["quantity", "value", "low", "high", "ok"])


def _marked(prompts: Iterable[pd.DataFrame]) -> dict[str, float]:
    """Share of the prompts that begin with special tokens, by these, and by caution."""
    table = pd.concat(prompts)
    tokens = table.get("begins_with", pd.Series(dtype=str)).fillna("")
    cautions = table.get("cautions", pd.Series(dtype=object)).explode()
    shares = tokens[tokens != ""].value_counts() / len(table)
    return {
        **{f"prompts_beginning_with_{name}": share for name, share in shares.items()},
        **{f"prompts_{name}": n / len(table) for name, n in cautions.value_counts().items()},
    }


def assert_report(report: pd.DataFrame) -> None:
    """Refuse data that break a bound.

    Raises:
        DataError: Naming the first failing quantity, its value and its bounds.

    Example:
        >>> row = {"quantity": "p_positive", "value": 0.7, "low": 0.4, "high": 0.6, "ok": False}
        >>> assert_report(pd.DataFrame([row]))
        Traceback (most recent call last):
        vbon.errors.DataError: p_positive is 0.7, accepted are 0.4 to 0.6 (checks.p_positive); ...
    """
    failing = report[~report["ok"].astype(bool)]
    if len(failing):
        row = failing.iloc[0]
        raise DataError(
            f"{row.quantity} is {row.value:.4g}, accepted are {row.low:g} to {row.high:g} "
            f"(checks.{row.quantity}); change the task's texts or builds, or the bounds"
        )

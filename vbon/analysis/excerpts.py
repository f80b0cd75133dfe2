"""Tables for the report: thinned histories, sample responses, and cards of texts and models."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from vbon.errors import DataError

SIZES = (10, 25, 50, 100, 200, 400, 600)
"""Numbers of draws that log F is estimated from; smaller samples begin larger ones."""

KINDS = {"adversarial": 0.0, "neutral": 0.5, "positive": 1.0}
"""Prompts shown in figure 3, each by the quantile of its mean reward."""

ROWS = 40
"""Maximum number of rows per run in thinned histories."""
PROMPTS = 3
"""Number of test prompts whose responses are shown."""
_MEANS = ("reward", "kl", "win_rate", "evaluator_reward")
_RUN = ("method", "setting", "seed")


def thinned(history: pd.DataFrame, rows: int = ROWS) -> pd.DataFrame:
    """Reduce a history to fewer rows: means of neighbouring rows, at the step of the last one.

    Args:
        history: Rows of one run, schema "history".
        rows: Maximum number of rows to return.

    Returns:
        Columns ``step, episodes`` and those of reward, kl (nats), win_rate and evaluator_reward
        that were recorded; NaN in rows where a quantity was not measured.

    Example:
        >>> history = pd.DataFrame({"step": range(4), "episodes": [8, 16, 24, 32],
        ...                         "reward": [0.0, 1.0, 2.0, 4.0], "kl": [0.0, np.nan, 1.0, 3.0]})
        >>> thinned(history, rows=2).to_dict("list")
        {'step': [1, 3], 'episodes': [16, 32], 'reward': [0.5, 3.0], 'kl': [0.0, 2.0]}
    """
    ordered = history.sort_values("step")
    bins = np.arange(len(ordered)) * min(rows, len(ordered)) // max(len(ordered), 1)
    groups = ordered.groupby(bins)
    means = [name for name in _MEANS if name in ordered]
    return groups[["step", "episodes"]].last().join(groups[means].mean()).reset_index(drop=True)


def histories_table(runs: Iterable[tuple[Mapping[str, Any], pd.DataFrame]]) -> pd.DataFrame:
    """Concatenated thinned histories of all runs that have one.

    Args:
        runs: Record and history of each run.

    Returns:
        Columns ``method, setting, seed, step, episodes, reward, kl, win_rate, evaluator_reward``.
    """
    columns = [*_RUN, "step", "episodes", *_MEANS]
    parts = [
        thinned(history).assign(**{name: record[name] for name in _RUN})
        for record, history in runs
        if len(history)
    ]
    whole = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    return whole.reindex(columns=columns)


def shown_prompts(prompts: pd.DataFrame, count: int = PROMPTS) -> pd.DataFrame:
    """Evenly spaced prompts, from the first on, whose responses are shown.

    Raises:
        DataError: If there are no prompts.

    Example:
        >>> prompts = pd.DataFrame({"prompt_id": list("abcdef"), "prompt": list("uvwxyz")})
        >>> shown_prompts(prompts, 3)["prompt_id"].tolist()
        ['a', 'c', 'e']
    """
    if prompts.empty:
        raise DataError("prompts: no test prompt to show responses to; raise prompts.num_test")
    return prompts.iloc[:: max(1, len(prompts) // count)].head(count).reset_index(drop=True)


def excerpts_table(
    prompts: pd.DataFrame, runs: Iterable[tuple[Mapping[str, Any], pd.DataFrame]]
) -> pd.DataFrame:
    """First response of every run to each of the given prompts.

    Args:
        prompts: Table of :func:`shown_prompts`.
        runs: Record and responses (schema "responses") of each run.

    Returns:
        Columns ``method, setting, seed, prompt_id, prompt, response, reward, reward_prob,
        evaluator_reward``, in the order of runs and prompts.

    Raises:
        DataError: If a run has no response to one of the prompts.
    """
    parts = []
    for record, responses in runs:
        first = responses.sort_values("draw").drop_duplicates("prompt_id")
        rows = prompts[["prompt_id", "prompt"]].merge(first, on="prompt_id", validate="one_to_one")
        if len(rows) < len(prompts):
            missed = prompts.loc[~prompts["prompt_id"].isin(rows["prompt_id"]), "prompt_id"].iloc[0]
            name = "/".join(str(record[key]) for key in _RUN)
            raise DataError(
                f"responses of {name}: column 'prompt_id' lacks {missed!r}; evaluate the run again"
            )
        parts.append(rows.assign(**{name: record[name] for name in _RUN}))
    columns = [*_RUN, "prompt_id", "prompt", "response"]
    columns += ["reward", "reward_prob", "evaluator_reward"]
    whole = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    return whole.reindex(columns=columns)


def cards_table(cards: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Settings and measured quality of the texts and models of a task, one quantity per row.

    Args:
        cards: Cards by role, with ``settings`` and, for a model, ``metrics``; and ``weights`` in
            words if they were quantised.

    Returns:
        Columns ``role, kind, quantity, value``; ``kind`` is ``setting`` or ``measured``. Names of
        nested settings are joined by dots; settings that are None are omitted.

    Example:
        >>> card = {"settings": {"model": {"id": None, "build": {"layers": 1}}},
        ...         "metrics": {"parameters": 77.0}}
        >>> cards_table({"reference": card})[["kind", "quantity", "value"]].to_numpy().tolist()
        [['setting', 'model.build.layers', '1'], ['measured', 'parameters', '77']]
    """
    rows = []
    for role, card in cards.items():
        settings = _settings_of(role, card.get("settings", {}))
        weights = {"weights": card["weights"]} if "weights" in card else {}
        named = {"setting": settings, "measured": {**weights, **card.get("metrics", {})}}
        for kind, values in named.items():
            rows += [
                {"role": role, "kind": kind, "quantity": name, "value": _written(value)}
                for name, value in _flat(values)
            ]
    return pd.DataFrame(rows, columns=["role", "kind", "quantity", "value"])


def _settings_of(role: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of one model, or of the texts, without the rest of the task's section."""
    task = settings.get("task")
    if task is None:
        return settings
    if role in task:
        return {"model": task[role], "tokenizer": task.get("tokenizer")}
    texts = [value for value in task.values() if isinstance(value, Mapping)]
    return {name: value for part in texts for name, value in part.items()}


def _flat(values: Mapping[str, Any], above: Sequence[str] = ()) -> Iterable[tuple[str, Any]]:
    """Dotted name and value of each leaf of nested settings that is not None."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, (*above, name))
        elif value is not None:
            yield ".".join((*above, name)), value


def _written(value: Any) -> str:
    """Text of a setting's value, whole numbers without a decimal point."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def shown_pools(rewards: pd.DataFrame, prompts: pd.DataFrame) -> pd.DataFrame:
    """Rewards of the three prompts with the lowest, the median and the highest mean reward.

    Args:
        rewards: Columns prompt_id, draw, reward of the training prompts.
        prompts: Columns prompt_id, prompt.

    Returns:
        Columns ``kind, prompt_id, prompt, draw, reward``. The number of draws per prompt is the
        largest of :data:`SIZES` that all prompts have.

    Raises:
        DataError: If a prompt has fewer draws than the smallest of :data:`SIZES`.
    """
    pools = rewards.sort_values("draw").groupby("prompt_id", sort=True)["reward"].agg(np.array)
    most = int(pools.map(len).min())
    sizes = [m for m in SIZES if m <= most]
    if not sizes:
        raise DataError(
            f"rewards: a prompt has only {most} draws; figure 3 needs at least {SIZES[0]} per "
            "prompt; raise sampling.train_draws"
        )
    order = pools.map(np.mean).sort_values(kind="stable").index
    texts = prompts.set_index("prompt_id")["prompt"]
    parts = []
    for kind, quantile in KINDS.items():
        name = order[round(quantile * (len(order) - 1))]
        shown = {"kind": kind, "prompt_id": name, "prompt": texts[name]}
        shown |= {"draw": range(sizes[-1]), "reward": pools[name][: sizes[-1]]}
        parts.append(pd.DataFrame(shown))
    return pd.concat(parts, ignore_index=True)

"""Tables of the page: any CSV as it is read, model cards, and sample texts."""

from typing import Any

import pandas as pd

from vbon.artifacts.markdown import shown_cells
from vbon.report.sources import Task
from vbon.report.style import scales

LONG = 16
"""Rows above which a table is folded."""
_ROLES = ("texts", "strings", "reference", "reward_model", "evaluator")
_WORDS = {
    "parameters": "Parameters",
    "accuracy": "Accuracy on held-out texts",
    "accuracy_cut": "Accuracy on held-out beginnings",
    "perplexity": "Perplexity of held-out texts",
    "loss": "Loss on held-out texts (nats a token)",
    "tokens": "Tokens trained on",
}


def table_block(task: Task, name: str) -> dict[str, Any]:
    """A table as the page shows it.

    Returns:
        ``prompt`` (what all rows are about, or nothing), ``header``, ``rows``, which columns are
        ``numeric``, the index of its column of ``verdicts``, whether it is ``long``, and its
        ``csv``.
    """
    prompt, header, rows = shown_cells(task.paths[f"tables/{name}"])
    if {"claim", "verdict"} <= set(header):  # a phone shows the first columns
        order = sorted(header, key=["claim", "verdict", *header].index)
        places = [header.index(column) for column in order]
        header, rows = order, [[row[place] for place in places] for row in rows]
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(header)
    return {
        "prompt": prompt,
        "header": [column.replace("_", " ") for column in header],
        "rows": [["–" if cell == "nan" else cell for cell in row] for row in rows],
        "numeric": [bool(column) and all(map(_is_number, column)) for column in columns],
        "verdict": header.index("verdict") if "verdict" in header else -1,
        "long": len(rows) > LONG,
        "csv": f"{task.name}/tables/{name}.csv",
    }


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return not cell
    return True


def cards_of(task: Task) -> list[dict[str, Any]]:
    """What the texts and models of a task are: settings, and how well they do on held-out texts."""
    cards = []
    for role, rows in task.models.groupby("role", sort=False):
        found = {kind: part for kind, part in rows.groupby("kind", sort=False)}
        cards.append(
            {
                "role": str(role),
                "measured": _pairs(found.get("measured")),
                "settings": _pairs(found.get("setting")),
            }
        )
    order = {role: index for index, role in enumerate(_ROLES)}
    return sorted(cards, key=lambda card: order.get(card["role"], len(order)))


def _pairs(rows: pd.DataFrame | None) -> list[tuple[str, str]]:
    """Names and values as words, numbers to four digits."""
    if rows is None:
        return []
    named = zip(rows["quantity"], rows["value"], strict=True)
    return [(_WORDS.get(name, name), _rounded(value)) for name, value in named]


def _rounded(value: str) -> str:
    if value.isdigit() and len(value) > 4:
        return f"{int(value):,}"
    return f"{float(value):.4g}" if "." in value and _is_number(value) else value


def sample_texts(task: Task) -> list[dict[str, Any]]:
    """Prompts with the reference's response and each method's, with rewards.

    A method speaks through one run: of its setting with the largest mean win rate, the first seed.

    Returns:
        One entry a prompt: ``prompt`` and ``rows`` of method, setting, response, reward and the
        evaluator's reward.
    """
    if not task.has("tables/samples"):
        return []
    samples = task.table("tables/samples")
    samples["response"] = samples["response"].fillna("")
    spoken = samples.merge(_speakers(task, samples), on=["method", "setting", "seed"])
    known = scales(spoken["method"])
    labels = dict(zip(known["method"], known["label"], strict=True))
    order = {name: index for index, name in enumerate(labels)}
    blocks = []
    for prompt, part in spoken.groupby("prompt", sort=False):
        rows = part.sort_values("method", key=lambda names: names.map(order), kind="stable")
        blocks.append(
            {
                "prompt": prompt,
                "rows": [
                    [labels[row.method], row.setting, row.response,
                     *map(_reward, (row.reward, row.evaluator_reward))]
                    for row in rows.itertuples()
                ],
            }
        )  # fmt: skip
    return blocks


def _speakers(task: Task, samples: pd.DataFrame) -> pd.DataFrame:
    """One run of each method: by win rate where the points are there, else the last setting."""
    runs = samples[["method", "setting", "seed"]].drop_duplicates()
    if not task.has("points"):
        return runs.groupby("method", sort=False).tail(1)
    points = task.table("points")
    level = points.groupby(["method", "setting"])["win_rate"].mean().rename("level").reset_index()
    ranked = runs.merge(level, on=["method", "setting"], how="left")
    ranked = ranked.sort_values(["level", "seed"], ascending=[False, True], kind="stable")
    return ranked.drop_duplicates("method")[["method", "setting", "seed"]]


def _reward(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.2f}"

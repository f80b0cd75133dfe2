"""Tables of the page: any CSV, claims, model cards, and sample texts."""

from typing import Any

import pandas as pd

from vbon.artifacts.markdown import shown_cells
from vbon.report.sources import Task
from vbon.report.style import labels
from vbon.report.summary import interval

LONG = 16
"""Rows above which a table is folded."""
_ROLES = ("texts", "strings", "reference", "reward_model", "evaluator")
_WORDS = {
    "parameters": "Parameters",
    "accuracy": "Accuracy on held-out texts",
    "accuracy_cut": "Accuracy on held-out beginnings",
    "perplexity": "Perplexity of held-out texts",
    "loss": "Loss on held-out texts (nats per token)",
    "tokens": "Tokens trained on",
}


def table_block(task: Task, name: str) -> dict[str, Any]:
    """Return a table as the page shows it.

    Returns:
        ``prompt`` (shared by all rows, or empty), ``header``, ``rows``, ``numeric`` (a flag per
        column), ``verdict`` (index of that column, or -1), ``long`` (fold it), and its ``csv``.
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


def claims_block(task: Task) -> dict[str, Any]:
    """Return the claims of a task, one entry per claim.

    Returns:
        ``rows`` of claim, verdict, number and ``details`` (pairs of a name and its words), and the
        ``csv`` that they come from.
    """
    table = task.table("tables/claims")
    names = ["statistic", "rule", "source", "note"]
    words = table[["claim", "verdict", *names]].fillna("").astype(str)
    rows = []
    for row, (value, low, high) in zip(
        words.to_dict("records"), table[["value", "low", "high"]].to_numpy(float), strict=True
    ):
        number = interval(value, low, high)
        details = {"statistic": row["statistic"], "value and interval": number}
        details |= {name: row[name] for name in names[1:]}
        shown = [(name.capitalize(), text) for name, text in details.items() if text]
        rows.append({"claim": row["claim"], "verdict": row["verdict"], "number": number,
                     "details": shown})  # fmt: skip
    return {"rows": rows, "csv": f"{task.name}/tables/claims.csv"}


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return not cell
    return True


def cards_of(task: Task) -> list[dict[str, Any]]:
    """Return the texts and models of a task: settings, and measurements on held-out texts."""
    cards = []
    for role, rows in task.models.groupby("role", sort=False):
        kinds = {"measured": "measured", "settings": "setting"}
        parts = {name: _pairs(rows[rows["kind"] == kind]) for name, kind in kinds.items()}
        cards.append({"role": str(role), **parts})
    order = {role: index for index, role in enumerate(_ROLES)}
    return sorted(cards, key=lambda card: order.get(card["role"], len(order)))


def _pairs(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Return names and values as words, numbers to four digits."""
    named = zip(rows["quantity"], rows["value"], strict=True)
    return [(_WORDS.get(name, name), _rounded(value)) for name, value in named]


def _rounded(value: str) -> str:
    if value.isdigit() and len(value) > 4:
        return f"{int(value):,}"
    return f"{float(value):.4g}" if "." in value and _is_number(value) else value


def sample_texts(task: Task) -> list[dict[str, Any]]:
    """Return prompts with the responses of the reference and of each method, with rewards.

    One run represents each method: the first seed of the setting with the largest mean win rate.

    Returns:
        One entry per prompt: ``prompt`` and ``rows`` of method, setting, response, reward and the
        evaluator's reward.
    """
    if not task.has("tables/excerpts"):
        return []
    samples = task.table("tables/excerpts")
    samples["response"] = samples["response"].fillna("")
    shown = samples.merge(_representatives(task, samples), on=["method", "setting", "seed"])
    words = labels(shown["method"])
    order = {name: index for index, name in enumerate(words)}
    blocks = []
    for prompt, part in shown.groupby("prompt", sort=False):
        rows = part.sort_values("method", key=lambda names: names.map(order), kind="stable")
        cells = []
        for row in rows.itertuples():
            numbers = (row.reward, row.evaluator_reward)
            rewards = ["–" if pd.isna(number) else f"{number:.2f}" for number in numbers]
            cells.append([words[row.method], row.setting, row.response, *rewards])
        blocks.append({"prompt": prompt, "rows": cells})
    return blocks


def _representatives(task: Task, samples: pd.DataFrame) -> pd.DataFrame:
    """Return one run per method: by win rate if the task has points, else the last setting."""
    runs = samples[["method", "setting", "seed"]].drop_duplicates()
    if not task.has("points"):
        return runs.groupby("method", sort=False).tail(1)
    points = task.table("points")
    level = points.groupby(["method", "setting"])["win_rate"].mean().rename("level").reset_index()
    ranked = runs.merge(level, on=["method", "setting"], how="left")
    ranked = ranked.sort_values(["level", "seed"], ascending=[False, True], kind="stable")
    return ranked.drop_duplicates("method")[["method", "setting", "seed"]]

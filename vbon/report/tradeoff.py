"""The page's main charts: every run in two planes that share buttons and brush."""

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from vbon.figures.style import METHODS
from vbon.objectives.frontier import kl_upper_bound, win_rate, win_rate_frontier
from vbon.report.charts import (
    IS_MARKED,
    IS_SHOWN,
    Charts,
    fill,
    measured,
    parameters,
    root_kl,
    shape,
    stroke,
    tooltips,
)
from vbon.report.sources import Task
from vbon.report.style import scales

KL_LIMIT = 50.0
"""Nats beyond which runs are counted and not drawn, as in the figures."""
SAMPLE = 220
"""Letters of a sample response that hovering shows."""
_TIPS = ("Method", "Setting", "Seed", "KL ± SE", "Win rate ± SE", "Reward ± SE", "Evaluator")
_INK, _GREY = "#4d4d4d", "#999999"


def runs_of(task: Task) -> pd.DataFrame:
    """One row a run with what hovering shows of it, in words.

    Returns:
        Columns ``run`` (its place in ``points``), ``method, setting, seed, kl`` (nats),
        ``win_rate, reward`` (a probability where the reward has one), and the words' names.
        Runs without numbers are left out, as are those beyond :data:`KL_LIMIT`.
    """
    points = task.table("points")
    points = points[points["status"] == "ok"].dropna(subset=["kl", "win_rate"])
    points = points[points["kl"] <= KL_LIMIT]
    metric = "reward_prob" if points["reward_prob"].notna().any() else "reward"
    frame = points[["method", "setting", "seed", "kl", "win_rate"]].copy()
    frame.insert(0, "run", points.index.to_list())
    frame["reward"] = points[metric]
    labels = dict(
        zip(*(scales(points["method"])[name] for name in ("method", "label")), strict=True)
    )
    frame["Method"] = points["method"].map(labels)
    frame["Setting"] = points["setting"]
    frame["Seed"] = points["seed"].astype(str)
    for title, value, error, unit in (
        ("KL ± SE", "kl", "kl_se", "nats"),
        ("Win rate ± SE", "win_rate", "win_rate_se", ""),
        ("Reward ± SE", metric, f"{metric}_se", ""),
        ("Evaluator", "evaluator_win_rate", "evaluator_win_rate_se", ""),
    ):
        pairs = zip(points[value], points[error] if error in points else points[value] * np.nan)  # noqa: B905
        frame[title] = [measured(number, se, unit) for number, se in pairs]
    return frame.assign(**_sampled(task, points))


def _sampled(task: Task, points: pd.DataFrame) -> dict[str, list[str]]:
    """The prompt and response that stand for each run, where the table of samples is there."""
    if not task.has("tables/samples"):
        return {}
    samples = task.table("tables/samples").drop_duplicates(["method", "setting", "seed"])
    keys = samples[["method", "setting", "seed"]].itertuples(index=False, name=None)
    said = dict(zip(keys, zip(samples["prompt"], samples["response"].fillna("")), strict=True))  # noqa: B905
    runs = points[["method", "setting", "seed"]].itertuples(index=False, name=None)
    found = [said.get(run, ("", "")) for run in runs]
    return {"Prompt": [_short(prompt) for prompt, _ in found],
            "Response": [_short(response) for _, response in found]}  # fmt: skip


def _short(text: str) -> str:
    """The end of a prompt or response that is too long for a tooltip is left out."""
    return text if len(text) <= SAMPLE else f"{text[:SAMPLE].rstrip()} …"


def curves_of(runs: pd.DataFrame, right: float) -> pd.DataFrame:
    """Closed forms of the win rate: best-of-n for any n, and the frontier of all policies."""
    n = np.exp(np.linspace(0, np.log(2048), 120))
    n = n[kl_upper_bound(n) <= right]
    kl = np.linspace(0, np.sqrt(right), 150) ** 2
    bon = {"series": "best_of_n", "kl": kl_upper_bound(n), "win_rate": win_rate(n)}
    frontier = {"series": "frontier", "kl": kl, "win_rate": win_rate_frontier(kl)}
    return pd.concat([pd.DataFrame(bon), pd.DataFrame(frontier)], ignore_index=True)


def tradeoff(charts: Charts, task: Task) -> dict[str, Any]:
    """Win rate and mean reward against KL, side by side.

    Returns:
        What the template needs: names of the two ``charts``, the ``methods`` of the buttons, the
        ``runs`` as a table, and how many were ``left_out``.
    """
    runs = runs_of(task)
    right = float(np.clip(runs["kl"].max(), 1.0, KL_LIMIT)) * 1.05
    data = charts.source(f"{task.name}-runs", runs)
    curves = charts.source(f"{task.name}-curves", curves_of(runs, right))
    methods = scales(runs["method"])["method"]
    tips = tooltips(*(name for name in (*_TIPS, "Prompt", "Response") if name in runs))
    x = root_kl(right)
    reward_title = "Mean probability of the positive class"
    if task.table("points")["reward_prob"].isna().all():
        reward_title = "Mean reward"
    planes = []
    for metric, title, bounded in (
        ("win_rate", "Win rate against the reference", True),
        ("reward", reward_title, False),
    ):
        low, high = runs[metric].min(), runs[metric].max()
        if bounded:
            low, high = min(low, 0.5), 1.0
        pad = 0.04 * max(high - low, 1e-3)
        y = alt.Y(f"{metric}:Q", title=title, scale=alt.Scale(domain=[low - pad, high + pad]))
        lines = _closed_forms(curves, x, y) if bounded else []
        chart = alt.layer(*lines, *_points(data, methods, x, y, tips)).add_params(*parameters())
        planes.append(charts.add(f"{task.name}-{metric}", chart))
    shown = runs.drop(columns=["run", "method", "kl", "win_rate", "reward", "setting", "seed"])
    return {
        "charts": planes,
        "methods": buttons(methods),
        "header": list(shown.columns),
        "rows": shown.to_numpy().tolist(),
        "left_out": len(task.table("points")) - len(runs),
    }


def buttons(methods: list[str]) -> list[dict[str, Any]]:
    """What a method's button needs: its name, its words and its marker."""
    known = scales(methods)
    names = [dict(zip(known, values, strict=True)) for values in zip(*known.values(), strict=True)]
    for row in names:
        row["hollow"] = row["method"] in METHODS and METHODS[row["method"]].hollow
    return names


def _closed_forms(curves: alt.NamedData, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """The region that no policy can reach, its border, and best-of-n's curve."""
    frontier = alt.Chart(curves).transform_filter("datum.series == 'frontier'")
    bon = alt.Chart(curves).transform_filter("datum.series == 'best_of_n'")
    return [
        frontier.mark_area(color=_GREY, opacity=0.16, clip=True).encode(x, y, alt.Y2Datum(2)),
        frontier.mark_line(color=_INK, strokeWidth=1.2).encode(x, y),
        bon.mark_line(color=_INK, strokeWidth=1, strokeDash=[4, 3]).encode(x, y),
    ]


def _points(
    data: alt.NamedData, methods: list[str], x: alt.X, y: alt.Y, tips: list[alt.Tooltip]
) -> list[alt.Chart]:
    """Best-of-n's line, and every run as its method's marker; dragging brushes runs."""
    shown = alt.Chart(data).transform_filter(IS_SHOWN)
    hollow = [name for name in methods if name in METHODS and METHODS[name].hollow]
    is_hollow = f"indexof({hollow!r}, datum.method) >= 0"
    line = shown.transform_filter("datum.method == 'best_of_n'")
    brush = alt.selection_interval(name="brush", encodings=["x", "y"])
    points = shown.properties(name="points").mark_point(size=60, filled=True, strokeWidth=1.4)
    points = points.encode(
        x, y, fill(methods), stroke(methods), shape(methods),
        alt.condition(IS_MARKED, alt.OpacityValue(0.9), alt.OpacityValue(0.1)),
        alt.condition(is_hollow, alt.FillOpacityValue(0), alt.FillOpacityValue(1)),
        tooltip=tips,
    )  # fmt: skip
    return [line.mark_line(color=_INK, strokeWidth=1).encode(x, y), points.add_params(brush)]

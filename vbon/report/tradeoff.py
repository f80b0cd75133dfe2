"""The trade-off charts: all runs by win rate and by mean reward, with shared buttons and brush."""

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from vbon.figures.tradeoff import KL_LIMIT, OPTIMA
from vbon.objectives.frontier import (
    is_closed_form,
    kl_upper_bound,
    win_rate,
    win_rate_frontier,
)
from vbon.report.charts import (
    IS_MARKED,
    IS_SHOWN,
    Charts,
    by_method,
    measured,
    parameters,
    root_kl,
    tooltips,
)
from vbon.report.sources import Task
from vbon.report.style import labels, scales

SAMPLE = 220
"""Characters of a sample response in a tooltip."""
_TIPS = ("Method", "Setting", "Seed", "KL ± SE", "Win rate ± SE", "Reward ± SE", "Evaluator")
_INK, _GREY = "#4d4d4d", "#999999"


def runs_of(task: Task) -> pd.DataFrame:
    """Return one row per run with the text of its tooltip.

    Returns:
        Columns ``run`` (index in ``points``), ``method, setting, seed, kl`` (nats),
        ``win_rate, reward`` (a probability if the reward has one), and those of the tooltip.
        Runs without numbers and runs above :data:`vbon.figures.tradeoff.KL_LIMIT` are omitted.
    """
    points = task.table("points")
    points = points[points["status"] == "ok"].dropna(subset=["kl", "win_rate"])
    points = points[points["kl"] <= KL_LIMIT]
    metric = "reward_prob" if points["reward_prob"].notna().any() else "reward"
    frame = points[["method", "setting", "seed", "kl", "win_rate"]].copy()
    frame.insert(0, "run", points.index.to_list())
    frame["reward"] = points[metric]
    frame["Method"] = points["method"].map(labels(points["method"]))
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
    """Return a sample prompt and response of each run, if there is a table of samples."""
    if not task.has("tables/excerpts"):
        return {}
    keys = ["method", "setting", "seed"]
    samples = task.table("tables/excerpts").drop_duplicates(keys)
    shown = points[keys].merge(samples, on=keys, how="left").fillna({"prompt": "", "response": ""})
    return {name.capitalize(): list(map(_short, shown[name])) for name in ("prompt", "response")}


def _short(text: str) -> str:
    """Return a prompt or response, cut where it is too long for a tooltip."""
    return text if len(text) <= SAMPLE else f"{text[:SAMPLE].rstrip()} …"


def curves_of(task: Task, right: float) -> pd.DataFrame:
    """Return closed forms of the win rate, best-of-n and the frontier of all policies, and optima.

    Returns:
        Columns ``series, kl, win_rate, reward``. Exact optima, if the task has a table of them, are
        the series ``optimum_best_of_n`` and ``optimum_kl_rl``.
    """
    n = np.exp(np.linspace(0, np.log(2048), 120))
    n = n[kl_upper_bound(n) <= right]
    kl = np.linspace(0, np.sqrt(right), 150) ** 2
    bon = {"series": "best_of_n", "kl": kl_upper_bound(n), "win_rate": win_rate(n)}
    frontier = {"series": "frontier", "kl": kl, "win_rate": win_rate_frontier(kl)}
    points = task.table("points")
    measured = points[points["method"] == "best_of_n"]
    has_curve = is_closed_form(*measured[["n", "kl"]].to_numpy(float).T)  # not of rewards with ties
    parts = [*([pd.DataFrame(bon)] * has_curve), pd.DataFrame(frontier)]
    if task.has("tables/oracle_curves"):
        exact = task.table("tables/oracle_curves")
        exact = exact[exact["series"].isin(OPTIMA) & (exact["kl"] <= right)]
        if exact["reward_prob"].notna().any():
            exact = exact.assign(reward=exact["reward_prob"])
        exact = exact.assign(series="optimum_" + exact["series"])
        parts.append(exact[["series", "kl", "win_rate", "reward"]])
    return pd.concat(parts, ignore_index=True)


def tradeoff(charts: Charts, task: Task) -> dict[str, Any]:
    """Draw win rate and mean reward against KL.

    Returns:
        Names and titles of the ``charts``, the ``methods`` of the buttons, the runs as a table
        (``header`` and ``rows``), the number of runs ``left_out``, and the ``csv``.
    """
    runs = runs_of(task)
    right = float(np.clip(runs["kl"].max(), 1.0, KL_LIMIT)) * 1.05
    data = charts.source(f"{task.name}-runs", runs)
    curves = charts.source(f"{task.name}-curves", curves_of(task, right))
    methods = scales(runs["method"])["method"]
    tips = tooltips(*(name for name in (*_TIPS, "Prompt", "Response") if name in runs))
    x = root_kl(right)
    reward_title = "Mean probability of the positive class"
    if task.table("points")["reward_prob"].isna().all():
        reward_title = "Mean reward"
    titles, planes = {"win_rate": "Win rate against the reference", "reward": reward_title}, []
    for metric, title in titles.items():
        bounded = metric == "win_rate"
        low, high = runs[metric].min(), runs[metric].max()
        if bounded:
            low, high = min(low, 0.5), 1.0
        pad = 0.04 * max(high - low, 1e-3)
        y = alt.Y(f"{metric}:Q", title=title, scale=alt.Scale(domain=[low - pad, high + pad]))
        lines = [*(_closed_forms(curves, x, y) if bounded else []), *_optima(curves, x, y)]
        chart = alt.layer(*lines, *_points(data, methods, x, y, tips)).add_params(*parameters())
        words = f"{title.removesuffix(' against the reference')} against KL"
        planes.append((charts.add(f"{task.name}-{metric}", chart, 400), words))
    shown = runs.drop(columns=["run", "method", "kl", "win_rate", "reward", "setting", "seed"])
    return {
        "charts": planes,
        "methods": buttons(methods),
        "header": list(shown.columns),
        "rows": shown.to_numpy().tolist(),
        "left_out": len(task.table("points")) - len(runs),
        "csv": f"{task.name}/points.csv",
    }


def buttons(methods: list[str]) -> list[dict[str, Any]]:
    """Return name, label, colour and marker of each method's button."""
    looks = scales(methods)
    return [dict(zip(looks, values, strict=True)) for values in zip(*looks.values(), strict=True)]


def _closed_forms(curves: alt.NamedData, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """Draw the region that no policy can reach, its border, and the curve of best-of-n."""
    frontier = alt.Chart(curves).transform_filter("datum.series == 'frontier'")
    bon = alt.Chart(curves).transform_filter("datum.series == 'best_of_n'")
    return [
        frontier.mark_area(color=_GREY, opacity=0.16, clip=True).encode(x, y, alt.Y2Datum(2)),
        frontier.mark_line(color=_INK, strokeWidth=1.2).encode(x, y),
        bon.mark_line(color=_INK, strokeWidth=1, strokeDash=[4, 3]).encode(x, y),
    ]


def _optima(curves: alt.NamedData, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """Draw the exact optima of best-of-n and KL-RL."""
    lines = []
    for name, (colour, _) in OPTIMA.items():
        line = alt.Chart(curves).transform_filter(f"datum.series == 'optimum_{name}'")
        lines.append(line.mark_line(color=colour, strokeWidth=0.9).encode(x, y))
    return lines


def _points(
    data: alt.NamedData, methods: list[str], x: alt.X, y: alt.Y, tips: list[alt.Tooltip]
) -> list[alt.Chart]:
    """Draw the line of best-of-n, and every run with the marker of its method, under a brush."""
    shown = alt.Chart(data).transform_filter(IS_SHOWN)
    hollow = [button["method"] for button in buttons(methods) if button["hollow"]]
    is_hollow = f"indexof({hollow!r}, datum.method) >= 0"
    line = shown.transform_filter("datum.method == 'best_of_n'")
    brush = alt.selection_interval(name="brush", encodings=["x", "y"])
    points = shown.properties(name="points").mark_point(size=60, filled=True, strokeWidth=1.4)
    points = points.encode(
        x, y, *by_method(methods, alt.Fill, alt.Stroke, alt.Shape),
        alt.condition(IS_MARKED, alt.OpacityValue(0.9), alt.OpacityValue(0.1)),
        alt.condition(is_hollow, alt.FillOpacityValue(0), alt.FillOpacityValue(1)),
        tooltip=tips,
    )  # fmt: skip
    return [line.mark_line(color=_INK, strokeWidth=1).encode(x, y), points.add_params(brush)]

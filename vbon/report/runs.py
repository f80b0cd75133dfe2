"""Charts of summaries by temperature, of training, and of the costs of each method."""

import json
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from vbon.figures.temperature import LABELS
from vbon.report.charts import (
    IS_SHOWN,
    Charts,
    by_method,
    measured,
    parameters,
    span,
    ticks_at,
    tooltips,
)
from vbon.report.sources import Task
from vbon.report.style import RAMP, labels, scales
from vbon.report.tradeoff import buttons

_DOMAINS = {"in_domain": "in-domain", "out_of_domain": "out-of-domain"}
QUANTITIES = {
    "reward": "Mean reward",
    "kl": "KL to the reference (nats)",
    "win_rate": "Win rate",
    "evaluator_reward": "Evaluator's reward",
}
"""Titles of the quantities that training records."""
COSTS = {"tokens": "Tokens sampled", "updates": "Updates", "minutes": "Minutes"}
"""Titles of the costs of a run."""
_COUNT = "datum.value >= 1000 ? format(datum.value, '~s') : format(datum.value, '~r')"


def labelled(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the columns of tooltips: ``Method`` (its label), ``Setting`` and ``Seed``, if any."""
    words = labels(frame["method"].dropna())
    frame = frame.assign(Method=frame["method"].map(words).fillna(""), Setting=frame["setting"])
    return frame.assign(Seed=frame["seed"].astype(str)) if "seed" in frame else frame


def temperatures(charts: Charts, task: Task) -> dict[str, Any]:
    """Draw figures 5a and 5b: the evaluator's win rate and reward by sampling temperature.

    Returns:
        Names and titles of the ``charts``, the ``methods`` of the buttons, and the ``csv``.
    """
    names, methods, files = [], [], []
    figures = {"figure5a": "evaluator_win_rate", "figure5b": "evaluator_reward"}
    for figure in (name for name in figures if task.has(f"figures/{name}")):
        table, metric = labelled(task.table(f"figures/{figure}")), figures[figure]
        methods = scales(table["method"])["method"]
        drawn = _by_temperature(charts, task, table, figure, LABELS[metric])
        names.append((drawn, f"{metric.replace('_', ' ').capitalize()} by sampling temperature"))
        files.append(f"{task.name}/figures/{figure}.csv")
    return {"charts": names, "methods": buttons(methods), "csv": ", ".join(files)}


def _by_temperature(
    charts: Charts, task: Task, table: pd.DataFrame, figure: str, title: str
) -> str:
    table["Domain"] = table["domain"].map(_DOMAINS).fillna(table["domain"])
    table["Temperature"] = [f"{value:g}" for value in table["temperature"]]
    table["Mean ± sd"] = [measured(*pair) for pair in zip(table["mean"], table["sd"], strict=True)]
    table["line"] = table["setting"] + "/" + table["domain"]
    words = ["Method", "Setting", "Temperature", "Domain", "Mean ± sd"]
    if task.has("tables/excerpts"):  # the first response of each setting
        columns = ["method", "setting", "response"]
        shown = task.table("tables/excerpts").drop_duplicates(columns[:2])[columns]
        shown = table.merge(shown, on=columns[:2], how="left")
        table["Response"] = shown["response"].fillna("")
        words += ["Response"] * bool(table["Response"].any())
    columns = ["method", "line", "temperature", "mean", *words]
    data = charts.source(f"{task.name}-{figure}", table[columns])
    methods = scales(table["method"])["method"]
    shown = alt.Chart(data).transform_filter(IS_SHOWN)
    places = sorted(table["temperature"].unique().tolist())
    x = alt.X(
        "temperature:Q", title="Sampling temperature", axis=ticks_at(places),
        scale=span(table["temperature"]),
    )  # fmt: skip
    y = alt.Y("mean:Q", title=title, scale=span(table["mean"]))
    dashes = alt.Scale(domain=list(_DOMAINS.values()), range=[[1, 0], [5, 4]])
    legend = alt.Legend(orient="bottom", title=None)
    line = shown.mark_line(strokeWidth=1.6).encode(
        x, y, *by_method(methods, alt.Color), alt.Detail("line:N"),
        alt.StrokeDash("Domain:N", scale=dashes, legend=legend),
    )  # fmt: skip
    points = shown.mark_point(filled=True, size=55).encode(
        x, y, *by_method(methods, alt.Fill, alt.Shape), alt.StrokeValue("transparent"),
        tooltip=tooltips(*words),
    )  # fmt: skip
    return charts.add(f"{task.name}-{figure}", alt.layer(line, points).add_params(*parameters()))


def training(charts: Charts, task: Task) -> dict[str, Any]:
    """Draw reward, KL and win rate along training, as small multiples of one method at a time.

    Returns:
        Names of the ``charts``, the ``methods`` to choose from, and the first one, ``selected``.
    """
    table = labelled(task.table("tables/histories"))
    table["run"] = table["setting"] + "/" + table["Seed"]
    table["place"] = table.groupby("method")["setting"].transform(_places)
    table["Episodes"] = [f"{count:,.0f}" for count in table["episodes"]]
    drawn = [name for name in QUANTITIES if table[name].notna().any()]
    words = ["Method", "Setting", "Seed", "Episodes"]
    columns = ["method", "run", "place", "episodes", *drawn, *words]
    data = charts.source(f"{task.name}-training", table[columns])
    methods = buttons(scales(table["method"])["method"])
    shades = alt.Scale(range=list(RAMP), domain=[0, 1], interpolate="lab")
    recorded = table.groupby("method", sort=False)[drawn].count().gt(0).sum(axis=1)
    ends = json.dumps(table.groupby("method")["episodes"].max().astype(int).to_dict())
    # Fixed scales: a method that never recorded the quantity would have none.
    until = alt.Scale(domain=[0, {"expr": f"({ends})[selected]"}], nice=False)
    few, names = alt.Axis(tickCount=5), []
    first = recorded.idxmax()  # the method with the most recorded quantities
    for quantity in drawn:
        is_shown = f"datum.method == selected && isValid(datum.{quantity})"
        shown = alt.Chart(data).transform_filter(is_shown)
        chart = shown.mark_line(strokeWidth=1.3, point={"size": 12}).encode(
            alt.X("episodes:Q", title="Episodes (or examples seen)", scale=until, axis=few),
            alt.Y(f"{quantity}:Q", title=QUANTITIES[quantity], scale=span(table[quantity])),
            alt.Color("place:Q", scale=shades, legend=None),
            alt.Detail("run:N"),
            tooltip=[*tooltips(*words), alt.Tooltip(f"{quantity}:Q", format=".3f")],
        )
        chart = chart.add_params(alt.param(name="selected", value=first))
        names.append(charts.add(f"{task.name}-training-{quantity}", chart, 230))
    return {"charts": names, "methods": methods, "selected": first}


def _places(settings: pd.Series) -> np.ndarray:
    """Return the position of each setting from the first (0) to the last (1) of its method."""
    codes, names = settings.factorize()
    return codes / max(len(names) - 1, 1)


def costs_of(task: Task) -> pd.DataFrame:
    """Return tokens, updates and minutes of each run of a task.

    Returns:
        Columns ``method, setting, seed, tokens, updates, minutes``; minutes include training and
        the run's share of sampling and scoring the pool.
    """
    keys = ["method", "setting", "seed"]
    tokens = task.table("points").drop_duplicates(keys)[[*keys, "sampled_tokens"]]
    runs = task.table("costs").merge(tokens, on=keys, validate="one_to_one")
    seconds = runs[["train_seconds", "pool_sample_seconds", "pool_score_seconds"]].sum(axis=1)
    runs = runs.assign(tokens=runs["sampled_tokens"], minutes=seconds / 60)
    return runs[[*keys, *COSTS]]


def costs(charts: Charts, task: Task) -> dict[str, Any]:
    """Draw the costs of each method, one point per run.

    Returns:
        Names of the ``charts``, and a table of means per method: ``header`` and ``rows``.
    """
    table = labelled(costs_of(task))
    means = table.groupby("Method", sort=False)[list(COSTS)].mean()
    runs = table.groupby("Method", sort=False).size()
    rows = [
        [method, str(runs[method]), *(f"{value:,.0f}" for value in row[:2]), f"{row[2]:.2f}"]
        for method, row in zip(means.index, means.to_numpy(), strict=True)
    ]
    trained = table[(table["updates"] > 0) | (table["tokens"] > 0)]
    if trained.empty:
        return {"charts": [], "header": ["Method", "Runs", *COSTS.values()], "rows": rows}
    words = ["Method", "Setting", "Seed"]
    data = charts.source(f"{task.name}-costs", trained[["method", *COSTS, *words]])
    methods = scales(trained["method"])
    names = []
    for quantity, title in COSTS.items():
        chart = alt.Chart(data).mark_point(size=70, opacity=0.65, filled=True).encode(
            alt.X(f"{quantity}:Q", title=title, axis=alt.Axis(tickCount=4, labelExpr=_COUNT)),
            alt.Y("Method:N", sort=methods["label"], title=None),
            *by_method(methods["method"], alt.Fill, alt.Shape), alt.StrokeValue("transparent"),
            tooltip=[*tooltips(*words), alt.Tooltip(f"{quantity}:Q", format=",.4~r")],
        )  # fmt: skip
        names.append(charts.add(f"{task.name}-cost-{quantity}", chart, 26 * len(methods["label"])))
    return {"charts": names, "header": ["Method", "Runs", *COSTS.values()], "rows": rows}

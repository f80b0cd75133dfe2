"""Charts of single figures, each from the CSV of that figure."""

from collections.abc import Callable

import altair as alt
import pandas as pd

from vbon.figures.draws import ESTIMATORS, PHASES
from vbon.objectives.frontier import win_rate
from vbon.report.charts import (
    IS_SHOWN,
    Charts,
    colour,
    fill,
    measured,
    named_colour,
    parameters,
    root_kl,
    shape,
    span,
    ticks_at,
    tooltips,
)
from vbon.report.sources import Task
from vbon.report.style import ramp, scales

_INK, _GREY = "#4d4d4d", "#999999"
_PHASE_COLOURS = ("#0072b2", "#56b4e9", "#d55e00", "#e69f00", "#999999")


def labelled(frame: pd.DataFrame) -> pd.DataFrame:
    """Add a column ``Method`` with the label of each method."""
    looks = scales(frame["method"].dropna())
    labels = dict(zip(looks["method"], looks["label"], strict=True))
    return frame.assign(Method=frame["method"].map(labels).fillna(""))


def differences(charts: Charts, task: Task, name: str) -> list[str]:
    """Draw each method's attainment minus that of best-of-n at equal KL (figures 2 and 7)."""
    table = task.table(f"figures/{name}")
    bands = labelled(table[table["series"] == "below_best_of_n"])
    if bands.empty:
        return []
    bands["KL"] = [measured(kl, unit="nats") for kl in bands["kl"]]
    bands["Difference from BoN"] = [
        f"{row.metric:+.3f} ({row.metric_low:+.3f} to {row.metric_high:+.3f})"
        for row in bands.itertuples()
    ]
    words = ["Method", "KL", "Difference from BoN"]
    columns = ["method", "kl", "metric", "metric_low", "metric_high", *words]
    data = charts.source(f"{task.name}-{name}", bands[columns])
    methods = scales(bands["method"])["method"]
    shown = alt.Chart(data).transform_filter(IS_SHOWN)
    x = root_kl(float(bands["kl"].max()) * 1.03)
    title = "Difference from BoN at equal KL"
    band = shown.mark_area(opacity=0.16).encode(
        x, alt.Y("metric_low:Q", title=title), alt.Y2("metric_high"), colour(methods)
    )
    line = shown.mark_line(point={"size": 14}).encode(
        x, alt.Y("metric:Q", title=title), colour(methods), tooltip=tooltips(*words)
    )
    zero = alt.Chart(alt.NamedData(name="zero")).mark_rule(color=_INK, strokeDash=[4, 3])
    charts.source("zero", pd.DataFrame({"zero": [0]}))
    chart = alt.layer(zero.encode(alt.Y("zero:Q")), band, line).add_params(*parameters())
    return [charts.add(f"{task.name}-{name}", chart, 260)]


def figure4(charts: Charts, task: Task, name: str) -> list[str]:
    """Draw the benefit of more draws for log F, and the phases of a run's minutes."""
    table = task.table(f"figures/{name}")
    words = ["Draws per prompt", "Seed", "Minutes", "Win rate"]
    runs = table[["m", "minutes", "win_rate"]].assign(
        **{
            "Draws per prompt": table["m"].astype(int).astype(str),
            "Seed": table["seed"].astype(int).astype(str),
            "Minutes": [f"{value:.2f}" for value in table["minutes"]],
            "Win rate": [measured(value) for value in table["win_rate"]],
        }
    )
    scale = alt.Scale(zero=False)
    points = alt.Chart(charts.source(f"{task.name}-{name}", runs)).mark_point(filled=True, size=70)
    plane = points.encode(
        alt.X("minutes:Q", title="Minutes, on one core"),
        alt.Y("win_rate:Q", title="Win rate", scale=scale),
        alt.Color(
            "Draws per prompt:O",
            scale=_ramp(table["m"]),
            title="Draws per prompt, M",
            legend=alt.Legend(orient="bottom"),
        ),
        tooltip=tooltips(*words),
    )
    parts = table.groupby("m")[[f"{phase}_minutes" for phase in PHASES]].mean().reset_index()
    long = parts.melt("m", var_name="phase", value_name="minutes")
    pool = long["phase"].str.startswith("pool")
    spoken = long["phase"].str.removesuffix("_minutes").map(PHASES)
    long["Phase"] = pool.map({True: "pool: ", False: "training: "}) + spoken
    long["M"] = long["m"].astype(int).astype(str)
    long["Minutes"] = [f"{value:.2f}" for value in long["minutes"]]
    looks = dict(zip(dict.fromkeys(long["Phase"]), _PHASE_COLOURS, strict=True))
    bars = alt.Chart(charts.source(f"{task.name}-{name}-phases", long)).mark_bar()
    order = [str(int(m)) for m in sorted(table["m"].unique())]
    stacked = bars.encode(
        alt.X(
            "M:O", sort=order, title="Draws per prompt for log F, M", axis=alt.Axis(labelAngle=0)
        ),
        alt.Y("minutes:Q", title="Minutes"),
        named_colour("Phase", looks, columns=1),
        tooltip=tooltips("M", "Phase", "Minutes"),
    )
    return [
        charts.add(f"{task.name}-{name}", plane, 260),
        charts.add(f"{task.name}-{name}-phases", stacked, 260),
    ]


def _ramp(sizes: pd.Series) -> alt.Scale:
    """Return a scale from light to dark by size; the sizes are text in numerical order."""
    order = [str(int(size)) for size in sorted(sizes.unique())]
    return alt.Scale(domain=order, range=ramp(len(order)))


def figure6(charts: Charts, task: Task, name: str) -> list[str]:
    """Draw exact vBoN minus its bound L by n, if the study of equal seeds is there."""
    table = task.table(f"figures/{name}")
    rows = table[table["series"] == "difference"]
    if rows.empty or not task.has("tables/equivalence"):
        return []
    study = task.table("tables/equivalence").set_index("setting")
    rows = rows.assign(
        N=[
            f"{n:g}" if n == n else name for n, name in zip(rows["n"], rows["setting"], strict=True)
        ],
        Difference=[
            f"{row.metric:+.4f} ({row.metric_low:+.4f} to {row.metric_high:+.4f})"
            for row in rows.itertuples()
        ],
        Verdict=rows["setting"].map(study["verdict"]),
    )
    margin = float(study["margin"].iloc[0])
    columns = ["metric", "metric_low", "metric_high", "N", "Difference", "Verdict"]
    base = alt.Chart(charts.source(f"{task.name}-{name}", rows[columns]))
    y = alt.Y("N:O", sort=rows["N"].tolist(), title="N")
    inside = pd.DataFrame({"low": [-margin], "high": [margin], "zero": [0.0]})
    equal = alt.Chart(charts.source(f"{task.name}-{name}-margin", inside))
    title = "Win rate: exact vBoN minus its bound L"
    ends = pd.Series([-margin, margin])
    scale = span(rows["metric"], rows["metric_low"], rows["metric_high"], ends)
    chart = alt.layer(
        equal.mark_rect(color=_GREY, opacity=0.18).encode(alt.X("low:Q"), alt.X2("high")),
        equal.mark_rule(color=_INK).encode(alt.X("zero:Q")),
        base.transform_filter("isValid(datum.metric_low)")
        .mark_rule(color="#0072b2", strokeWidth=2)
        .encode(alt.X("metric_low:Q", title=title, scale=scale), alt.X2("metric_high"), y),
        base.mark_point(filled=True, size=80, color="#0072b2").encode(
            alt.X("metric:Q"), y, tooltip=tooltips("N", "Difference", "Verdict")
        ),
    )
    return [charts.add(f"{task.name}-{name}", chart, 200)]


def estimators(charts: Charts, task: Task, name: str) -> list[str]:
    """Draw the error of each estimator of log F, and the win rate of policies that use it."""
    table = task.table(f"figures/{name}")
    table["Estimator"] = [ESTIMATORS[key][0] for key in table["estimator"]]
    table["M"] = table["m"].astype(int).astype(str)
    table["RMSE"] = [measured(value, unit="nats") for value in table["rmse_90"]]
    table["Ideal win rate"] = [measured(value) for value in table["ideal_win_rate"]]
    table["Trained win rate ± SE"] = [
        measured(*pair) for pair in zip(table["win_rate"], table["win_rate_se"], strict=True)
    ]
    words = ["Estimator", "M", "RMSE", "Ideal win rate", "Trained win rate ± SE"]
    tips = tooltips(*words)
    looks = {label: shade for label, shade, _ in ESTIMATORS.values()}
    columns = ["m", "rmse_90", "ideal_win_rate", "win_rate", *words]
    base = alt.Chart(charts.source(f"{task.name}-{name}", table[columns]))
    sizes = sorted(int(m) for m in table["m"].unique())
    x = alt.X(
        "m:Q", title="Draws per prompt, M", scale=alt.Scale(type="log", base=2, nice=False),
        axis=ticks_at(sizes),
    )  # fmt: skip
    named = named_colour("Estimator", looks)
    error = base.mark_line(point={"size": 50}).encode(
        x, alt.Y("rmse_90:Q", title="RMSE of log F at F = 0.9 (nats)", scale=alt.Scale(type="log")),
        named, tooltip=tips,
    )  # fmt: skip
    level = alt.Scale(zero=False)
    ideal = base.mark_line(point={"size": 30}).encode(
        x, alt.Y("ideal_win_rate:Q", title="Win rate", scale=level), named, tooltip=tips
    )
    trained = base.transform_filter("isValid(datum.win_rate)").mark_point(size=90).encode(
        x, alt.Y("win_rate:Q"), named, tooltip=tips
    )  # fmt: skip
    n = float(table["n"].iloc[0])
    best = pd.DataFrame({"level": [win_rate(n)], "Best-of-n": [f"{n:g}: {win_rate(n):.3f}"]})
    rule = alt.Chart(charts.source(f"{task.name}-{name}-level", best)).mark_rule(
        color=_INK, strokeDash=[4, 3], strokeWidth=2
    )
    rule = rule.encode(alt.Y("level:Q"), tooltip=tooltips("Best-of-n"))
    return [
        charts.add(f"{task.name}-{name}", error, 280),
        charts.add(f"{task.name}-{name}-rates", alt.layer(rule, ideal, trained), 280),
    ]


def optimum(charts: Charts, task: Task, name: str) -> list[str]:
    """Draw trained policies at their exact coordinates beside the exact families of optima."""
    table = task.table(f"figures/{name}")
    policies = labelled(table[table["series"] == "policy"])
    policies["KL"] = [measured(kl, unit="nats") for kl in policies["kl"]]
    policies["Win rate"] = [measured(value) for value in policies["win_rate"]]
    policies["Total variation to its optimum"] = [
        measured(value) for value in policies["tv_to_optimum"]
    ]
    renamed = {"setting": "Setting", "policy_class": "Policy", "reward": "Reward"}
    policies = policies.rename(columns=renamed)
    words = ["Method", "Setting", "Policy", "KL", "Win rate", "Total variation to its optimum"]
    methods = scales(policies["method"])["method"]
    right = float(policies["kl"].max()) * 1.1
    curves = table.loc[table["series"] != "policy", ["series", "kl", "win_rate"]]
    lines = alt.Chart(charts.source(f"{task.name}-{name}-curves", curves[curves["kl"] <= right]))
    data = charts.source(f"{task.name}-{name}", policies[["method", "kl", "win_rate", *words]])
    x = root_kl(right)
    y = alt.Y(
        "win_rate:Q", title="Exact win rate against the reference",
        scale=alt.Scale(domain=[0.48, 1.02]),
    )  # fmt: skip
    frontier = lines.transform_filter("datum.series == 'frontier'")
    family = lines.transform_filter("datum.series != 'frontier'")
    names = {"best_of_n": "best-of-n, exact", "kl_rl": "reference × exp(reward / β), exact"}
    named = "{" + ", ".join(f"'{key}': '{label}'" for key, label in names.items()) + "}"
    looks = dict(zip(names.values(), ("#999999", "#0072b2"), strict=True))
    points = alt.Chart(data).transform_filter(IS_SHOWN).mark_point(filled=True, size=70)
    chart = alt.layer(
        frontier.mark_area(color=_GREY, opacity=0.16, clip=True).encode(x, y, alt.Y2Datum(2)),
        frontier.mark_line(color=_INK, strokeWidth=1.2).encode(x, y),
        family.transform_calculate(family=f"{named}[datum.series]")
        .mark_line(strokeDash=[4, 3])
        .encode(x, y, named_colour("family", looks)),
        points.encode(
            x, y, fill(methods), alt.StrokeValue("transparent"), shape(methods),
            tooltip=tooltips(*words),
        ),
    ).add_params(*parameters())  # fmt: skip
    return [charts.add(f"{task.name}-{name}", chart)]


def overoptimisation(charts: Charts, task: Task, name: str) -> list[str]:
    """Draw the evaluator's reward against the training reward, along each training."""
    table = labelled(task.table(f"figures/{name}"))
    table["Setting"], table["Step"] = table["setting"], table["step"].astype(int).astype(str)
    table["KL"] = [measured(kl, unit="nats") for kl in table["kl"]]
    table["run"] = table["setting"] + "/" + table["seed"].astype(str)
    words = ["Method", "Setting", "Step", "KL"]
    numbers = ["method", "run", "step", "reward", "evaluator_reward"]
    methods = scales(table["method"])["method"]
    base = alt.Chart(charts.source(f"{task.name}-{name}", table[[*numbers, *words]]))
    line = base.transform_filter(IS_SHOWN).mark_line(point={"size": 22}, strokeWidth=1.6)
    level = alt.Scale(zero=False)
    chart = line.encode(
        alt.X(
            "reward:Q", title="Training reward", scale=level,
            axis=alt.Axis(tickCount=8),
        ),
        alt.Y("evaluator_reward:Q", title="Evaluator's reward", scale=level),
        colour(methods), alt.Detail("run:N"), alt.Order("step:Q"), tooltip=tooltips(*words),
    )  # fmt: skip
    return [charts.add(f"{task.name}-{name}", chart.add_params(*parameters()))]


PANELS: dict[str, Callable[[Charts, Task, str], list[str]]] = {
    "figure7a": differences,
    "figure7b": differences,
    "figure4": figure4,
    "figure6": figure6,
    "estimators": estimators,
    "optimum": optimum,
    "overoptimisation": overoptimisation,
}
"""Function that draws each figure's chart; other figures are shown as printed."""

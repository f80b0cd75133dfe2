"""Figure 5 of arXiv:2407.06057 (summaries by temperature), and reward over-optimisation."""

from pathlib import Path

import pandas as pd
from matplotlib.lines import Line2D

from vbon.errors import DataError
from vbon.figures.style import INK, hollow, marker_settings, method_styles, saved_figure

DOMAINS = {"in_domain": "-", "out_of_domain": (0, (4, 2))}
"""Line style of each domain."""
LABELS = {
    "evaluator_win_rate": "Win rate against the reference, by the evaluator",
    "evaluator_reward": "Mean reward by the evaluator",
}
_SMOOTHED = 5  # window of the running mean, in rows of a history


def figure5(points: pd.DataFrame, metric: str, out_stem: Path) -> pd.DataFrame:
    """Draw a metric against the sampling temperature, mean ± sd over training and sample seeds.

    In-domain is solid, out-of-domain dashed. If a method has several settings, the first has
    filled markers and the others hollow ones.

    Args:
        points: Rows of schema "points" at several temperatures, by domain.
        metric: A key of :data:`LABELS`.
        out_stem: Path without suffix of the ``.pdf``, ``.svg``, ``.png`` and ``.csv`` to write.

    Returns:
        What was drawn, as in the ``.csv``: ``method, setting, domain, temperature, mean, sd, n``.

    Raises:
        DataError: If no run with status ``ok`` has a number in the column.
    """
    fine = points[points["status"] == "ok"]
    if fine[metric].isna().all():
        raise DataError(f"points.{metric}: no run with status ok has a number to draw")
    keys = ["method", "setting", "domain", "temperature"]
    grouped = fine.groupby(keys, sort=False)[metric]  # a row per training and sample seed
    table = grouped.agg(["mean", "std", "count"]).reset_index()
    table.columns = [*keys, "mean", "sd", "n"]
    styles = method_styles(table["method"])
    places = sorted(table["temperature"].unique())
    settings = table.groupby(["method", "setting"], sort=False)
    with saved_figure((6.6, 4.2), out_stem, table) as figure:
        axes, handles = figure.subplots(), []
        for index, ((method, setting), part) in enumerate(settings):
            look = marker_settings(styles[method])
            if setting != table.loc[table["method"] == method, "setting"].iloc[0]:
                look |= hollow(styles[method])
            shift = 0.012 * (index - (settings.ngroups - 1) / 2)  # keeps error bars apart
            for domain, dashes in DOMAINS.items():
                rows = part[part["domain"] == domain].sort_values("temperature")
                axes.errorbar(
                    rows["temperature"] + shift, rows["mean"], yerr=rows["sd"].fillna(0),
                    color=styles[method].colour, linestyle=dashes, linewidth=1.1,
                    elinewidth=0.7, capsize=1.5, **look,
                )  # fmt: skip
            label = " ".join((styles[method].label, "" if setting == "default" else setting))
            handles.append(Line2D([], [], color=styles[method].colour, label=label, **look))
        names = {"in_domain": "in-domain", "out_of_domain": "out-of-domain"}
        for domain, dashes in DOMAINS.items():
            handles.append(Line2D([], [], color=INK, linestyle=dashes, label=names[domain]))
        axes.set_xticks(places, labels=[f"{place:g}" for place in places])
        title = "Summarization: mean ± sd over seeds"
        axes.set(xlabel="Sampling temperature", ylabel=LABELS[metric], title=title)
        figure.legend(handles=handles, loc="outside right upper")
    return table


def overoptimisation(monitored: pd.DataFrame, out_stem: Path) -> pd.DataFrame:
    """Draw the evaluator's reward against the training reward over the course of training.

    Where a curve bends down, the policy still gains reward but loses by the evaluator, which no
    method is trained on. Curves are running means of histories; a circle marks the end.

    Args:
        monitored: Columns ``method, setting, seed, step, reward, evaluator_reward``.
        out_stem: Path without suffix of the ``.pdf``, ``.svg``, ``.png`` and ``.csv`` to write.

    Returns:
        What was drawn, as in the ``.csv``.
    """
    keys = ["method", "setting", "seed"]
    parts = []
    for values, part in monitored.groupby(keys, sort=False):
        part = part.sort_values("step")
        numbers = part[["reward", "evaluator_reward", "kl"]]
        window = min(_SMOOTHED, max(1, len(part) // 3))
        smooth = numbers.rolling(window, min_periods=1, center=True).mean()
        parts.append(smooth.assign(**dict(zip(keys, values, strict=True)), step=part["step"]))
    table = pd.concat(parts, ignore_index=True)[[*keys, "step", *numbers.columns]]
    styles = method_styles(table["method"])
    with saved_figure((6.6, 3.8), out_stem, table) as figure:
        axes = figure.subplots()
        for (method, setting, seed), part in table.groupby(keys, sort=False):
            names = table.loc[table["method"] == method, "setting"].unique()
            dashes = ("-", (0, (4, 2)), (0, (1, 1)))[list(names).index(setting) % 3]
            label = f"{styles[method].label} {setting}" if seed == table["seed"].min() else None
            axes.plot(
                part["reward"], part["evaluator_reward"], color=styles[method].colour,
                linestyle=dashes, linewidth=1.2, label=label,
            )  # fmt: skip
            end = part.iloc[-1]
            axes.plot(end["reward"], end["evaluator_reward"], "o", ms=4, c=styles[method].colour)
        title = "Summarization: reward along training"
        axes.set(xlabel="Training reward", ylabel="Evaluator's reward", title=title)
        figure.legend(loc="outside right upper")
    return table

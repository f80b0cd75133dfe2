"""Benefit of more draws per prompt: figure 4 of arXiv:2407.06057, and estimators of log F."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes

from vbon.errors import DataError
from vbon.figures.style import INK, saved_figure

PHASES = {
    "pool_sample": "draws for log F",
    "pool_score": "their rewards",
    "train_sample": "rollouts",
    "train_score": "their rewards",
    "train_update": "updates and the rest",
}
"""Parts of a run's time: making the pool, then training."""
_COLOURS = ("#0072b2", "#56b4e9", "#d55e00", "#e69f00", "#bbbbbb")

ESTIMATORS = {
    "add1": ("add1 (the paper's)", "#d55e00", "s"),
    "digamma": ("digamma", "#0072b2", "o"),
    "posterior": ("posterior mean", "#56b4e9", "v"),
    "exponential": ("exponential", "#e69f00", "^"),
    "shared": ("shared over prompts", "#009e73", "D"),
}
"""Label, colour and marker of each estimator, in the order of legends."""


def minutes_by_phase(points: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """Minutes of each run by phase, with the metrics that it attained.

    Runs use parts of one pool that was drawn and scored once; a run is charged its part of the
    measured minutes.

    Args:
        points: Table ``points`` of runs that differ in m.
        costs: Table ``costs`` of the same runs.

    Returns:
        Columns method, setting, seed, m, ``{phase}_minutes`` for each of :data:`PHASES`, minutes,
        win_rate, reward_prob, reward.
    """
    keys = ["method", "setting", "seed"]
    runs = points.merge(costs, on=keys, suffixes=("", "_of_costs"), validate="one_to_one")
    sampled, scored = runs["sample_seconds"], runs["score_seconds"]
    updated = runs["train_seconds"] - sampled - scored
    seconds = runs["pool_sample_seconds"], runs["pool_score_seconds"], sampled, scored, updated
    table = runs[[*keys, "m"]].copy()
    for phase, spent in zip(PHASES, seconds, strict=True):
        table[f"{phase}_minutes"] = spent / 60
    table["minutes"] = table.filter(like="_minutes").sum(axis=1)
    return table.join(runs[["win_rate", "reward_prob", "reward"]]).sort_values(["m", "seed"])


def figure4(points: pd.DataFrame, costs: pd.DataFrame, out_stem: Path) -> pd.DataFrame:
    """Draw win rate and mean reward against minutes, one point for each m with ± sd over seeds.

    Args:
        points: Table ``points`` of runs of one method and n that differ in m and seed.
        costs: Table ``costs`` of the same runs.
        out_stem: Path without suffix of the ``.pdf``, ``.svg``, ``.png`` and ``.csv`` to write.

    Returns:
        The table of :func:`minutes_by_phase`, as in the ``.csv``.

    Raises:
        DataError: If no run has status ``ok``.
    """
    table = minutes_by_phase(points[points["status"] == "ok"], costs)
    if table.empty:
        raise DataError("points.status: no run of figure 4 is 'ok'; look at the runs' logs")
    reward = "reward" if table["reward_prob"].isna().all() else "reward_prob"
    with saved_figure((7.4, 2.9), out_stem, table) as figure:
        left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.05))
        _attained(left, table, "win_rate", "Win rate")
        label = "Mean reward" if reward == "reward" else "Mean probability of positive"
        _attained(middle, table, reward, label)
        _stacked(right, table)
        figure.suptitle(f"vBoN, N = {points['n'].iloc[0]:g}: more draws for log F", size=9)
    return table


def _attained(axes: Axes, table: pd.DataFrame, metric: str, label: str) -> None:
    """Mean and standard deviation over seeds, a colour for each m."""
    groups = table.groupby("m")
    mean, spread = groups[["minutes", metric]].mean(), groups[["minutes", metric]].std().fillna(0)
    axes.plot(mean["minutes"], mean[metric], color="#bbbbbb", linewidth=0.9, zorder=1)
    shades = colormaps["viridis_r"](np.linspace(0.12, 1.0, len(mean)))
    for index, (shade, (m, row)) in enumerate(zip(shades, mean.iterrows(), strict=True)):
        axes.errorbar(
            row["minutes"], row[metric], xerr=spread.loc[m, "minutes"], yerr=spread.loc[m, metric],
            fmt="o", color=shade, markersize=5, elinewidth=0.9, capsize=2.5, zorder=3,
        )  # fmt: skip
        side = (4, 6) if index % 2 else (4, -11)  # alternate: small M are close together
        place = (row["minutes"], row[metric])
        axes.annotate(f"{m:g}", place, side, textcoords="offset points", size=7)
    axes.set(xlabel="Minutes, on one core", ylabel=label)
    axes.margins(x=0.12, y=0.15)


def _stacked(axes: Axes, table: pd.DataFrame) -> None:
    """Mean minutes of each phase, one bar for each m."""
    names = [f"{phase}_minutes" for phase in PHASES]
    means = table.groupby("m")[names].mean()
    position, bottom = np.arange(len(means)), np.zeros(len(means))
    for name, label, colour in zip(names, PHASES.values(), _COLOURS, strict=True):
        part = "pool" if name.startswith("pool") else "training"
        axes.bar(position, means[name], 0.72, bottom, color=colour, label=f"{part}: {label}")
        bottom += means[name].to_numpy()
    axes.set_xticks(position, labels=[f"{m:g}" for m in means.index])
    label = "Draws per prompt for log F, M"
    axes.set(xlabel=label, ylabel="Minutes", ylim=(0, 1.75 * bottom.max()))
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="upper left", fontsize=6.5)


def figure_estimators(table: pd.DataFrame, out_stem: Path) -> pd.DataFrame:
    """Draw the error of each estimator of log F, and the win rate attained with it, against M.

    Args:
        table: Table of :func:`vbon.analysis.estimators.estimators_table`.
        out_stem: Path without suffix of the ``.pdf``, ``.svg``, ``.png`` and ``.csv`` to write.

    Returns:
        What was drawn, as in the ``.csv``.
    """
    with saved_figure((7.2, 3.2), out_stem, table) as figure:
        errors, ideal = figure.subplots(1, 2)
        for name, part in table.groupby("estimator", sort=False):
            label, colour, marker = ESTIMATORS[name]
            line = {"color": colour, "marker": marker, "markersize": 4, "linewidth": 1.1}
            errors.plot(part["m"], part["rmse_90"], label=label, **line)
            ideal.plot(part["m"], part["ideal_win_rate"], **line)
            trained = part.dropna(subset=["win_rate"])
            ideal.errorbar(
                trained["m"], trained["win_rate"], yerr=trained["win_rate_se"], fmt=marker,
                color=colour, markerfacecolor="white", markersize=5, elinewidth=0.9, capsize=2,
            )  # fmt: skip
        n = float(table["n"].iloc[0])
        ideal.axhline(n / (n + 1), color=INK, linewidth=0.8, linestyle=(0, (4, 2)), zorder=0)
        ideal.annotate(
            f"best-of-{n:g}", (1, n / (n + 1)), (-2, 3), xycoords=("axes fraction", "data"),
            textcoords="offset points", ha="right", size=7,
        )  # fmt: skip
        for axes in (errors, ideal):
            axes.set_xscale("log", base=2)
            sizes = sorted(table["m"].unique())
            axes.set_xticks(sizes, labels=[f"{m:g}" for m in sizes])
            axes.minorticks_off()
            axes.set_xlabel("Draws per prompt, M")
        errors.set_yscale("log", base=2)
        errors.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
        errors.set_ylabel(r"RMSE of $\log F$ at F = 0.9 (nats)")
        ideal.set_ylabel("Win rate")
        errors.set_title("Error of one prompt's log F", size=8.5)
        ideal.set_title("Policies: ideal (lines) and trained (hollow)", size=8.5)
        figure.legend(*errors.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return table

"""Figure of the enumerable task: exact curves, and trained policies at exact coordinates."""

from pathlib import Path

import numpy as np
import pandas as pd

from vbon.figures.style import (
    INK,
    hollow,
    marker_settings,
    method_styles,
    saved_figure,
    square_root_axis,
)
from vbon.figures.tradeoff import KL_LABEL, SIZE
from vbon.objectives.frontier import win_rate_frontier

_CURVES = {
    "best_of_n": ("best-of-n, exact", "#4d4d4d", (0, (4, 2))),
    "kl_rl": ("reference × exp(reward / β), exact", "#0072b2", (0, (1, 1.2))),
}


def figure_optimum(optimum: pd.DataFrame, curves: pd.DataFrame, out_stem: Path) -> pd.DataFrame:
    """Draw trained policies of the injective language and the exact families of optima.

    Filled points are tabular policies, hollow ones small transformers; all were trained with the
    exact F. KL and win rate are exact sums over all strings.

    Args:
        optimum: The table ``optimum`` of the enumerable task.
        curves: The table ``curves``: exact (KL, win rate) along the families of optima.
        out_stem: Path without suffix of the ``.pdf``, ``.svg``, ``.png`` and ``.csv`` to write.

    Returns:
        What was drawn, as in the ``.csv``.
    """
    shown = optimum[(optimum["reward"] == "injective") & (optimum["cdf"] == "exact")]
    shown = shown.dropna(subset=["kl"])
    right = float(shown["kl"].max()) * 1.1
    kl = np.linspace(0, 1.03 * np.sqrt(right), 300) ** 2
    frontier = pd.DataFrame({"series": "frontier", "kl": kl, "win_rate": win_rate_frontier(kl)})
    table = pd.concat([shown.assign(series="policy"), curves, frontier], ignore_index=True)
    with saved_figure(SIZE, out_stem, table) as figure:
        axes = figure.add_subplot()
        square_root_axis(axes, right)
        axes.set(xlabel=KL_LABEL, ylabel="Exact win rate against the reference")
        axes.set_ylim(0.48, 1.02)
        axes.fill_between(
            kl, frontier["win_rate"], 1.02, facecolor="#f1f1f1", edgecolor="#bbbbbb",
            hatch="////", linewidth=0, zorder=0,
        )  # fmt: skip
        axes.plot(kl, frontier["win_rate"], color=INK, linewidth=1.1, label="model-free frontier")
        for series, (label, colour, dashes) in _CURVES.items():
            line = curves[(curves["series"] == series) & (curves["kl"] <= right * 1.06)]
            axes.plot(line["kl"], line["win_rate"], color=colour, linestyle=dashes, linewidth=1.0,
                      label=label)  # fmt: skip
        for name, style in method_styles(shown["method"]).items():
            for policy_class, part in shown[shown["method"] == name].groupby("policy_class"):
                settings = marker_settings(style)
                if policy_class == "transformer":
                    settings |= hollow(style) | {"markeredgewidth": 1.0}
                axes.plot(part["kl"], part["win_rate"], linestyle="none", zorder=4,
                          label=f"{style.label}, {policy_class}", **settings)  # fmt: skip
        figure.legend(loc="outside lower center", ncols=2, columnspacing=1.2)
    return table

"""Trade-off between a metric and KL: figures 2, 6 and 7 of arXiv:2407.06057."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from vbon.analysis.pareto import membership
from vbon.errors import DataError
from vbon.figures.labels import Label, place_labels
from vbon.figures.panels import KL_RL, Attainment, Differences
from vbon.figures.style import (
    FAINT,
    INK,
    MethodStyle,
    hollow,
    marker_settings,
    method_styles,
    saved_figure,
    square_root_axis,
)
from vbon.objectives.frontier import (
    is_closed_form,
    kl_upper_bound,
    win_rate,
    win_rate_frontier,
)

AXIS_LABELS = {
    "win_rate": "Win rate against the reference (ties count half)",
    "reward_prob": "Mean probability of the positive class",
    "evaluator_reward": "Mean reward of the held-out evaluator",
}
KL_LABEL = "KL(policy ‖ reference) per response (nats, square-root scale)"

COLUMNS = [
    *("series", "method", "setting", "seed", "status", "n", "kl_coef"),
    *("kl", "kl_se", "metric", "metric_se", "metric_low", "metric_high"),
    *("on_front", "on_method_front"),
]
"""Columns of the table beside each figure. ``series`` is ``run`` (a point, also if diverged),
``best_of_n_mean`` (the line through BoN's points), ``best_of_n_analytic``, ``frontier``,
``optimum`` (exact; ``method`` is ``best_of_n`` or ``kl_rl``), ``resolved`` (best-of-n at the
largest n that the pool of a method resolves), ``share`` (of the pooled front, in the legend), or
that of the lower panel: ``below_best_of_n`` (attainment minus best-of-n's at equal KL),
``optimum_below_best_of_n`` (the same of the optimum of KL-RL) or ``difference`` (figure 6)."""

OPTIMA = {
    "best_of_n": ("#0072b2", "exact optimum of vBoN"),
    "kl_rl": (KL_RL, "exact optimum of KL-RL"),
}
"""Colour and label of each curve of optima: those of the methods that approach it."""

_RING = {"marker": "o", "markersize": 9, "markerfacecolor": "none", "markeredgecolor": INK}

SHARES = "%: share of the pooled front, with 95 % interval"

KL_LIMIT = 50.0
"""Runs beyond this many nats are arrows at the right edge, counted in a note."""

SIZE = (4.8, 4.5)  # inches; shrunk to a 3.3 inch column the smallest letters are 5 points high


def figure2(
    points: pd.DataFrame,
    axis: str,
    out_stem: Path,
    *,
    title: str = "",
    methods: Sequence[str] | None = None,
    attainment: pd.DataFrame | None = None,
    pareto: pd.DataFrame | None = None,
    exact: pd.DataFrame | None = None,
    label: str | None = None,
) -> pd.DataFrame:
    r"""Draw one metric against KL(policy ‖ reference), one point per run.

    Points off the Pareto front of their own method are faint. Best-of-n's points are joined, and
    for the win rate two closed forms are added: best-of-n at its KL bound,
    :math:`(\log n - \frac{n-1}{n},\, \frac{n}{n+1})` for real :math:`n`, and the frontier above
    which no policy can be (:func:`vbon.objectives.frontier.win_rate_frontier`). Bars are one
    standard error over prompts. With ``attainment`` a lower panel shows each method's attainment
    minus best-of-n's at equal KL, which separates methods that overlap in the upper panel.
    With ``exact`` thin lines show what an ideal optimiser attains with each objective. Markers are
    white inside where n is so large that more than a tenth of best-of-n's responses, n / (n + M),
    would lie above all M draws that log F is estimated from; a ring on best-of-n marks this n.
    Figure 7 is the same drawing with one more method.

    Args:
        points: Rows of the points table: one task, one temperature, one domain. KL in nats.
        axis: ``"win_rate"``, ``"reward_prob"`` or ``"evaluator_reward"``.
        out_stem: Path without suffix of the ``.pdf``, ``.svg``, ``.png`` and ``.csv`` to write.
        title: Text above the axes.
        methods: Methods to draw; all by default. ``on_front`` and the shares are always those of
            all ``points`` in the pool "paper" (:func:`vbon.analysis.pareto.membership`), so that a
            figure agrees with the table of shares.
        attainment: The table of :func:`vbon.analysis.attainment.attainment_bands`.
        pareto: The table of :func:`vbon.analysis.pareto.pareto_table`, whose shares the legend
            shows.
        exact: The table of :func:`vbon.analysis.tilts.curves`.
        label: Label of the vertical axis; by default that of the metric.

    Returns:
        What was drawn, as in the ``.csv``: columns :data:`COLUMNS`.

    Raises:
        DataError: If a column is missing, the rows mix tasks, temperatures or domains, or no run
            has a number to draw.
    """
    runs = _runs(points, axis, methods)
    panel, optima = None, _optima(exact, axis, list(runs["method"].unique()))
    if attainment is not None:
        reference = points.loc[points["method"] == "reference", axis].mean()
        panel = Attainment.of(attainment, axis, list(runs["method"].unique()), reference, optima)
    shares = pd.DataFrame()
    if pareto is not None:  # as rows of the figure's table
        rows = pareto[(pareto["front"] == "paper") & (pareto["axes"] == axis)]
        rows = rows[rows["method"].isin(runs["method"])]
        names = {"share": "metric", "share_low": "metric_low", "share_high": "metric_high"}
        shares = rows[["method", *names]].rename(columns=names).assign(series="share")
    return _figure(runs, axis, out_stem, title, panel, shares, optima, label)


def figure6(
    points: pd.DataFrame,
    out_stem: Path,
    *,
    title: str = "",
    attainment: pd.DataFrame | None = None,
    equivalence: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Draw vBoN's exact reward against its L bound: figure 2a of these two methods.

    Args:
        points: Rows of the points table that include ``vbon`` and ``vbon_l``.
        out_stem: Path without suffix of the files to write.
        title: Text above the axes.
        attainment: The table of attainments, for the lower panel if there is no study.
        equivalence: The table of :func:`vbon.analysis.equivalence.equivalence_table`: the lower
            panel then shows the differences at equal n and seeds against their margin.

    Returns:
        What was drawn, as in the ``.csv``: columns :data:`COLUMNS`.

    Raises:
        DataError: As :func:`figure2`.
    """
    runs = _runs(points, "win_rate", ["reference", "best_of_n", "vbon", "vbon_l"])
    panel: Attainment | Differences | None = None
    if equivalence is not None and equivalence["difference"].notna().any():
        panel = Differences.of(equivalence)
    elif attainment is not None:
        panel = Attainment.of(attainment, "win_rate", ["vbon", "vbon_l"], 0.5)
    return _figure(runs, "win_rate", out_stem, title, panel, pd.DataFrame(), _optima(None, "", []))


def _figure(
    runs: pd.DataFrame,
    axis: str,
    out_stem: Path,
    title: str,
    panel: Attainment | Differences | None,
    shares: pd.DataFrame,
    optima: pd.DataFrame,
    label: str | None = None,
) -> pd.DataFrame:
    """Draw the trade-off of some runs and the panel below it, and write figure and table."""
    drawn = runs.dropna(subset=["kl", "metric"])
    drawn = drawn[drawn["status"] == "ok"]
    if drawn.empty:
        raise DataError(f"points.{axis}: no run with status ok has a number to draw")
    right = float(np.clip(drawn["kl"].max(), 1.0, KL_LIMIT))
    optima = optima[optima["kl"] <= right]
    limits = optima[optima["series"] == "resolved"]
    curves = _best_of_n_mean(drawn)
    if len(optima):
        curves = pd.concat([curves, optima], ignore_index=True)
    if axis == "win_rate":
        curves = pd.concat([curves, *_closed_forms(runs, right)], ignore_index=True)
    extra = [shares, panel.rows if panel else pd.DataFrame()]
    parts = [runs, *(part.dropna(axis=1, how="all") for part in (curves, *extra) if len(part))]
    table = pd.concat(parts, ignore_index=True).reindex(columns=COLUMNS)
    heights = [1.0, panel.height] if panel else [1.0]
    height = SIZE[1] + 3.3 * sum(heights[1:]) + 0.3 * bool(len(optima))  # of the longer legend
    with saved_figure((SIZE[0], height), out_stem, table) as figure:
        axes, *lower = figure.subplots(len(heights), squeeze=False, height_ratios=heights)[:, 0]
        square_root_axis(axes, right)
        _set_metric_range(axes, drawn["metric"], axis)
        axes.set(xlabel=KL_LABEL, ylabel=label or AXIS_LABELS[axis])
        notes = _notes(runs, drawn)
        axes.set_title(title, pad=6 + 9 * len(notes))
        at = {"transform": axes.transAxes, "ha": "right", "va": "bottom"}
        axes.text(1, 1.01, "\n".join(notes), size=7, **at)
        styles = method_styles(drawn["method"])
        _draw_curves(axes, curves)
        for name in sorted(styles, key=lambda name: name == "reference"):  # its star on top
            limit = limits.loc[limits["method"] == name, "n"].min()
            _draw_method(axes, drawn[drawn["method"] == name], styles[name], limit)
        if panel:
            panel.draw(lower[0], right)
            if isinstance(panel, Attainment):  # both share one horizontal axis
                axes.set(xlabel="", xticklabels=[])
                lower[0].set_xlabel(KL_LABEL)
        handles = _legend(styles, curves, shares, panel)
        handles += _limit_handle(limits)
        figure.legend(
            handles=handles, loc="outside lower center", ncols=3 - bool(len(shares)),
            columnspacing=1.2, title=SHARES if len(shares) else None, title_fontsize=7.5,
        )  # fmt: skip
        figure.draw_without_rendering()  # the layout determines where labels have room ...
        figure.set_layout_engine("none")  # ... and must not change after they are placed
        obstacles = pd.concat([drawn[["kl", "metric"]], curves[["kl", "metric"]]])
        rings = limits.drop_duplicates("n").itertuples()
        labels = [Label(f"N={int(ring.n)}", ring.kl, ring.metric, INK) for ring in rings]
        labels += _setting_labels(drawn, styles)
        place_labels(axes, labels, obstacles.to_numpy(dtype=np.float64))
    return table


def _runs(points: pd.DataFrame, axis: str, methods: Sequence[str] | None) -> pd.DataFrame:
    """The runs to draw with their fronts, in the columns of the figure's table."""
    marks = membership(points, "paper", axis)
    runs = points.assign(**{name: marks[name].to_numpy() for name in marks})
    runs = runs[runs["method"].isin(methods)] if methods is not None else runs
    runs = runs.assign(series="run", metric=runs[axis], metric_se=runs.get(f"{axis}_se", np.nan))
    return runs.reindex(columns=COLUMNS).reset_index(drop=True)


def _best_of_n_mean(drawn: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds of each best-of-n setting, by KL."""
    bon = drawn[drawn["method"] == "best_of_n"]
    means = bon.groupby("setting", sort=False)[["n", "kl", "metric"]].mean().reset_index()
    means = means.assign(series="best_of_n_mean", method="best_of_n")
    return means.sort_values("kl").reindex(columns=COLUMNS)


def _optima(exact: pd.DataFrame | None, axis: str, methods: list[str]) -> pd.DataFrame:
    """Curves of exact optima and the limits of the methods' pools, in the figure's columns."""
    if exact is None or axis not in exact:
        return pd.DataFrame(columns=COLUMNS)
    is_limit = exact["series"] == "resolved"
    rows = exact[~is_limit | exact["method"].isin(methods)].dropna(subset=[axis])
    is_limit = is_limit.loc[rows.index]
    number = rows["parameter"].where(rows["series"] != "kl_rl")
    optima = pd.DataFrame({
        "series": rows["series"].where(is_limit, "optimum"),
        "method": rows["method"].where(is_limit, rows["series"]),
        "n": number, "kl_coef": rows["parameter"].where(number.isna()),
        "kl": rows["kl"], "metric": rows[axis],
    })  # fmt: skip
    return optima.reindex(columns=COLUMNS)


def _closed_forms(runs: pd.DataFrame, right: float) -> list[pd.DataFrame]:
    """The frontier, and the analytic best-of-n curve up to the largest n in the table.

    The curve is of rewards without ties; where best-of-n's KL shows ties it is left out.
    """
    # n = exp(t) with t evenly spaced and KL = s**2 with s evenly spaced: smooth on a root axis.
    n = np.exp(np.linspace(0, np.log(np.nanmax([16.0, *runs["n"]])), 200))
    n = n[kl_upper_bound(n) <= right]
    bon = {"series": "best_of_n_analytic", "method": "best_of_n", "n": n}
    kl = np.linspace(0, 1.03 * np.sqrt(right), 400) ** 2
    frontier = {"series": "frontier", "kl": kl, "metric": win_rate_frontier(kl)}
    bon |= {"kl": kl_upper_bound(n), "metric": win_rate(n)}
    measured = runs[runs["method"] == "best_of_n"]
    parts = [pd.DataFrame(bon)] * is_closed_form(*measured[["n", "kl"]].to_numpy(float).T)
    return [*parts, pd.DataFrame(frontier)]


def _set_metric_range(axes: Axes, metric: pd.Series, axis: str) -> None:
    """Set vertical limits that include all points, and for the win rate 0.5 to 1."""
    low, high = metric.min(), metric.max()
    if axis == "win_rate":
        low, high = min(low, 0.5), 1.0
    pad = 0.05 * max(high - low, 1e-3)
    axes.set_ylim(low - pad, high + pad)


def _draw_curves(axes: Axes, curves: pd.DataFrame) -> None:
    """Draw lines behind the points, and hatch the region that no policy can reach."""
    frontier = curves[curves["series"] == "frontier"]
    if len(frontier):
        top = axes.get_ylim()[1]
        axes.fill_between(
            frontier["kl"], frontier["metric"], top, facecolor="#f1f1f1", edgecolor="#bbbbbb",
            hatch="////", linewidth=0, zorder=0,
        )  # fmt: skip
        axes.plot(frontier["kl"], frontier["metric"], color=INK, linewidth=1.1, zorder=1)
    optima = curves[curves["series"] == "optimum"]
    for name, (colour, _) in OPTIMA.items():
        curve = optima[optima["method"] == name]
        axes.plot(curve["kl"], curve["metric"], color=colour, linewidth=0.8, zorder=2.5)
    rings = curves[curves["series"] == "resolved"].drop_duplicates("n")
    axes.plot(rings["kl"], rings["metric"], linestyle="none", zorder=6, **_RING)
    for series, dashes in (("best_of_n_analytic", (0, (4, 2))), ("best_of_n_mean", "-")):
        curve = curves[curves["series"] == series]
        look = {"color": "#4d4d4d", "linewidth": 0.8, "linestyle": dashes, "zorder": 2}
        axes.plot(curve["kl"], curve["metric"], **look)


def _draw_method(axes: Axes, runs: pd.DataFrame, style: MethodStyle, limit: float) -> None:
    """Draw points and error bars of one method, those on its own front opaque and on top.

    Markers of runs with n above the limit are white inside.
    """
    inside = runs[runs["kl"] <= KL_LIMIT]
    groups = inside.groupby([inside["on_method_front"].astype(bool), inside["n"] > limit])
    for (on_front, is_beyond), part in groups:
        alpha, zorder = (1.0, 5) if on_front else (FAINT, 3)
        if on_front:  # bars of background points would hide the points; the table has them
            axes.errorbar(
                part["kl"], part["metric"], xerr=part["kl_se"], yerr=part["metric_se"],
                fmt="none", ecolor=style.colour, elinewidth=0.6, alpha=0.7, zorder=4,
            )  # fmt: skip
        axes.plot(
            part["kl"], part["metric"], linestyle="none", alpha=alpha, zorder=zorder,
            clip_on=False, **marker_settings(style) | (hollow(style) if is_beyond else {}),
        )  # fmt: skip
    beyond = runs[runs["kl"] > KL_LIMIT]
    if len(beyond):  # an empty line that is not clipped would collapse the layout
        axes.plot(
            np.full(len(beyond), KL_LIMIT), beyond["metric"], linestyle="none", marker=5,
            markersize=6, color=style.colour, zorder=6, clip_on=False,
        )  # fmt: skip


def _notes(runs: pd.DataFrame, drawn: pd.DataFrame) -> list[str]:
    """Lines that count, by method, the runs that the figure does not show."""
    lost = runs[~runs.index.isin(drawn.index)]
    diverged = lost["status"] == "diverged"
    beyond = drawn[drawn["kl"] > KL_LIMIT]
    parts = {
        "diverged, not shown": lost[diverged],
        "without a value, not shown": lost[~diverged],
        f"beyond {KL_LIMIT:g} nats (up to {beyond['kl'].max():.3g})": beyond,
    }
    notes = []
    for words, part in parts.items():
        counts = part["method"].value_counts()
        styles = method_styles(counts.index)
        each = ", ".join(f"{style.label} {counts[name]}" for name, style in styles.items())
        notes += textwrap.wrap(f"{words}: {each}", 80) if each else []
    return notes


def _legend(
    styles: dict[str, MethodStyle],
    curves: pd.DataFrame,
    shares: pd.DataFrame,
    panel: Attainment | Differences | None,
) -> list[Line2D | Patch]:
    """Legend entries: one per method, one per curve, and the marks."""
    words = {row.method: _share_text(row) for row in shares.itertuples()}
    banded = set(panel.rows["method"]) - {"kl_rl"} if isinstance(panel, Attainment) else set()
    handles: list[Line2D | Patch] = []
    for name, style in styles.items():
        joined = name == "best_of_n" or name in banded
        colour = "#4d4d4d" if name == "best_of_n" else style.colour
        look = {"linestyle": style.dashes if joined else "none", **marker_settings(style)}
        text = style.label + words.get(name, "")
        handles.append(Line2D([], [], label=text, color=colour, linewidth=1.0, **look))
    if "best_of_n_analytic" in set(curves["series"]):
        line = Line2D([], [], color="#4d4d4d", linewidth=0.8, linestyle=(0, (4, 2)))
        line.set_label("BoN, closed form")
        handles.append(line)
    if "frontier" in set(curves["series"]):
        hatched = {"facecolor": "#f1f1f1", "edgecolor": INK, "hatch": "////"}
        handles.append(Patch(label="no policy can be here", **hatched))
    if "optimum" in set(curves["series"]):
        for colour, text in OPTIMA.values():
            handles.append(Line2D([], [], color=colour, linewidth=0.8, label=text))
    off = Line2D([], [], marker="o", color=INK, linestyle="none", alpha=FAINT, markersize=5)
    off.set_label("off its method's front")
    bars = Line2D([], [], marker="|", color=INK, linestyle="none", markersize=7, label="± 1 SE")
    band = Patch(facecolor=INK, alpha=0.16, linewidth=0, label="95 % band of attainment")
    return [*handles, off, bars, *([band] if banded else [])]


def _limit_handle(limits: pd.DataFrame) -> list[Line2D]:
    """Legend entry of the largest n that the pools resolve, if any."""
    if limits.empty:
        return []
    return [Line2D([], [], linestyle="none", label="last resolved N (white: beyond)", **_RING)]


def _share_text(row: tuple) -> str:
    """Share of the pooled front with its 95 % interval, in per cent."""
    if not np.isfinite(row.metric):
        return ""
    low, high = 100 * row.metric_low, 100 * row.metric_high
    return f": {100 * row.metric:.0f} % ({low:.0f} to {high:.0f})"


def _setting_labels(drawn: pd.DataFrame, styles: dict[str, MethodStyle]) -> list[Label]:
    """Labels with the swept setting at the two ends of each method's own front."""
    labels = []
    moved = drawn["kl"] > 2 * drawn["kl_se"].fillna(0)  # a label on the reference says nothing
    shown = drawn[moved & (drawn["kl"] <= KL_LIMIT) & drawn["on_method_front"].astype(bool)]
    for name, style in reversed(styles.items()):  # vBoN before its baselines
        front = shown[(shown["method"] == name) & (name != "reference")].sort_values("kl")
        ends = front.iloc[[0, -1]] if len(front) > 1 else front
        for row in ends.itertuples():
            labels.append(Label(_setting_text(row), row.kl, row.metric, style.text_colour))
    return labels


def _setting_text(row: tuple) -> str:
    """N or β of a run as the paper writes it, else the name of the setting."""
    setting = str(row.setting)
    if setting.startswith("n") and np.isfinite(row.n):
        return f"N={row.n:.4g}"
    if setting.startswith("beta") and np.isfinite(row.kl_coef):
        return f"β={row.kl_coef:.3g}"
    return setting

"""Panels below a trade-off: attainment minus best-of-n's, or differences with a margin."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from vbon.analysis.attainment import best_of_n_win_rate
from vbon.figures.style import INK, marker_settings, method_styles, square_root_axis

KL_RL = "#d55e00"
"""Colour of the exact optimum of KL-RL, which is PPO's."""
_BEST_OF_N = {"color": "#4d4d4d", "linewidth": 0.9, "zorder": 2}


@dataclass(frozen=True)
class Attainment:
    """Each method's attainment minus best-of-n's at equal KL, with its 95 % band.

    Attributes:
        rows: Rows to draw: ``series`` is ``below_best_of_n``, ``metric`` the median difference,
            ``metric_low`` and ``metric_high`` its band. ``optimum_below_best_of_n`` is the exact
            optimum of KL-RL.
        height: Height of the panel relative to the trade-off's.
    """

    rows: pd.DataFrame
    height: float = 0.72

    @classmethod
    def of(
        cls,
        attainment: pd.DataFrame,
        axis: str,
        methods: list[str],
        reference: float,
        optima: pd.DataFrame | None = None,
    ) -> "Attainment | None":
        """The panel, or None if the table has nothing to compare.

        Args:
            attainment: The table of :func:`vbon.analysis.attainment.attainment_bands`.
            axis: Metric of the figure.
            methods: Methods of the figure.
            reference: The reference's metric, which is that of best-of-1.
            optima: Curves of exact optima, in the columns of the figure's table.
        """
        bands = attainment[(attainment["axes"] == axis) & attainment["method"].isin(methods)]
        best = bands[bands["method"] == "best_of_n"].sort_values("kl")
        trained = bands[~bands["method"].isin(["best_of_n", "reference"])]
        if trained.empty or (best.empty and axis != "win_rate"):
            return None

        def level_at(kl: pd.Series) -> np.ndarray:
            if axis == "win_rate":
                return best_of_n_win_rate(kl.to_numpy())
            roots, values = np.sqrt([0.0, *best["kl"]]), [reference, *best["value"]]
            return np.interp(np.sqrt(kl), roots, values)

        level = level_at(trained["kl"])
        rows = trained[["method", "kl"]].assign(series="below_best_of_n")
        rows["metric"] = trained["median"] - level
        rows["metric_low"], rows["metric_high"] = trained["low"] - level, trained["high"] - level
        if optima is not None and len(line := optima[optima["method"] == "kl_rl"]):
            line = line[["method", "kl", "metric"]].assign(series="optimum_below_best_of_n")
            line["metric"] -= level_at(line["kl"])
            rows = pd.concat([rows, line], ignore_index=True)
        return cls(rows)

    def draw(self, axes: Axes, right: float) -> None:
        """Draw bands and medians, with a few markers to distinguish methods in grey prints."""
        square_root_axis(axes, right)
        axes.axhline(0, linestyle=(0, (4, 2)), **_BEST_OF_N)
        inside = self.rows[self.rows["kl"] <= right]
        is_optimum = inside["series"] == "optimum_below_best_of_n"
        shown, optimum = inside[~is_optimum], inside[is_optimum]
        axes.plot(optimum["kl"], optimum["metric"], color=KL_RL, linewidth=0.8, zorder=3)
        for index, (method, style) in enumerate(method_styles(shown["method"]).items()):
            band = shown[shown["method"] == method]
            kl, settings = band["kl"].to_numpy(), marker_settings(style)
            settings["markersize"] *= 0.8
            axes.fill_between(
                kl, band["metric_low"], band["metric_high"], color=style.colour, alpha=0.16,
                linewidth=0, zorder=1,
            )  # fmt: skip
            every = (3 * index % 11, 11)  # offset by method, so that markers do not overlap
            axes.plot(
                kl, band["metric"], color=style.colour, linewidth=1.3, zorder=4, markevery=every,
                linestyle=style.dashes, **settings,
            )  # fmt: skip
        low, high = shown["metric_low"].quantile(0.01), shown["metric_high"].quantile(0.99)
        low, high = (
            np.nanmin([low, optimum["metric"].min()]),
            np.nanmax([high, optimum["metric"].max()]),
        )
        pad = 0.06 * max(high - low, 1e-3)
        axes.set_ylim(min(low, 0) - pad, max(high, 0) + pad)
        axes.set_ylabel("Difference to BoN at equal KL")


@dataclass(frozen=True)
class Differences:
    """Difference of two methods by setting, with the margin within which they are equivalent.

    Attributes:
        rows: Rows to draw: ``series`` is ``difference``, ``metric`` the mean difference,
            ``metric_low`` and ``metric_high`` its 90 % interval.
        margin: Half-width of the band of equivalence.
        verdicts: Text beside each setting.
        height: Height of the panel relative to the trade-off's.
    """

    rows: pd.DataFrame
    margin: float
    verdicts: list[str]
    height: float = 0.6

    @classmethod
    def of(cls, equivalence: pd.DataFrame) -> "Differences":
        """Panel from the table of :func:`vbon.analysis.equivalence.equivalence_table`."""
        names = {"difference": "metric", "se": "metric_se", "low": "metric_low"}
        names["high"] = "metric_high"
        rows = equivalence[["setting", "n", *names]].rename(columns=names)
        margin = float(equivalence["margin"].iloc[0])
        return cls(rows.assign(series="difference"), margin, list(equivalence["verdict"]))

    def draw(self, axes: Axes, right: float) -> None:
        """Draw one interval per setting, from top to bottom, with its verdict as text."""
        position = np.arange(len(self.rows))[::-1]
        axes.axvspan(-self.margin, self.margin, color="#eeeeee", zorder=0)
        axes.axvline(0, **_BEST_OF_N)
        errors = np.abs(self.rows[["metric_low", "metric_high"]].sub(self.rows["metric"], axis=0))
        axes.errorbar(
            self.rows["metric"], position, xerr=errors.to_numpy().T, fmt="o", color=INK,
            markersize=4, elinewidth=1, capsize=2.5, zorder=3,
        )  # fmt: skip
        ends = self.rows[["metric_low", "metric_high"]].abs().to_numpy()
        reach = float(np.nanmax([1.25 * self.margin, *1.08 * ends[np.isfinite(ends)]]))
        axes.set(xlim=(-reach, 1.5 * reach), ylim=(-0.7, len(self.rows) - 0.3))
        axes.set_yticks(position, labels=[_setting_text(name) for name in self.rows["setting"]])
        for y, verdict in zip(position, self.verdicts, strict=True):
            axes.text(1.48 * reach, y, verdict, ha="right", va="center", size=7.5)
        axes.set_xlabel("Win rate of vBoN minus its L bound's (90 % interval)")
        text, corner = f"margin ± {self.margin:g}", {"ha": "right", "va": "bottom"}
        axes.text(0.985 * self.margin, -0.62, text, size=7, **corner)


def _setting_text(setting: str) -> str:
    return f"N={setting[1:]}" if setting[1:].isdigit() else setting

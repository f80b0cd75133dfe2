"""Parts shared by all charts: data, encodings of methods, and JSON."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import altair as alt
import pandas as pd

from vbon.report.style import scales

KL_TITLE = "KL to the reference (nats, square-root scale)"
HEIGHT = 330
DIGITS = 5
"""Significant digits of numbers that are drawn but not printed."""

IS_SHOWN = "indexof(hidden, datum.method) < 0"
"""True for methods that no button has hidden."""
IS_MARKED = "length(marked) == 0 || indexof(marked, datum.run) >= 0"
"""True for runs inside the brush, and for all runs without a brush."""


@dataclass
class Charts:
    """Charts of a page and the data that they share.

    Attributes:
        specs: Vega-Lite by name.
        data: Rows by name, as ``{"columns": [...], "rows": [...]}``.
    """

    specs: dict[str, dict[str, Any]] = field(default_factory=dict)
    data: dict[str, dict[str, list]] = field(default_factory=dict)

    def source(self, name: str, frame: pd.DataFrame) -> alt.NamedData:
        """Store a table under a name and return a reference to it for charts."""
        self.data[name] = compact(frame)
        return alt.NamedData(name=name)

    def add(self, name: str, chart: Any, height: int = HEIGHT) -> str:
        """Store a chart as wide as its container, and return its name."""
        spec = chart.properties(width="container", height=height).to_dict()
        del spec["$schema"], spec["config"]  # the page sets both
        spec["autosize"] = {"type": "fit-x", "contains": "padding"}
        self.specs[name] = spec
        return name


def compact(frame: pd.DataFrame) -> dict[str, list]:
    """Return a table for JSON: rounded numbers, None for missing values.

    Example:
        >>> compact(pd.DataFrame({"kl": [0.123456789, math.nan], "n": [2, 4]}))
        {'columns': ['kl', 'n'], 'rows': [[0.12346, 2], [None, 4]]}
    """
    columns = [[_value(value) for value in frame[name].tolist()] for name in frame]
    return {"columns": list(frame.columns), "rows": [list(row) for row in zip(*columns)]}  # noqa: B905


def _value(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return None if value is pd.NA else value


def as_script(value: Any) -> str:
    r"""Return JSON for a script element: no text in it can end that element.

    Example:
        >>> print(as_script("</script><!--"))
        "\u003c/script\u003e\u003c!--"
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    signs = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}
    signs |= {"\u2028": "\\u2028", "\u2029": "\\u2029"}
    return text.translate(str.maketrans(signs))


def by_method(methods: Sequence[str], *channels: Any) -> list[Any]:
    """Return channels that show methods, without a legend: the buttons are one.

    Args:
        methods: Names of methods.
        channels: ``alt.Color`` for lines; ``alt.Fill``, ``alt.Stroke``, ``alt.Shape`` for markers.
    """
    looks = scales(methods)
    ranges = [looks["outline" if channel is alt.Shape else "colour"] for channel in channels]
    return [
        channel("method:N", scale=alt.Scale(domain=looks["method"], range=values), legend=None)
        for channel, values in zip(channels, ranges, strict=True)
    ]


def tooltips(*names: str) -> list[alt.Tooltip]:
    """Return a tooltip of columns of text, under the names of the columns."""
    return [alt.Tooltip(f"{name}:N", title=name) for name in names]


def ticks_at(values: Sequence[float]) -> alt.Axis:
    """Return an axis with exactly these ticks, each with its label."""
    return alt.Axis(values=list(values), labelExpr="format(datum.value, '~r')")


def root_kl(right: float) -> alt.X:
    """Return the horizontal axis of trade-offs, with a square-root scale."""
    scale = alt.Scale(type="sqrt", domain=[0, right], nice=False)
    ticks = [tick for tick in (0, 0.1, 0.5, 1, 2, 3, 5, 8, 10, 15, 20, 30, 50) if tick <= right]
    return alt.X("kl:Q", scale=scale, title=KL_TITLE, axis=ticks_at(ticks))


def span(values: pd.Series) -> alt.Scale:
    """Return a fixed scale over all finite values of a column, with a margin.

    A scale derived from its data would warn on the console if there were none.

    Example:
        >>> span(pd.Series([0.0, 1.0, math.nan])).to_dict()["domain"]
        [-0.05, 1.05]
    """
    finite = values.dropna()
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    pad = 0.05 * max(high - low, 1e-6)
    return alt.Scale(domain=[float(low - pad), float(high + pad)], nice=False, zero=False)


def parameters() -> list[alt.Parameter]:
    """Return the parameters that buttons and brushes set: hidden methods and marked runs."""
    return [alt.param(name="hidden", value=[]), alt.param(name="marked", value=[])]


def measured(value: float, error: float = math.nan, unit: str = "") -> str:
    """Return a number with its standard error as text.

    Example:
        >>> measured(0.67916, 0.00725), measured(1.5, unit="nats"), measured(math.nan)
        ('0.679 ± 0.007', '1.500 nats', '')
    """
    if not math.isfinite(value):
        return ""
    return f"{value:.3f}" + (f" ± {error:.3f}" if error > 0 else "") + (f" {unit}" if unit else "")

"""Parts that all charts share: their data, their encodings of a method, and the JSON of each."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import altair as alt
import pandas as pd

from vbon.report.style import scales

KL_TITLE = "KL to the reference (nats, square-root scale)"
HEIGHT = 330
DIGITS = 5
"""Significant digits of a number that is only drawn."""

IS_SHOWN = "indexof(hidden, datum.method) < 0"
"""Of a method that no button has switched off."""
IS_MARKED = "length(marked) == 0 || indexof(marked, datum.run) >= 0"
"""Of a run inside the brush, or where nothing is brushed."""


@dataclass
class Charts:
    """The charts of a page and the data that they share.

    Attributes:
        specs: Vega-Lite by name.
        data: Rows by name, as ``{"columns": [...], "rows": [...]}``.
    """

    specs: dict[str, dict[str, Any]] = field(default_factory=dict)
    data: dict[str, dict[str, list]] = field(default_factory=dict)

    def source(self, name: str, frame: pd.DataFrame) -> alt.NamedData:
        """Keep a table under a name and return what a chart calls it."""
        self.data[name] = compact(frame)
        return alt.NamedData(name=name)

    def add(self, name: str, chart: Any, height: int = HEIGHT) -> str:
        """Keep a chart as wide as its place on the page, and return its name."""
        spec = chart.properties(width="container", height=height).to_dict()
        del spec["$schema"], spec["config"]  # the page has one version and one look
        spec["autosize"] = {"type": "fit-x", "contains": "padding"}
        self.specs[name] = spec
        return name


def compact(frame: pd.DataFrame) -> dict[str, list]:
    """A table as JSON can hold it: numbers rounded, what is missing as None.

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
    r"""JSON that may stand inside a script element: no text in it can end that element.

    Example:
        >>> print(as_script("</script><!--"))
        "\u003c/script\u003e\u003c!--"
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    signs = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}
    signs |= {"\u2028": "\\u2028", "\u2029": "\\u2029"}
    return text.translate(str.maketrans(signs))


def _coloured(channel: Any, methods: Sequence[str]) -> Any:
    """A channel in each method's colour, without a legend: the buttons are one."""
    known = scales(methods)
    scale = alt.Scale(domain=known["method"], range=known["colour"])
    return channel("method:N", scale=scale, legend=None)


def colour(methods: Sequence[str]) -> alt.Color:
    """The colour of each method, for lines."""
    return _coloured(alt.Color, methods)


def fill(methods: Sequence[str]) -> alt.Fill:
    """The same colour for the inside of markers."""
    return _coloured(alt.Fill, methods)


def stroke(methods: Sequence[str]) -> alt.Stroke:
    """The same colour for the outline of markers."""
    return _coloured(alt.Stroke, methods)


def shape(methods: Sequence[str]) -> alt.Shape:
    """The marker of each method."""
    known = scales(methods)
    scale = alt.Scale(domain=known["method"], range=known["outline"])
    return alt.Shape("method:N", scale=scale, legend=None)


def named_colour(column: str, looks: Mapping[str, str], columns: int = 2) -> alt.Color:
    """A colour for each of some words, with a legend below the chart."""
    scale = alt.Scale(domain=list(looks), range=list(looks.values()))
    legend = alt.Legend(orient="bottom", columns=columns, title=None, labelLimit=300)
    return alt.Color(f"{column}:N", scale=scale, legend=legend)


def tooltips(*names: str) -> list[alt.Tooltip]:
    """What hovering shows: columns that hold words already, under their own names."""
    return [alt.Tooltip(f"{name}:N", title=name) for name in names]


def ticks_at(values: Sequence[float]) -> alt.Axis:
    """An axis with these ticks, each written in full whatever lies between them."""
    return alt.Axis(values=list(values), labelExpr="format(datum.value, '~r')")


def root_kl(right: float) -> alt.X:
    """The horizontal axis of trade-offs, square roots of nats."""
    scale = alt.Scale(type="sqrt", domain=[0, right], nice=False)
    ticks = [tick for tick in (0, 0.1, 0.5, 1, 2, 3, 5, 8, 10, 15, 20, 30, 50) if tick <= right]
    return alt.X("kl:Q", scale=scale, title=KL_TITLE, axis=ticks_at(ticks))


def span(*values: pd.Series) -> alt.Scale:
    """A scale over all finite values of some columns, with a margin, whatever part is shown.

    A scale that follows its data warns on the console where there are none.

    Example:
        >>> span(pd.Series([0.0, 1.0, math.nan])).to_dict()["domain"]
        [-0.05, 1.05]
    """
    finite = pd.concat(values).dropna()
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    pad = 0.05 * max(high - low, 1e-6)
    return alt.Scale(domain=[float(low - pad), float(high + pad)], nice=False, zero=False)


def parameters() -> list[alt.Parameter]:
    """What the page's buttons and brushes set: hidden methods, and marked runs."""
    return [alt.param(name="hidden", value=[]), alt.param(name="marked", value=[])]


def measured(value: float, error: float = math.nan, unit: str = "") -> str:
    """A number with its standard error, as words.

    Example:
        >>> measured(0.67916, 0.00725), measured(1.5, unit="nats"), measured(math.nan)
        ('0.679 ± 0.007', '1.500 nats', '')
    """
    if not math.isfinite(value):
        return ""
    return f"{value:.3f}" + (f" ± {error:.3f}" if error > 0 else "") + (f" {unit}" if unit else "")

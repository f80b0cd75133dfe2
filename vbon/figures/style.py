"""Style of all figures: colour and marker of each method, fonts, scales and files.

No function uses pyplot, so drawing leaves no global state behind and needs no display.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from vbon.artifacts.tables import atomic_path, quoting
from vbon.methods.registry import declared

INK = "#222222"
"""Colour of axes, reference curves and notes."""

FAINT = 0.22
"""Opacity of background points."""

DPI = 200
"""Pixels per inch of the PNG files."""

_SETTINGS = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same on every machine
    "font.size": 8.5,
    "axes.labelsize": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "hatch.linewidth": 0.35,
    "pdf.fonttype": 42,  # TrueType, so that text stays text in a paper's PDF
    "svg.fonttype": "path",
    "svg.hashsalt": "vbon",  # element ids depend on content only
}


@dataclass(frozen=True)
class MethodStyle:
    """Look of a method in every figure, as its class declares it (:mod:`vbon.methods.base`)."""

    label: str
    colour: str
    marker: str
    dark_colour: str | None = None
    hollow: bool = False
    dashes: str | tuple = "-"
    order: float = float("inf")

    @property
    def text_colour(self) -> tuple[float, float, float]:
        """Darker shade of the colour, readable in small text on white."""
        return tuple(0.62 * part for part in to_rgb(self.colour))


# The paper's methods have Okabe and Ito's colours, which stay apart under the common colour
# blindnesses, chosen so that methods close to each other in the plane differ in luminance; in grey
# the shape of the marker carries the rest. No two of them share a shape; the reserve has others.
RESERVE_COLOURS = ("#882255", "#117733", "#999933", "#aa4499", "#661100")
_RESERVE_MARKERS = ("<", ">", "h", "d", "8", "H")


def method_styles(names: Iterable[str]) -> dict[str, MethodStyle]:
    """Style of each method as its class declares it, by the declared order, then by name.

    A method without a colour or marker takes the next ones of a reserve; one without a label has
    its name for one.

    Args:
        names: Names of methods, repeated or not, in any order.

    Returns:
        Styles in the order in which legends list them.

    Example:
        >>> {name: style.label for name, style in method_styles(["mine", "vbon", "ppo"]).items()}
        {'ppo': 'PPO', 'vbon': 'vBoN', 'mine': 'mine'}
    """
    looks = {name: declared(name) for name in sorted(set(names))}
    incomplete = [name for name, look in looks.items() if not {"colour", "marker"} <= look.keys()]
    for index, name in enumerate(incomplete):
        # 5 colours and 6 markers have no common period: 30 different pairs.
        colour = RESERVE_COLOURS[index % len(RESERVE_COLOURS)]
        marker = _RESERVE_MARKERS[index % len(_RESERVE_MARKERS)]
        looks[name] = {"colour": colour, "marker": marker, **looks[name]}
    styles = {name: MethodStyle(**{"label": name, **look}) for name, look in looks.items()}
    return dict(sorted(styles.items(), key=lambda item: item[1].order))


def marker_settings(style: MethodStyle) -> dict:
    """Marker settings shared by points and legend; a thin white rim separates touching points."""
    size = {"*": 12.5, "o": 5.0, "s": 4.6, "D": 4.2}.get(style.marker, 5.6)
    full = {"markerfacecolor": style.colour, "markeredgecolor": "white", "markeredgewidth": 0.4}
    inside = hollow(style) if style.hollow else full
    return {"marker": style.marker, "markersize": size, **inside}


def hollow(style: MethodStyle) -> dict:
    """Settings of a marker that only has an outline."""
    return {"markerfacecolor": "white", "markeredgecolor": style.colour, "markeredgewidth": 0.9}


@contextmanager
def drawing() -> Iterator[None]:
    """Draw with the project's settings, independent of the user's matplotlib configuration."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        yield


@contextmanager
def caveat(text: str) -> Iterator[None]:
    """Print ``text`` above every figure saved inside, unless it is empty."""
    _caveat.append(text)
    try:
        yield
    finally:
        _caveat.pop()


_caveat = [""]


@contextmanager
def saved_figure(size: tuple[float, float], stem: Path, rows: pd.DataFrame) -> Iterator[Figure]:
    """Yield an empty figure and save what is drawn on it: equal bytes for equal drawings.

    Each file replaces an older one only when it is complete.

    Args:
        size: Width and height in inches.
        stem: Path without suffix of the ``.pdf``, ``.svg``, ``.png`` and ``.csv`` to write; its
            folder is created if missing.
        rows: What is drawn, for the ``.csv`` in full precision.
    """
    with drawing():
        figure = Figure(figsize=size, dpi=DPI, layout="constrained")
        yield figure
        _save(figure, Path(stem))
    with atomic_path(f"{stem}.csv") as temporary:
        rows.to_csv(temporary, index=False, lineterminator="\n", quoting=quoting(rows))


def _save(figure: Figure, stem: Path) -> None:
    if _caveat[-1]:  # above the axes, where there is no legend
        title = "\n".join(filter(None, (figure.get_suptitle(), _caveat[-1])))
        figure.suptitle(title, size=8, color="#b2182b")
    dated = {"pdf": ("CreationDate", "ModDate"), "svg": ("Date",), "png": ("Software",)}
    for suffix, omitted in dated.items():
        path = stem.with_name(f"{stem.name}.{suffix}")  # a dot in the stem is part of the name
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=DPI, metadata=dict.fromkeys(omitted))


def square_root_axis(axes: Axes, largest: float) -> None:
    """Scale a non-negative horizontal axis by its square root, ticks included.

    Args:
        axes: Axes to change.
        largest: Largest value to be shown, positive.
    """
    # Both ends stay legible without a broken axis: on an axis to 30 nats, 0 to 6 gets 45 % of the
    # width. To leading order every gain over the reference grows as the square root of KL
    # (sqrt(KL / 6) for the frontier of the win rate), so curves leave the origin as straight lines
    # instead of hugging the vertical axis; a logarithmic axis could not show KL 0.
    axes.set_xscale("function", functions=(_signed_root, _signed_square))
    root = np.sqrt(largest)
    axes.set_xlim(-((0.03 * root) ** 2), (1.03 * root) ** 2)
    round_numbers = [0, 0.1, 0.5, 1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40, 50, 75, 100, 150, 200]
    ticks = [0.0]
    for value in round_numbers:
        if np.sqrt(value) - np.sqrt(ticks[-1]) > 0.075 * root and value <= largest * 1.02:
            ticks.append(value)
    axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


def _signed_root(values: Any) -> Any:
    """Odd square root; the axis has a left margin below 0, where the root must be defined."""
    values = np.asarray(values, dtype=np.float64)
    return np.sign(values) * np.sqrt(np.abs(values))


def _signed_square(values: Any) -> Any:
    """Inverse of the odd square root."""
    values = np.asarray(values, dtype=np.float64)
    return np.sign(values) * values**2

"""Methods on the page: colours, names and markers of the figures, by day and by night."""

from collections.abc import Iterable

import numpy as np
from matplotlib.colors import to_hex, to_rgb

from vbon.figures.style import MethodStyle, method_styles

DARK = {
    "#000000": "#f5f5f5",
    "#4d4d4d": "#c9c9c9",
    "#cc79a7": "#df95bf",
    "#d55e00": "#f2792b",
    "#009e73": "#1fc496",
    "#0072b2": "#3d9be9",
    "#56b4e9": "#9ad7fb",
    "#332288": "#a495f5",
    "#882255": "#d774a3",
    "#117733": "#4fb56f",
    "#aa4499": "#d47bc6",
    "#661100": "#d07a63",
}
"""Colours that would be too dim on a dark page, and what stands for them there."""

RAMP = ("#e69f00", "#2f86d6")
"""Ends of a scale of sizes, legible by day and by night."""

_CROSS = "M-1,-.35H-.35V-1H.35V-.35H1V.35H.35V1H-.35V.35H-1Z"
_X = "M-1,-.55L-.55,-1L0,-.45L.55,-1L1,-.55L.45,0L1,.55L.55,1L0,.45L-.55,1L-1,.55L-.45,0Z"
_STAR = "M0,-1.2L.27,-.37L1.14,-.37L.44,.14L.71,.97L0,.46L-.71,.97L-.44,.14L-1.14,-.37L-.27,-.37Z"
SHAPES = {
    "*": _STAR,
    "D": "M0,-1L1,0L0,1L-1,0Z",
    "d": "M0,-1L.65,0L0,1L-.65,0Z",
    "P": _CROSS,
    "s": "M-.8,-.8H.8V.8H-.8Z",
    "^": "M0,-1L1,.8H-1Z",
    "v": "M0,1L1,-.8H-1Z",
    "<": "M-1,0L.8,-1V1Z",
    ">": "M1,0L-.8,-1V1Z",
    "o": "M0,-.9A.9,.9,0,1,1,0,.9A.9,.9,0,1,1,0,-.9Z",
    "X": _X,
    "p": "M0,-1L.95,-.31L.59,.81L-.59,.81L-.95,-.31Z",
    "h": "M0,-1L.87,-.5V.5L0,1L-.87,.5V-.5Z",
    "H": "M-1,0L-.5,-.87H.5L1,0L.5,.87H-.5Z",
    "8": "M-.38,-.92H.38L.92,-.38V.38L.38,.92H-.38L-.92,.38V-.38Z",
}
"""Outline of each marker in a square from -1 to 1, as SVG paths, which Vega takes as well."""


def outline(style: MethodStyle) -> str:
    """The marker of a method as a path."""
    return SHAPES[style.marker]


def scales(methods: Iterable[str]) -> dict[str, list[str]]:
    """Names, labels, colours and outlines of methods, in the order of legends.

    Example:
        >>> scales(["ppo", "vbon"])["label"]
        ['PPO', 'vBoN']
    """
    styles = method_styles(methods)
    return {
        "method": list(styles),
        "label": [style.label for style in styles.values()],
        "colour": [style.colour for style in styles.values()],
        "outline": [outline(style) for style in styles.values()],
    }


def ramp(count: int) -> list[str]:
    """Colours at equal distances from one end of :data:`RAMP` to the other.

    Example:
        >>> ramp(2)
        ['#e69f00', '#2f86d6']
    """
    ends = np.array([to_rgb(end) for end in RAMP])
    shares = np.linspace(0, 1, count)[:, None]
    return [to_hex(colour) for colour in (1 - shares) * ends[0] + shares * ends[1]]

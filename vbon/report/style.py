"""Methods on the page: colours, names and markers of the figures, by day and by night."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.colors import to_hex, to_rgb

from vbon.figures.style import RESERVE_COLOURS, method_styles
from vbon.methods.registry import method_modules

DARK_PAPER = "#14171b"
"""Background of the dark page."""

RAMP = ("#e69f00", "#2f86d6")
"""Ends of a scale of sizes, legible by day and by night."""

SHAPES = {
    "*": "M0,-1.2L.27,-.37L1.14,-.37L.44,.14L.71,.97L0,.46L-.71,.97L-.44,.14L-1.14,-.37L-.27,-.37Z",
    "D": "M0,-1L1,0L0,1L-1,0Z",
    "d": "M0,-1L.65,0L0,1L-.65,0Z",
    "P": "M-1,-.35H-.35V-1H.35V-.35H1V.35H.35V1H-.35V.35H-1Z",
    "s": "M-.8,-.8H.8V.8H-.8Z",
    "^": "M0,-1L1,.8H-1Z",
    "v": "M0,1L1,-.8H-1Z",
    "<": "M-1,0L.8,-1V1Z",
    ">": "M1,0L-.8,-1V1Z",
    "o": "M0,-.9A.9,.9,0,1,1,0,.9A.9,.9,0,1,1,0,-.9Z",
    "X": "M-1,-.55L-.55,-1L0,-.45L.55,-1L1,-.55L.45,0L1,.55L.55,1L0,.45L-.55,1L-1,.55L-.45,0Z",
    "p": "M0,-1L.95,-.31L.59,.81L-.59,.81L-.95,-.31Z",
    "h": "M0,-1L.87,-.5V.5L0,1L-.87,.5V-.5Z",
    "H": "M-1,0L-.5,-.87H.5L1,0L.5,.87H-.5Z",
    "8": "M-.38,-.92H.38L.92,-.38V.38L.38,.92H-.38L-.92,.38V-.38Z",
}
"""Outline of each marker in a square from -1 to 1, as SVG paths, which Vega takes as well."""


def scales(methods: Iterable[str]) -> dict[str, list[Any]]:
    """Names, labels, colours, outlines and hollowness of methods, in the order of legends.

    Example:
        >>> scales(["ppo", "vbon"])["label"]
        ['PPO', 'vBoN']
    """
    styles = method_styles(methods)
    return {
        "method": list(styles),
        "label": [style.label for style in styles.values()],
        "colour": [style.colour for style in styles.values()],
        "outline": [SHAPES[style.marker] for style in styles.values()],
        "hollow": [style.hollow for style in styles.values()],
    }


def labels(methods: Iterable[str]) -> dict[str, str]:
    """Label of each method, in the order of legends."""
    return {name: style.label for name, style in method_styles(methods).items()}


def contrast(first: str, second: str) -> float:
    """Contrast of two colours as WCAG 2 defines it, from 1 to 21.

    Example:
        >>> round(contrast("#000000", "#ffffff"))
        21
    """
    bright, dim = sorted(map(_luminance, (first, second)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def _luminance(colour: str) -> float:
    parts = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in to_rgb(colour))
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


def _dark(colour: str) -> str:
    """The colour, lightened until it is clear on the dark page."""
    steps = np.linspace(0, 1, 51)[:, None]
    lightened = map(to_hex, (1 - steps) * to_rgb(colour) + steps)
    return next(light for light in lightened if contrast(light, DARK_PAPER) >= 4.5)


DARK = {colour: _dark(colour) for colour in RESERVE_COLOURS} | {
    style.colour: style.dark_colour or _dark(style.colour)
    for style in method_styles(method_modules()).values()
}
"""Colour on a dark page that takes the place of each colour of a method."""

"""Short labels beside points, placed so that they cover neither points nor each other."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox, BboxBase
from numpy.typing import NDArray

# Direction from point to label (right, up), in order of preference.
_DIRECTIONS = [(1, -1), (1, 1), (-1, 1), (-1, -1), (0, -1), (0, 1), (1, 0), (-1, 0)]
_GAPS = (4.0, 9.0, 15.0)  # points between a marker's centre and the label's nearest corner


@dataclass(frozen=True)
class Label:
    """A text that belongs to a point (x, y) in data coordinates."""

    text: str
    x: float
    y: float
    colour: Any


def place_labels(axes: Axes, labels: list[Label], obstacles: NDArray[np.float64]) -> list[Label]:
    """Write labels beside their points, each at the first free place of a fixed list.

    A label that fits nowhere is omitted: a missing label loses information, an overlapping one
    misleads.

    Args:
        axes: Axes with final limits and layout.
        labels: Labels to place, the most important first.
        obstacles: Points in data coordinates that no label may cover, shape (points, 2).

    Returns:
        The labels that were written.
    """
    renderer, unit = FigureCanvasAgg(axes.figure).get_renderer(), axes.figure.dpi / 72
    frame = axes.get_window_extent(renderer)
    blocked = axes.transData.transform(obstacles)
    taken: list[Bbox] = []
    written = []
    for label in labels:
        x, y = axes.transData.transform((label.x, label.y))
        text = axes.text(label.x, label.y, label.text, size=7.0, color=label.colour, zorder=9)
        extent = text.get_window_extent(renderer)
        boxes = _places(x, y, extent, unit)
        inside = (b for b in boxes if frame.contains(b.x0, b.y0) and frame.contains(b.x1, b.y1))
        free = (box for box in inside if not box.count_overlaps(taken))
        # No closer than the radius of a marker to any point.
        clear = (box for box in free if not box.padded(2.5 * unit).count_contains(blocked))
        place = next(clear, None)
        if place is None:
            text.remove()
            continue
        taken.append(place)
        text.set_position(axes.transData.inverted().transform((place.x0, place.y0)))
        text.set_verticalalignment("bottom")
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.4})
        near = np.clip((x, y), (place.x0, place.y0), (place.x1, place.y1))
        leader = axes.transData.inverted().transform([(x, y), near])
        axes.plot(*leader.T, color=label.colour, linewidth=0.45, zorder=4.5)
        written.append(label)
    return written


def _places(x: float, y: float, extent: BboxBase, unit: float) -> Iterator[Bbox]:
    """Boxes of a text's size beside (x, y), in pixels, in order of preference."""
    width, height = extent.width, extent.height
    for gap in _GAPS:
        for right, up in _DIRECTIONS:
            centre_x = x + right * (gap * unit + width / 2)
            centre_y = y + up * (gap * unit * (0.4 if right else 1) + height / 2)
            yield Bbox.from_bounds(centre_x - width / 2, centre_y - height / 2, width, height)

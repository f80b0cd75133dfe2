"""Distinct styles, the square-root axis, and labels that cover nothing."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from vbon.figures.labels import Label, place_labels
from vbon.figures.style import drawing, method_styles, square_root_axis
from vbon.methods.registry import MARKERS, declared, method_modules

STYLES = method_styles(method_modules())


def luminance(colour):
    """Relative luminance of an sRGB colour, which a grey print preserves."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def test_no_two_methods_look_alike():
    """Those with a place in legends share neither marker nor colour with any other."""
    looks = [(style.marker, style.colour) for style in STYLES.values()]
    assert len(set(looks)) == len(STYLES)
    for style in STYLES.values():
        if np.isfinite(style.order):
            assert sum(style.marker == marker for marker, _ in looks) == 1
            assert sum(style.colour == colour for _, colour in looks) == 1


def test_legends_begin_with_the_reference_and_end_with_methods_without_an_order():
    names = "reference best_of_n bon_sft ppo dpo bonbon vbon vbon_l vbon_l1 "
    names += "best_of_poisson bond ipo qrpo qrpo_identity rloo soft_best_of_n vbon_rloo winrate"
    assert list(STYLES) == names.split()


def test_the_papers_methods_differ_in_grey():
    """Luminances of neighbours differ by at least 0.03."""
    shades = sorted(luminance(STYLES[name].colour) for name in ("ppo", "dpo", "bonbon", "vbon"))
    assert min(np.diff(shades)) > 0.03


def test_small_letters_in_every_colour_are_readable_on_white():
    """Contrast of at least 4.5, the usual bound for small text."""
    for style in method_styles([*STYLES, *"abcdef"]).values():
        assert 1.05 / (luminance(style.text_colour) + 0.05) >= 4.5


def test_methods_without_a_style_get_one_of_their_own():
    names = [f"method{i:02d}" for i in range(30)]
    styles = method_styles([*names, "vbon"])
    assert list(styles) == ["vbon", *names]
    assert [styles[name].label for name in names] == names
    looks = {(style.colour, style.marker) for style in styles.values()}
    assert len(looks) == 31
    taken = {look["marker"] for look in map(declared, STYLES) if "marker" in look}
    assert not {styles[name].marker for name in names} & taken
    assert {style.marker for style in styles.values()} | taken <= set(MARKERS)


@pytest.mark.parametrize("largest", [0.3, 1.0, 6.0, 30.0, 100.0])
def test_square_root_axis(largest):
    with drawing():
        axes = Figure().add_subplot()
        square_root_axis(axes, largest)
        left, right = axes.get_xlim()
        assert left < 0 < largest < right
        pixels = axes.transData.transform([(x, 0) for x in (0, largest / 4, largest)])[:, 0]
        assert pixels[1] - pixels[0] == pytest.approx(pixels[2] - pixels[1])  # sqrt(1/4) = 1/2
        ticks = axes.get_xticks()
        assert ticks[0] == 0
        assert len(ticks) >= 2
        assert [float(text.get_text()) for text in axes.get_xticklabels()] == list(ticks)
        assert min(np.diff(axes.transData.transform([(t, 0) for t in ticks])[:, 0])) > 30


def labelled_axes(labels, obstacles):
    with drawing():
        figure = Figure(figsize=(4, 3), dpi=200)
        axes = figure.add_subplot()
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.plot(*obstacles.T, "o")
        written = place_labels(axes, labels, obstacles)
        figure.draw_without_rendering()
        texts = [text for text in axes.texts if text.get_text()]
        return axes, written, [text.get_window_extent() for text in texts]


def test_labels_cover_neither_points_nor_each_other_nor_leave_the_axes():
    rng = np.random.default_rng(0)
    obstacles = np.concatenate([rng.uniform(size=(60, 2)), [[0, 0], [1, 1], [0.5, 0.5]]])
    labels = [Label(f"N={i}", *obstacles[-i], "black") for i in range(1, 31)]
    axes, written, boxes = labelled_axes(labels, obstacles)
    assert len(written) == len(boxes) > 10
    frame, pixels = axes.get_window_extent(), axes.transData.transform(obstacles)
    for index, box in enumerate(boxes):
        assert not box.count_overlaps(boxes[:index])
        assert not any(box.contains(x, y) for x, y in pixels)
        assert frame.x0 <= box.x0
        assert box.x1 <= frame.x1
        assert frame.y0 <= box.y0
        assert box.y1 <= frame.y1


def test_labels_without_room_are_omitted_the_least_important_first():
    crowd = np.stack(np.meshgrid(*[np.linspace(0, 1, 60)] * 2), axis=-1).reshape(-1, 2)
    assert labelled_axes([Label("N=2", 0.5, 0.5, "black")], crowd)[1:] == ([], [])
    same = [Label(f"N={i}", 0.5, 0.5, "black") for i in range(60)]
    written = labelled_axes(same, np.array([[0.5, 0.5]]))[1]
    assert 0 < len(written) < 60
    assert written[0] is same[0]

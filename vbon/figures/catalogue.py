"""Every figure by name: what the workflow can draw."""

from functools import partial

from vbon.figures.tradeoff import figure2

FIGURES = {
    "figure2a": partial(figure2, axis="win_rate"),
    "figure2b": partial(figure2, axis="reward_prob"),
}
"""Functions of the points table and an output path without suffix."""

"""Figures of the paper, drawn from tables only; no model library is imported here."""

from vbon.figures.tradeoff import figure2, figure6

__all__ = ["figure2", "figure6"]

"""Figures of the paper, drawn from tables only; no model library is imported here."""

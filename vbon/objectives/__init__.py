"""Closed forms, objectives and losses as pure float64 functions."""

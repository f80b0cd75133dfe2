"""Measure policies on test prompts."""

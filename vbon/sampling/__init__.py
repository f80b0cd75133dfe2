"""Sampling backends behind one function."""

from vbon.sampling.transformers import sample

__all__ = ["sample"]

"""Sampling backends behind one function."""

from vbon.sampling.decode import sample

__all__ = ["sample"]

"""Sampling of responses from language models."""

from vbon.sampling.decode import sample

__all__ = ["sample"]

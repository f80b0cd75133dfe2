"""A reproducible benchmark of Variational Best-of-N Alignment (arXiv:2407.06057)."""

__version__ = "0.1.0"

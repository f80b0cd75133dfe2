"""The checker of annotations that the tests run the package under (``addopts`` in pyproject)."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""Beartype under which an int is a float, as the typing standard says."""

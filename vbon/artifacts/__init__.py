"""Parquet artifacts: the only thing that phases exchange."""

from vbon.artifacts.schemas import SCHEMAS
from vbon.artifacts.tables import read_provenance, read_table, write_table

__all__ = ["SCHEMAS", "read_provenance", "read_table", "write_table"]

"""Parsers of the verbs for people."""

import argparse


def parser(verb: str, summary: str | None) -> argparse.ArgumentParser:
    """A parser for one verb."""
    return argparse.ArgumentParser(prog=f"vbon {verb}", description=summary)


def config_parser(verb: str, summary: str | None) -> argparse.ArgumentParser:
    """A parser for a verb that reads a configuration: ``config.yaml`` and overlays."""
    options = parser(verb, summary)
    options.add_argument("config", nargs="*", default=[], help="overlays on config.yaml")
    options.add_argument("--configfile", nargs="+", default=[], help="the same, as in Snakemake")
    return options

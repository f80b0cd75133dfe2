"""Options that verbs share."""

import argparse
import json
from typing import Any


def parser(verb: str, summary: str) -> argparse.ArgumentParser:
    """A parser for one verb."""
    return argparse.ArgumentParser(prog=f"vbon {verb}", description=summary)


def settings(text: str) -> Any:
    """A JSON value on the command line."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON ({error}): {text!r}") from error

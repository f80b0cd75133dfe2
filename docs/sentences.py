"""The sentences with results in README.md and docs/, from templates and the published tables.

``sentences.yaml`` has a template for each marked block of a page. In a template,
``{TABLE COLUMN=VALUE ... : COLUMN STATISTIC FORMAT}`` selects rows of ``published/TABLE.csv`` and
prints a column: of one row, or the ``mean``, ``sd``, ``min`` or ``max`` of several. The column
``interval`` prints ``value (low to high)``, ``excess_kl`` is KL beyond the least for that win rate.
Templates are true for any verdict and any numbers, so that ``make sentences`` suffices after new
results. Run as a script, this module rewrites the blocks.
"""

import re
import shlex
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from vbon.objectives.frontier import kl_frontier

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"(<!-- results: ([\w-]+) -->\n).*?(<!-- end of results -->)", re.DOTALL)
PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
STATISTICS = ("mean", "sd", "min", "max")


def templates() -> dict[str, dict[str, str]]:
    """Templates by page and block."""
    return yaml.safe_load((ROOT / "docs/sentences.yaml").read_text())


def filled(page: str) -> str:
    """A page whose blocks are made of the published tables.

    Raises:
        LookupError: If a block has no template, or a placeholder not one value; it is quoted.
    """
    blocks = templates()[page]
    text = (ROOT / page).read_text()
    names = [name for _, name, _ in BLOCK.findall(text)]
    if names != list(blocks):
        raise LookupError(f"{page}: it has the blocks {names}, docs/sentences.yaml {list(blocks)}")
    return BLOCK.sub(lambda match: match[1] + render(blocks[match[2]]) + match[3], text)


def render(template: str) -> str:
    """A template with the values of its placeholders."""
    return PLACEHOLDER.sub(lambda match: value_of(match[1]), template)


def value_of(placeholder: str) -> str:
    """The value of one placeholder, as a page prints it."""
    selection, _, output = placeholder.partition(" : ")
    name, *filters = shlex.split(selection)
    column, *rest = shlex.split(output)
    statistic = rest.pop(0) if rest and rest[0] in STATISTICS else ""
    rows = table(name)
    for key, _, value in (word.partition("=") for word in filters):
        numeric = pd.api.types.is_numeric_dtype(rows[key])
        rows = rows[np.isclose(rows[key], float(value)) if numeric else rows[key] == value]
    if rows.empty or (len(rows) > 1 and not statistic):
        raise LookupError(f"{{{placeholder}}}: {len(rows)} rows of published/{name}.csv")
    if column == "interval":
        value, low, high = (printed(rows[end].item(), *rest) for end in ("value", "low", "high"))
        return f"{value} ({low} to {high})"
    values = rows[column]
    if statistic:
        return printed(getattr(values, {"sd": "std"}.get(statistic, statistic))(), *rest)
    return printed(values.item(), *rest)


@cache
def table(name: str) -> pd.DataFrame:
    """A published table."""
    frame = pd.read_csv(ROOT / f"published/{name}.csv")
    if name.endswith("/points"):
        frame["excess_kl"] = frame["kl"] - kl_frontier(frame["win_rate"].to_numpy())
    return frame


def printed(value: object, spec: str = "") -> str:
    """A value by a format, numbers as the pages write them.

    Example:
        >>> [printed(-0.047, ".3f"), printed(0.029, ".1%"), printed("undecided")]
        ['−.047', '2.9 %', 'undecided']
    """
    text = format(value, spec)
    if not spec:
        return text
    return re.sub(r"^([+−]?)0(?=\.)", r"\1", text.replace("-", "−").replace("%", " %"))


if __name__ == "__main__":
    for name in templates():
        (ROOT / name).write_text(filled(name))

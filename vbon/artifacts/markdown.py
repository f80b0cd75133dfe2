"""Markdown tables of the CSV files that commands write."""

import csv
import re
from pathlib import Path

_DECIMAL = re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+(?=e))(e[+-]?\d+)?|[+-]?(inf|nan)", re.IGNORECASE)
_WHOLE = re.compile(r"[+-]?\d+")
_LINE_END = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
TEXTS = ("prompt", "response", "summary", "post", "text")
"""Columns of texts of models and data, whose cells are not numbers even if they look like some."""
csv.field_size_limit(2**31 - 1)  # of a text: by default 131,072 characters


def markdown_table(path: str | Path) -> str:
    r"""Markdown table of a CSV file, decimal numbers to four digits.

    Whole numbers and words are shown unchanged, missing numbers as ``nan``. A column ``prompt``
    with the same text in every row is quoted above the table instead.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "table.csv"
        >>> _ = path.write_text("prompt,method,kl,n\nWhy?,ppo,0.123456,\nWhy?,vbon,1e-05,4\n")
        >>> print(markdown_table(path), end="")
        > Why?
        <BLANKLINE>
        | method | kl | n |
        | --- | --- | --- |
        | ppo | 0.1235 | nan |
        | vbon | 1e-05 | 4 |
    """
    prompt, header, rows = shown_cells(path)
    lines = map(_literal, _LINE_END.split(prompt))
    quoted = "".join(f"> {line}".rstrip() + "\n" for line in lines) + "\n"
    body = [header, ["---"] * len(header), *rows]
    table = "".join(f"| {' | '.join(map(_escaped, row))} |\n" for row in body)
    return (quoted if prompt else "") + table


def shown_cells(path: str | Path) -> tuple[str, list[str], list[list[str]]]:
    r"""Cells of a CSV file as tables show them, decimal numbers to four digits.

    Returns:
        The prompt if a column ``prompt`` has the same text in every row (that column is then
        removed), else an empty string; the header; and the rows.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "table.csv"
        >>> _ = path.write_text("method,kl\nppo,0.123456\n")
        >>> shown_cells(path)
        ('', ['method', 'kl'], [['ppo', '0.1235']])
    """
    with open(path, newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    columns = dict(zip(header, zip(*rows, strict=True), strict=False)) if rows else {}
    prompts, prompt = columns.get("prompt", ()), ""
    if len(set(prompts)) == 1:
        prompt = prompts[0]
        del columns["prompt"]
        header = list(columns)
    kept = [cells if name in TEXTS else _shown(cells) for name, cells in columns.items()]
    shown = zip(*kept, strict=True)
    return prompt, header, [list(row) for row in shown]


def _shown(cells: tuple[str, ...]) -> list[str]:
    """Cells of a column as printed; an empty cell is ``nan`` only in a column of numbers."""
    filled = [cell for cell in cells if cell]
    numbers = all(_DECIMAL.fullmatch(cell) or _WHOLE.fullmatch(cell) for cell in filled)
    missing = "nan" if filled and numbers else ""
    return [f"{float(c):.4g}" if _DECIMAL.fullmatch(c) else c or missing for c in cells]


def _literal(text: str) -> str:
    """A text in which ``<s>`` is no element of HTML and ``&lt;`` no character."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _escaped(text: str) -> str:
    """A text as a cell."""
    return _LINE_END.sub(" ", _literal(text).replace("|", "\\|"))

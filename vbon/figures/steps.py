"""Steps that draw figures and render tables, from tables alone."""

from pathlib import Path

import pandas as pd

from vbon.artifacts.steps import Input, Job, Named, Output, step
from vbon.artifacts.tables import atomic_path, read_either, write_card


@step(is_light=True)
def figure(name: str, tables: Named, stem: str, job: Job) -> None:
    """Draw one figure as PDF, SVG and PNG, with what it shows as CSV.

    Args:
        name: One of :data:`vbon.figures.catalogue.FIGURES`.
        tables: Tables by the names that the figure knows.
        stem: Path without suffix.
        job: Of the call.
    """
    from vbon.figures.catalogue import FIGURES
    from vbon.figures.style import caveat

    frames = {key: read_either(path) for key, path in tables.items()}
    path = Path(stem)
    path.parent.mkdir(parents=True, exist_ok=True)
    with caveat(_caveat(frames.pop("missing", pd.DataFrame()))):
        FIGURES[name](frames, path)
    write_card(path.with_name(f"{path.name}.csv"), job.provenance(stem=None))


def _caveat(missing: pd.DataFrame) -> str:
    """Line about the runs that a figure does not show."""
    if missing.empty:
        return ""
    planned = missing["planned"].iloc[0]
    return f"partial: {len(missing)} of {planned} runs are missing (tables/missing.md)"


@step(is_light=True)
def render(csv: Input, output: Output) -> None:
    """Render a table as Markdown."""
    from vbon.artifacts.markdown import markdown_table

    with atomic_path(output) as temporary:
        temporary.write_text(markdown_table(csv))

"""The step that writes the page of all results."""

from pathlib import Path

from vbon.artifacts.steps import Named, Output, step
from vbon.artifacts.tables import atomic_path


@step(is_light=True)
def report(tables: Named, missing: list[str], output: Output) -> None:
    """Write the page that shows all results, from tables and drawn figures alone.

    Args:
        tables: ``{task}/{name}``: points, tables, and what figures draw.
        missing: Files that the page would show and that do not exist.
        output: The page.
    """
    from vbon.report.page import render
    from vbon.report.sources import tasks_of

    page = render(tasks_of(tables), missing)
    with atomic_path(Path(output)) as temporary:
        temporary.write_text(page, encoding="utf-8")

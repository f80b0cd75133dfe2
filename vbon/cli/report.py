"""The verb ``report``: the page that shows all results."""

from pathlib import Path

from vbon.artifacts.tables import atomic_path
from vbon.cli.options import pairs, parser


def report(arguments: list[str]) -> None:
    """Write the page that shows all results, from tables and drawn figures alone."""
    from vbon.report.page import render
    from vbon.report.sources import tasks_of

    options = parser("report", report.__doc__)
    options.add_argument(
        "--tables", nargs="+", required=True, help="task/name=path: points, tables/*, figures/*.csv"
    )
    options.add_argument("--missing", nargs="*", default=[], help="files that there are not")
    options.add_argument("--output", required=True, help=".html")
    args = options.parse_args(arguments)
    page = render(tasks_of(pairs(args.tables)), args.missing)
    with atomic_path(Path(args.output)) as temporary:
        temporary.write_text(page, encoding="utf-8")

"""The verb ``claims``: the paper's claims, tested. Needs no torch."""

from vbon.artifacts.fingerprint import provenance
from vbon.artifacts.tables import read_either, write_csv
from vbon.cli.options import pairs, parser

GROUPS = {
    "sentiment": ("tradeoff", "draws", "cost"),
    "summarization": ("summaries",),
    "enumerable": ("invariance",),
}
"""Groups of claims that are about each task."""


def claims(arguments: list[str]) -> None:
    """Test the paper's claims on a task's tables: per claim a row with an interval and a verdict.

    A claim whose table is not given is undecided, and its note says what is missing.
    """
    from vbon.analysis.claims import claims_table

    options = parser("claims", claims.__doc__)
    options.add_argument("--task", required=True)
    options.add_argument("--tables", nargs="*", default=[], help="name=path, .parquet or .csv")
    options.add_argument("--output", required=True, help=".csv")
    args = options.parse_args(arguments)
    paths = pairs(args.tables)
    tables = {name: read_either(path) for name, path in paths.items()}
    card = provenance({"task": args.task}, paths, ("vbon.analysis.claims",))
    write_csv(args.output, claims_table(GROUPS.get(args.task, ()), tables), card)

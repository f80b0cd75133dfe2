"""The verb ``claims``: what the paper says, tested. Needs no torch."""

from vbon.artifacts.fingerprint import provenance
from vbon.artifacts.tables import read_either, write_csv
from vbon.cli.options import pairs, parser


def claims(arguments: list[str]) -> None:
    """Test the paper's claims on a task's tables: one row a claim, with an interval and a verdict.

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
    made = provenance({"task": args.task}, paths, ("vbon.analysis.claims",))
    write_csv(args.output, claims_table(args.task, tables), made)

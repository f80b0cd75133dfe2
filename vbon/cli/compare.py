"""The verb ``compare``: two results folders, before and after a change or of two machines."""

from pathlib import Path

from vbon.artifacts.tables import atomic_path
from vbon.cli.options import parser


def compare(arguments: list[str]) -> None:
    """Compare two results folders and mark differences beyond noise.

    A and B contain `{task}/points.csv`, as `results` and `published` do. Runs are paired by method,
    setting and seed; noise is estimated from prompts and training seeds; at most 5 % of all marks
    are false (docs/reference: vbon.analysis.compare).
    """
    from vbon.analysis.differences import differences

    options = parser("compare", compare.__doc__)
    options.add_argument("a", type=Path, metavar="A")
    options.add_argument("b", type=Path, metavar="B")
    options.add_argument("--all", action="store_true", help="print every row, not only marked ones")
    options.add_argument("--output", help="every row, .csv")
    options.add_argument(
        "--fail-on-difference",
        action="store_true",
        help="exit code 1 if a row is marked, or a run is missing or diverged in one of the two",
    )
    args = options.parse_args(arguments)
    lines, table, is_different = differences(args.a, args.b, args.all)
    print("\n".join(lines))
    if args.output:
        with atomic_path(args.output) as temporary:
            table.to_csv(temporary, index=False)
    if args.fail_on_difference and is_different:
        raise SystemExit(1)

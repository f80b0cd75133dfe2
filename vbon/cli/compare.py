"""Verbs for two results folders: ``compare``, and ``verdicts`` of two data seeds."""

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


def verdicts(arguments: list[str]) -> None:
    """Print the claims of two results folders side by side, such as those of two data seeds.

    The last column says if a claim holds in both: `yes` if both verdicts are *supported*, `no` if
    one is *not supported*, otherwise `undecided`.
    """
    from vbon.analysis.differences import both_verdicts

    options = parser("verdicts", verdicts.__doc__)
    options.add_argument("a", type=Path, metavar="A")
    options.add_argument("b", type=Path, metavar="B")
    options.add_argument("--output", help="also write the table, .csv")
    args = options.parse_args(arguments)
    table = both_verdicts(args.a, args.b)
    tasks = [{path.parts[-3] for path in f.glob("*/tables/claims.csv")} for f in (args.a, args.b)]
    if args.output:
        with atomic_path(args.output) as temporary:
            table.to_csv(temporary, index=False)
    shown = table[["task", "claim", "verdict_a", "verdict_b", "holds"]]
    names = [*shown.columns[:2], f"in {args.a}", f"in {args.b}", "holds in both"]
    print(shown.set_axis(names, axis=1).to_string(index=False))
    count = (table["holds"] == "yes").sum()
    alone = sorted(tasks[0] ^ tasks[1])
    rest = f"; only in one folder: {', '.join(alone)}" if alone else ""
    print(f"{count} of {len(table)} claims hold in both{rest}")

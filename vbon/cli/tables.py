"""Verbs that gather and draw: ``aggregate``, ``pareto``, ``metrics``, ``figure``."""

from pathlib import Path
from typing import Any

import pandas as pd

from vbon.artifacts import SCHEMAS, read_table, write_table
from vbon.artifacts.fingerprint import digest, provenance
from vbon.artifacts.tables import (
    atomic_path,
    read_either,
    read_record,
    rebuilding,
    write_card,
    write_csv,
    write_json,
)
from vbon.cli.comparison import records
from vbon.cli.options import pairs, parser, settings
from vbon.errors import ArtifactError


def aggregate(arguments: list[str]) -> None:
    """Gather the points and costs of all runs of a task."""
    from vbon.evaluation.points import Measurement, cost_of, points_of

    options = parser("aggregate", aggregate.__doc__)
    options.add_argument(
        "--runs", nargs="+", required=True, help="folder=hash of the spec, in table order"
    )
    options.add_argument("--samples", required=True, help="of the training prompts")
    options.add_argument("--prompts", required=True, help="test prompts")
    options.add_argument("--rewards", nargs="+", required=True, help="of test prompts, name=path")
    options.add_argument("--seconds", nargs="+", required=True, help="of the training shards")
    options.add_argument("--settings", type=settings, required=True)
    options.add_argument("--points", required=True, help="output")
    options.add_argument("--costs", required=True, help="output")
    args = options.parse_args(arguments)
    rewards = pairs(args.rewards)
    measurement = Measurement.load(args.samples, args.prompts, rewards, args.seconds, args.settings)
    points, costs = [], []
    for folder, spec in pairs(args.runs).items():
        record = _record_of(folder, spec)
        points += points_of(record, Path(folder) / "responses", measurement)
        costs.append(cost_of(record, measurement))
    inputs = {"samples": args.samples, "prompts": args.prompts, **rewards}
    for name, path in records(pairs(args.runs)).items():
        responses = Path(path).with_name("responses")  # a run that diverged has none
        inputs |= {name: path} | ({f"{name} responses": responses} if responses.exists() else {})
    made = provenance(args.settings, inputs, ("vbon.evaluation.points",))
    for output, rows, schema in ((args.points, points, "points"), (args.costs, costs, "costs")):
        frame = pd.DataFrame(rows)
        write_both(output, frame, schema, made)


def _record_of(folder: str, spec: str) -> dict[str, Any]:
    """The record of a run, which must be the run that the config asks for."""
    record = read_record(f"{folder}/run.json")
    if digest(record["spec"]) != spec:
        raise ArtifactError(
            f"{folder}/run.json: its spec is not the one that the config gives this run; see "
            f"`vbon describe {folder}`, then train it as configured: {rebuilding()}"
        )
    return record


def write_both(output: str, frame: pd.DataFrame, schema: str, made: dict[str, Any]) -> None:
    """Write a table as parquet, and as CSV beside it with the columns in the same order."""
    columns = [*SCHEMAS[schema].columns, *frame.columns.difference(SCHEMAS[schema].columns)]
    missing = frame.columns.symmetric_difference(columns)
    if len(missing):
        raise ArtifactError(f"{output}: column {missing[0]!r} was not computed")
    write_table(output, frame[columns], schema, made)
    with atomic_path(Path(output).with_suffix(".csv")) as temporary:
        frame[columns].to_csv(temporary, index=False)


def missing(arguments: list[str]) -> None:
    """List the runs that were asked for and that the tables of a partial sweep lack."""
    options = parser("missing", missing.__doc__)
    options.add_argument("--planned", type=int, required=True, help="runs that were asked for")
    options.add_argument("--folders", nargs="*", default=[], help="of the runs that are missing")
    options.add_argument("--output", required=True, help=".csv")
    args = options.parse_args(arguments)
    names = ("method", "setting", "seed")
    rows = [dict(zip(names, Path(folder).parts[-3:], strict=True)) for folder in args.folders]
    table = pd.DataFrame(rows, columns=names).assign(folder=args.folders, planned=args.planned)
    table["seed"] = table["seed"].str.removeprefix("seed")
    settings = {"planned": args.planned, "missing": args.folders}
    write_csv(args.output, table, provenance(settings, {}, ("vbon.artifacts.tables",)))


def pareto(arguments: list[str]) -> None:
    """Find each method's share of the Pareto fronts and its hypervolume, with intervals.

    Points of several temperatures or domains have no common front: their table has no rows.
    """
    from vbon.analysis.pareto import pareto_table

    options = parser("pareto", pareto.__doc__)
    options.add_argument("--points", required=True)
    options.add_argument("--bootstrap", type=int, required=True)
    options.add_argument("--seed", type=int, required=True)
    options.add_argument("--output", required=True)
    args = options.parse_args(arguments)
    points = read_table(args.points, "points")
    if points.drop_duplicates(["temperature", "domain"]).shape[0] > 1:
        table = pd.DataFrame(columns=list(SCHEMAS["pareto"].columns))  # no plane that all are in
    else:
        table = pareto_table(points, args.seed, args.bootstrap)
    made = provenance(
        {"seed": args.seed, "bootstrap": args.bootstrap},
        {"points": args.points},
        ("vbon.analysis.pareto",),
    )
    write_both(args.output, table, "pareto", made)


def metrics(arguments: list[str]) -> None:
    """Gather a few numbers a method for ``dvc metrics``."""
    from vbon.analysis.headline import headline

    options = parser("metrics", metrics.__doc__)
    options.add_argument("--points", required=True)
    options.add_argument("--pareto", required=True)
    options.add_argument("--output", required=True, help=".json")
    args = options.parse_args(arguments)
    tables = (read_table(getattr(args, name), name) for name in ("points", "pareto"))
    write_json(args.output, headline(*tables))


def figure(arguments: list[str]) -> None:
    """Draw one figure as PDF, SVG and PNG, with what it shows as CSV."""
    from vbon.figures.catalogue import FIGURES
    from vbon.figures.style import caveat

    options = parser("figure", figure.__doc__)
    options.add_argument("--name", choices=sorted(FIGURES), required=True)
    options.add_argument("--tables", nargs="+", required=True, help="name=path, .parquet or .csv")
    options.add_argument("--output", required=True, help="path without suffix")
    args = options.parse_args(arguments)
    tables = {name: read_either(path) for name, path in pairs(args.tables).items()}
    stem = Path(args.output)
    stem.parent.mkdir(parents=True, exist_ok=True)
    lacking = tables.pop("missing", pd.DataFrame())
    with caveat(_lacking(lacking)):
        FIGURES[args.name](tables, stem)
    made = provenance({"name": args.name}, pairs(args.tables), ("vbon.figures.catalogue",))
    write_card(stem.with_name(f"{stem.name}.csv"), made)


def _lacking(table: pd.DataFrame) -> str:
    """What a figure says of the runs that it does not show."""
    if table.empty:
        return ""
    planned = table["planned"].iloc[0]
    return f"partial: {len(table)} of {planned} runs are missing (tables/missing.md)"

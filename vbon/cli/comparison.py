"""Verbs that make the tables of the comparison. None needs torch."""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from vbon.artifacts import read_table
from vbon.artifacts.fingerprint import provenance
from vbon.artifacts.tables import read_record, write_csv
from vbon.cli.options import parser


def matched(arguments: list[str]) -> None:
    """Compare methods at equal KL: values at given budgets, and bands of attainment curves."""
    from vbon.analysis.attainment import attainment_bands, matched_table

    options = _resampling(parser("matched", matched.__doc__))
    options.add_argument("--bands", required=True, help="output, .csv")
    args = options.parse_args(arguments)
    points = read_table(args.points, "points")
    made = _resampled(args, {"points": args.points}, "vbon.analysis.attainment")
    write_csv(args.output, matched_table(points, args.seed, args.bootstrap), made)
    write_csv(args.bands, attainment_bands(points, args.seed, args.bootstrap), made)


def equivalence(arguments: list[str]) -> None:
    """Test whether vBoN's exact reward and its L bound win equally often at equal n and seed."""
    from vbon.analysis.equivalence import equivalence_table

    options = parser("equivalence", equivalence.__doc__)
    options.add_argument("--points", required=True, help="of the task")
    options.add_argument("--study", required=True, help="points of the study")
    options.add_argument("--output", required=True, help=".csv")
    args = options.parse_args(arguments)
    both = [read_table(path, "points") for path in (args.points, args.study)]
    inputs = {"points": args.points, "study": args.study}
    made = provenance({}, inputs, ("vbon.analysis.equivalence",))
    write_csv(args.output, equivalence_table(*both), made)


def orderings(arguments: list[str]) -> None:
    """Hold the paper's orderings of methods against the measured points, with intervals."""
    from vbon.analysis.orderings import orderings_table

    options = _resampling(parser("orderings", orderings.__doc__))
    options.add_argument("--equivalence", help="table of the equivalence study, if there is one")
    args = options.parse_args(arguments)
    study = pd.read_csv(args.equivalence) if args.equivalence else None
    points = read_table(args.points, "points")
    inputs = {"points": args.points}
    inputs |= {"equivalence": args.equivalence} if args.equivalence else {}
    made = _resampled(args, inputs, "vbon.analysis.orderings")
    table = orderings_table(points, args.seed, args.bootstrap, equivalence=study)
    write_csv(args.output, table, made)


def table1(arguments: list[str]) -> None:
    """Compare samples of several sizes with the pool, and measure the error of log F."""
    from vbon.analysis.draws import table1

    options = parser("table1", "Compare samples of several sizes with the pool of rewards.")
    options.add_argument("--rewards", required=True, help="of the training prompts")
    options.add_argument("--output", required=True, help=".csv")
    args = options.parse_args(arguments)
    rewards = read_table(args.rewards, "rewards", ["prompt_id", "draw", "reward"])
    made = provenance({}, {"rewards": args.rewards}, ("vbon.analysis.draws",))
    write_csv(args.output, table1(rewards), made)


def figure3(arguments: list[str]) -> None:
    """Choose the prompts whose estimates of log F are shown: extreme and median mean rewards."""
    from vbon.analysis.excerpts import shown_pools

    options = parser("figure3", figure3.__doc__)
    options.add_argument("--rewards", required=True, help="of the training prompts")
    options.add_argument("--prompts", required=True)
    options.add_argument("--output", required=True, help=".csv")
    args = options.parse_args(arguments)
    rewards = read_table(args.rewards, "rewards", ["prompt_id", "draw", "reward"])
    prompts = read_table(args.prompts, "prompts", ["prompt_id", "prompt"])
    inputs = {"rewards": args.rewards, "prompts": args.prompts}
    made = provenance({}, inputs, ("vbon.analysis.excerpts",))
    write_csv(args.output, shown_pools(rewards, prompts), made)


def convergence(arguments: list[str]) -> None:
    """Measure what the last quarter of each training still moved."""
    from vbon.analysis.convergence import convergence_table

    options = parser("convergence", convergence.__doc__)
    options.add_argument("--folders", nargs="+", required=True, help="run folders, in table order")
    options.add_argument("--output", required=True, help=".csv")
    args = options.parse_args(arguments)
    runs = [(run["method"], run["setting"], history) for run, history in histories(args.folders)]
    made = provenance({}, records(args.folders), ("vbon.analysis.convergence",))
    write_csv(args.output, convergence_table(runs), made)


def records(folders: Iterable[str]) -> dict[str, str]:
    """The records of runs, as inputs of a table's provenance."""
    return {"/".join(Path(folder).parts[-3:]): f"{folder}/run.json" for folder in folders}


def histories(folders: Iterable[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Each run's record and history."""
    for folder in map(Path, folders):
        record = read_record(folder / "run.json")
        yield record, read_table(folder / "history.parquet", "history")


def _resampled(args: argparse.Namespace, inputs: dict[str, str], module: str) -> dict[str, Any]:
    """Provenance of a table with bootstrap intervals."""
    return provenance({"seed": args.seed, "bootstrap": args.bootstrap}, inputs, (module,))


def _resampling(options: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Options of a table with bootstrap intervals."""
    options.add_argument("--points", required=True)
    options.add_argument("--bootstrap", type=int, required=True, help="replicates")
    options.add_argument("--seed", type=int, required=True)
    options.add_argument("--output", required=True, help=".csv")
    return options

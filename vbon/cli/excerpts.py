"""Verbs that gather what the report shows: ``training``, ``samples``, ``models``."""

import subprocess
from pathlib import Path

from vbon.artifacts import read_table
from vbon.artifacts.fingerprint import PACKAGE, provenance
from vbon.artifacts.tables import read_provenance, read_record, write_csv
from vbon.cli.comparison import histories, records
from vbon.cli.options import pairs, parser

_MODULES = ("vbon.analysis.excerpts",)


def training(arguments: list[str]) -> None:
    """Gather thinned histories of all runs."""
    from vbon.analysis.excerpts import training_table

    options = parser("training", training.__doc__)
    options.add_argument("--folders", nargs="+", required=True, help="run folders")
    options.add_argument("--output", required=True, help=".csv")
    args = options.parse_args(arguments)
    made = provenance({}, records(args.folders), _MODULES)
    write_csv(args.output, training_table(histories(args.folders)), made)


def samples(arguments: list[str]) -> None:
    """Gather every run's first response to a few test prompts."""
    from vbon.analysis.excerpts import samples_table, shown_prompts

    options = parser("samples", samples.__doc__)
    options.add_argument("--folders", nargs="+", required=True, help="run folders")
    options.add_argument("--prompts", required=True, help="test prompts")
    options.add_argument("--split", required=True, help="name of a set of responses")
    options.add_argument("--output", required=True, help=".csv")
    args = options.parse_args(arguments)
    prompts = shown_prompts(read_table(args.prompts, "prompts", ["prompt_id", "prompt"]))
    columns = ["prompt_id", "draw", "response", "reward", "reward_prob", "evaluator_reward"]
    runs = []
    for folder in map(Path, args.folders):
        record = read_record(folder / "run.json")
        if record["status"] == "ok":
            path = folder / "responses" / f"{args.split}.parquet"
            runs.append((record, read_table(path, "responses", columns)))
    inputs = {**records(args.folders), "prompts": args.prompts}
    made = provenance({"split": args.split}, inputs, _MODULES)
    write_csv(args.output, samples_table(prompts, runs), made)


def models(arguments: list[str]) -> None:
    """Gather what texts and models are: their settings and measured quality."""
    from vbon.analysis.excerpts import models_table

    options = parser("models", models.__doc__)
    options.add_argument("--cards", nargs="+", required=True, help="role=card.json or .parquet")
    options.add_argument("--config", required=True, help="hash of the configuration")
    options.add_argument("--seed", type=int, required=True, help="of data and models")
    options.add_argument("--output", required=True, help=".csv")
    args = options.parse_args(arguments)
    cards = {
        role: read_provenance(path) if path.endswith(".parquet") else read_record(path)
        for role, path in pairs(args.cards).items()
    }
    settings = {"config": args.config, "seed": args.seed}
    made = provenance(settings, pairs(args.cards), _MODULES)
    write_csv(args.output, models_table(cards), {**made, "commit": _commit()})


def _commit() -> str:
    """Commit of the code, marked where files differ from it; empty outside of a repository."""
    words = ["git", "-C", str(PACKAGE), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""

"""Verbs of the summarization task's tables: ``section6``, ``example``, ``monitored``."""

from pathlib import Path

import numpy as np
import pandas as pd

from vbon.artifacts import read_table
from vbon.artifacts.fingerprint import provenance
from vbon.artifacts.tables import read_record, write_csv
from vbon.cli.comparison import histories, records
from vbon.cli.options import pairs, parser
from vbon.errors import DataError


def section6(arguments: list[str]) -> None:
    """Hold the paper's claims about summarization against the responses, with intervals."""
    from vbon.analysis.temperatures import Evidence, by_prompt, section6_table

    options = parser("section6", section6.__doc__)
    options.add_argument("--folders", nargs="+", required=True, help="run folders")
    options.add_argument("--prompts", required=True, help="test prompts")
    options.add_argument("--rewards", nargs="+", required=True, help="of test prompts, name=path")
    options.add_argument("--draws", type=int, required=True, help="draws a prompt of the pool")
    options.add_argument("--bootstrap", type=int, required=True, help="replicates")
    options.add_argument("--seed", type=int, required=True)
    options.add_argument("--output", required=True, help=".csv")
    args = options.parse_args(arguments)
    prompts = read_table(args.prompts, "prompts", ["prompt_id", "domain"])
    tables = {}
    for split, path in pairs(args.rewards).items():
        rewards = read_table(path, "rewards")
        pool = rewards[rewards["draw"] < args.draws].groupby("prompt_id")["evaluator_reward"]
        pools = {name: np.sort(group.to_numpy()) for name, group in pool}
        temperature = float(split.removeprefix("test-t"))
        for method, setting, responses in _responses(args.folders, split):
            tables[method, setting, temperature] = by_prompt(responses, pools)
    domains = prompts.set_index("prompt_id")["domain"].to_dict()
    evidence = Evidence.of(tables, domains, args.seed, args.bootstrap)
    made = provenance(
        {"seed": args.seed, "bootstrap": args.bootstrap, "draws": args.draws},
        {**records(args.folders), "prompts": args.prompts, **pairs(args.rewards)},
        ("vbon.analysis.temperatures",),
    )
    write_csv(args.output, section6_table(evidence), made)


def _responses(folders: list[str], split: str) -> list[tuple[str, str, pd.DataFrame]]:
    """Method, setting and responses of each run that did not diverge."""
    found = []
    for folder in map(Path, folders):
        record = read_record(folder / "run.json")
        if record["status"] == "ok":
            table = read_table(folder / "responses" / f"{split}.parquet", "responses")
            found.append((record["method"], record["setting"], table))
    return found


def example(arguments: list[str]) -> None:
    """Show every method's summary of one post at one temperature."""
    from vbon.analysis.temperatures import example_table

    options = parser("example", example.__doc__)
    options.add_argument("--folders", nargs="+", required=True, help="run folders")
    options.add_argument("--texts", required=True, help="posts")
    options.add_argument("--prompts", required=True, help="test prompts")
    options.add_argument("--split", required=True, help="name of a set of responses")
    options.add_argument("--subreddit", required=True, help="of the post: its first test prompt")
    options.add_argument("--output", required=True, help=".csv")
    args = options.parse_args(arguments)
    posts = read_table(args.texts, "posts", ["source_id", "subreddit"])
    prompts = read_table(args.prompts, "prompts").merge(posts, on="source_id")
    own = prompts[prompts["subreddit"] == args.subreddit]
    if own.empty:
        raise DataError(
            f"prompts.example: no test prompt is of r/{args.subreddit}; there are "
            f"{', '.join(sorted(set(prompts['subreddit'])))}"
        )
    shown = own.iloc[0]
    table = example_table(shown["prompt_id"], _responses(args.folders, args.split))
    table.insert(0, "prompt", shown["prompt"])
    made = provenance(
        {"split": args.split, "subreddit": args.subreddit},
        {**records(args.folders), "texts": args.texts, "prompts": args.prompts},
        ("vbon.analysis.temperatures",),
    )
    write_csv(args.output, table, made)


def monitored(arguments: list[str]) -> None:
    """Gather what the histories say of the evaluator's reward along training."""
    options = parser("monitored", monitored.__doc__)
    options.add_argument("--folders", nargs="+", required=True, help="run folders")
    options.add_argument("--output", required=True, help=".csv")
    args = options.parse_args(arguments)
    parts = []
    for record, history in histories(args.folders):
        if "evaluator_reward" in history:
            columns = ["step", "episodes", "reward", "evaluator_reward", "kl"]
            keys = {name: record[name] for name in ("method", "setting", "seed")}
            parts.append(history[columns].assign(**keys))
    if not parts:
        raise DataError("history: no run has column 'evaluator_reward'; set rewards.monitored")
    made = provenance({}, records(args.folders), ("vbon.artifacts.tables",))
    write_csv(args.output, pd.concat(parts, ignore_index=True), made)

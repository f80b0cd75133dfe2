"""Verbs of the enumerable task: ``enumerate``, ``optimum``."""

from pathlib import Path
from typing import Any

import pandas as pd

from vbon.artifacts import read_table, write_table
from vbon.artifacts.fingerprint import provenance
from vbon.artifacts.tables import write_csv
from vbon.cli import pool
from vbon.cli.options import parser, settings
from vbon.planning.runs import Run


def enumerate(arguments: list[str]) -> None:
    """Write languages, and their reference pools by the same steps as any other task's.

    All of them share this process: each step takes less time than loading its libraries.
    """
    options = parser("enumerate", enumerate.__doc__)
    options.add_argument("--roots", type=settings, required=True, help="{folder: section}")
    options.add_argument("--seed", type=int, required=True)
    args = options.parse_args(arguments)

    from vbon.tasks.enumerable import save

    for folder, section in args.roots.items():
        made = provenance({"seed": args.seed, **section}, {}, ("vbon.tasks.enumerable",))
        limit = section["sampling"]["max_new_tokens"]
        save(Path(folder), section, limit, args.seed, made)
        for split in ("train", "test"):
            _pool(folder, split, section, args.seed)
        if section["exact_cdf"]:
            _add_exact_cdf(Path(folder), made)
        print(f"{folder}: {section['policy_class']} policy, {section['reward']} reward", flush=True)


def _pool(folder: str, split: str, section: dict[str, Any], seed: int) -> None:
    """Draw, score and sort one split's pool through the verbs of the other tasks."""
    import json

    sampling = section["sampling"]
    test = sampling["test_draws"] + sampling["fresh_draws"]
    draws = sampling["train_draws"] if split == "train" else test
    samples = f"{folder}/reference/samples/{split}.parquet"
    rewards = f"{folder}/reference/rewards/{split}.parquet"
    models = [
        f"--{role.replace('_', '-')}={folder}/models/{role}"
        for role in ("reference", "reward_model", "evaluator")
    ]
    prompts = ["--prompts", f"{folder}/prompts/{split}.parquet"]
    stream = ["--shard", "0", "--seed", str(seed)]
    drawn = ["--settings", json.dumps(sampling), "--draws", str(draws), "--output", samples]
    took = ["--seconds", f"{folder}/reference/seconds/samples-{split}-0.json"]
    took += ["--temperatures", str(sampling["temperature"])]
    pool.sample([*prompts, models[0], *stream, *drawn, *took])
    scored = ["--settings", json.dumps(section["rewards"]), "--output", rewards]
    took = ["--seconds", f"{folder}/reference/seconds/rewards-{split}-0.json"]
    pool.score([*prompts, *models, "--samples", samples, *scored, *took])
    used = section["logf"]["m"] if split == "train" else sampling["test_draws"]
    output = ["--output", f"{folder}/reference/logf/{split}.parquet"]
    pool.logf(["--rewards", rewards, "--draws", str(used), *output])


def _add_exact_cdf(folder: Path, made: dict[str, Any]) -> None:
    """Put the exact reward distribution beside the pool's in the log F table."""
    from vbon.objectives.oracle import reward_levels
    from vbon.rewards.base import TRANSFORMS

    transform = TRANSFORMS[made["settings"]["rewards"]["transform"]]
    strings = read_table(folder / "data/strings.parquet", "strings")
    path = folder / "reference/logf/train.parquet"
    table = read_table(path, "logf").set_index("prompt_id")
    exact = {
        name: reward_levels(transform(group["reward"].to_numpy()), group["log_prob"].to_numpy())
        for name, group in strings.groupby("prompt_id", sort=False)
    }
    for column, name in zip(range(3), ("levels", "log_below", "log_level"), strict=True):
        table[name] = [exact[prompt][column] for prompt in table.index]
    write_table(path, table.reset_index(), "logf", made)


def optimum(arguments: list[str]) -> None:
    """Hold every trained policy against the exact optimum of its method, string by string."""
    options = parser("optimum", optimum.__doc__)
    options.add_argument("--runs", type=settings, required=True, help="list of runs")
    options.add_argument("--sections", type=settings, required=True, help="{root: section}")
    options.add_argument("--seed", type=int, required=True)
    options.add_argument("--output", required=True, help="folder of the tables")
    args = options.parse_args(arguments)

    from vbon.evaluation import exact

    runs = [Run(**run) for run in args.runs]
    languages = {root: exact.Language.load(root) for root in args.sections}
    rows = [
        row
        for run in runs
        for row in [exact.compare(run, args.sections[run.root], languages[run.root])]
        if row is not None
    ]
    output, main = Path(args.output), next(iter(args.sections))
    optima = pd.DataFrame(rows)
    strings = {root: f"{root}/data/strings.parquet" for root in args.sections}
    made = provenance(
        {"seed": args.seed, "sections": args.sections},
        {**{run.folder: f"{run.folder}/run.json" for run in runs}, **strings},
        ("vbon.analysis.optimum",),
    )
    write_csv(output / "optimum.csv", optima, made)
    language, section = languages[main], args.sections[main]
    for name, table in {
        "pools": exact.pool_study(language, section["pools"], optima, args.seed),
        "exact_and_bound": exact.exact_and_bound(section, args.seed),
        "limits": exact.limits(language),
        "curves": exact.curves(language),
    }.items():
        write_csv(output / f"{name}.csv", table, made)

"""Verbs that study log F and what a response costs; they load models."""

from pathlib import Path

import pandas as pd

from vbon.artifacts import read_table
from vbon.artifacts.fingerprint import provenance
from vbon.artifacts.tables import read_record, write_csv
from vbon.cli.comparison import records
from vbon.cli.options import parser, settings
from vbon.cli.pool import features_of
from vbon.planning.runs import Run

_COSTS = ("tokens", "sample_seconds", "score_seconds", "seconds")
_RELATIVE = ("tokens", "seconds")


def estimators(arguments: list[str]) -> None:
    """Compare the estimators of log F: their errors, and what policies attain with them."""
    from vbon.analysis.estimators import estimators_table
    from vbon.pool.shared import fit_shared

    options = parser("estimators", estimators.__doc__)
    options.add_argument("--rewards", required=True, help="of the training prompts")
    options.add_argument("--prompts", required=True)
    options.add_argument("--reference", required=True, help="model folder")
    options.add_argument("--reward-model", required=True, help="model folder")
    options.add_argument("--settings", type=settings, required=True, help="how rewards are made")
    options.add_argument("--n", type=float, required=True, help="best-of-n that is aimed at")
    options.add_argument("--points", required=True, help="of the study's runs")
    options.add_argument("--output", required=True, help=".csv")
    args = options.parse_args(arguments)
    features = features_of(args.prompts, args.reference, args.reward_model, args.settings)
    rewards = read_table(args.rewards, "rewards", ["prompt_id", "draw", "reward"])
    names = read_table(args.prompts, "prompts", ["prompt_id"])["prompt_id"]
    table = rewards.pivot(index="prompt_id", columns="draw", values="reward").loc[names]
    points = read_table(args.points, "points")
    compared = estimators_table(
        table.sort_index(axis=1).to_numpy(),
        lambda pools: fit_shared(pools, *features),
        args.n,
        points[(points["n"] == args.n) & (points["status"] == "ok")],
    )
    names = ("rewards", "prompts", "reference", "reward_model", "points")
    made = provenance(
        {"n": args.n, **args.settings},
        {name: getattr(args, name) for name in names},
        ("vbon.analysis.estimators", "vbon.pool.shared", "vbon.pool.features"),
    )
    write_csv(args.output, compared, made)


def inference(arguments: list[str]) -> None:
    """Measure tokens and seconds of one returned response, by best-of-n and by policies."""
    options = parser("inference", inference.__doc__)
    options.add_argument("--runs", type=settings, required=True, help="list of runs")
    options.add_argument("--points", required=True)
    options.add_argument("--settings", type=settings, required=True)
    options.add_argument("--seed", type=int, required=True)
    options.add_argument("--output", required=True, help=".csv")
    args = options.parse_args(arguments)

    import torch

    from vbon.analysis.inference import Server
    from vbon.models.language_model import load_language_model, load_tokenizer
    from vbon.pool.table import load_prompts
    from vbon.rewards import load_reward_model

    torch.set_num_threads(1)
    runs, chosen = [Run(**run) for run in args.runs], args.settings
    inputs = runs[0].evaluation_inputs("test")
    prompts = load_prompts(inputs["prompts"])
    server = Server(
        prompts.select(torch.arange(min(chosen["prompts"], len(prompts)))),
        load_tokenizer(inputs["reference"]),
        load_reward_model(inputs["reward_model"], chosen["batch_size"], chosen["transform"]),
        chosen["max_new_tokens"],
        chosen["temperature"],
        args.seed,
    )
    reference = load_language_model(inputs["reference"])
    server.cost(reference, reference)  # the first call is slower than any other
    rows = []
    for run in runs:
        record = read_record(Path(run.folder) / "run.json")
        if record["status"] != "ok":
            continue
        own = record["policy"] == "policy"
        model = load_language_model(Path(run.folder) / "policy") if own else reference
        draws = 1 if run.instance.trained else int(getattr(run.instance, "n", 1))
        cost, base = server.cost(model, reference, draws)
        rows.append(
            {
                **{"method": run.method, "setting": run.setting, "seed": run.seed, "draws": draws},
                **{name: getattr(cost, name) for name in _COSTS},
                **{f"relative_{n}": getattr(cost, n) / getattr(base, n) for n in _RELATIVE},
            }
        )
        print(f"{run.method} {run.setting}: {cost.tokens:.1f} tokens, {cost.seconds:.2g} s",
              flush=True)  # fmt: skip
    keys = ["method", "setting", "seed"]
    measured = read_table(args.points, "points")[[*keys, "win_rate", "kl"]]
    table = pd.DataFrame(rows).merge(measured, on=keys, validate="one_to_one")
    read = records(run.folder for run in runs) | {"points": args.points, **inputs}
    made = provenance({"seed": args.seed, **chosen}, read, ("vbon.analysis.inference",))
    write_csv(args.output, table, made)

"""Verbs of the reference pool: ``sample``, ``score``, ``merge``, ``logf``, ``prior``, ``pairs``."""

import time
from typing import Any

import numpy as np
import pandas as pd

from vbon.artifacts import read_table, write_table
from vbon.artifacts.fingerprint import provenance
from vbon.artifacts.measured import start_clock
from vbon.artifacts.tables import write_json
from vbon.cli.options import parser, settings
from vbon.errors import ArtifactError, DataError
from vbon.pool.table import first_rewards


def sample(arguments: list[str]) -> None:
    """Draw reference responses to one shard of the prompts."""
    options = parser("sample", sample.__doc__)
    options.add_argument("--prompts", required=True)
    options.add_argument("--reference", required=True, help="model folder")
    options.add_argument("--settings", type=settings, required=True)
    options.add_argument("--draws", type=int, required=True, help="draws a prompt")
    options.add_argument("--shard", type=int, required=True, help="number of the shard, from 0")
    options.add_argument("--seed", type=int, required=True)
    options.add_argument("--temperatures", nargs="+", type=float, required=True)
    options.add_argument("--output", nargs="+", required=True, help="one for each temperature")
    options.add_argument("--seconds", nargs="+", required=True, help="outputs, .json: time taken")
    args = options.parse_args(arguments)
    chosen = args.settings
    table = read_table(args.prompts, "prompts")
    first = args.shard * chosen["prompts_per_shard"]
    table = table.iloc[first : first + chosen["prompts_per_shard"]]
    inputs = {"prompts": args.prompts, "reference": args.reference}
    made = {"seed": args.seed, "draws": args.draws, "shard": args.shard, **chosen}
    for temperature, output, took in zip(args.temperatures, args.output, args.seconds, strict=True):
        start_clock()
        own = {**made, "temperature": temperature}
        frame, seconds = _draw(table, args.reference, own)
        made_by = provenance(own, inputs, ("vbon.sampling.backends",))
        write_table(output, frame, "samples", made_by)
        write_json(took, {"draws": args.draws, "seconds": seconds})


def _draw(
    table: pd.DataFrame, reference: str, chosen: dict[str, Any]
) -> tuple[pd.DataFrame, float]:
    """All draws of a shard, and the seconds that drawing alone took."""
    import torch

    from vbon.batches import Prompts
    from vbon.models.language_model import check_tokenizer, load_language_model, load_tokenizer
    from vbon.pool.table import rollout_rows
    from vbon.sampling.backends import make_backend
    from vbon.seeding import derive_seed

    torch.set_num_threads(1)
    model, tokenizer = load_language_model(reference), load_tokenizer(reference)
    eos_token_id = check_tokenizer(tokenizer, model)
    draw = make_backend(chosen, reference, model)
    # Prompts of one length go together, so that no padding is decoded; a prompt's draws depend
    # on its id alone, and the original order is restored below.
    order = table["prompt_ids"].map(len).argsort(kind="stable")
    parts, seconds = [], 0.0
    for start in range(0, len(table), chosen["prompts_per_batch"]):
        rows = table.iloc[order.iloc[start : start + chosen["prompts_per_batch"]]]
        prompts = Prompts.from_lists(rows["prompt_ids"].tolist(), rows["prompt_id"].tolist())
        started = time.perf_counter()
        rollouts = draw(
            prompts,
            draws=chosen["draws"],
            max_new_tokens=chosen["max_new_tokens"],
            eos_token_id=eos_token_id,
            seed=derive_seed(chosen["seed"], "pool"),
            temperature=chosen["temperature"],
        )
        seconds += time.perf_counter() - started
        parts.append(rollout_rows(rollouts, prompts, tokenizer))
        print(f"{start + len(rows)}/{len(table)} prompts sampled", flush=True)
    position = {name: index for index, name in enumerate(table["prompt_id"])}
    frame = pd.concat(parts, ignore_index=True)
    ordered = frame.sort_values(
        ["prompt_id", "draw"],
        key=lambda column: column.map(position) if column.name == "prompt_id" else column,
        kind="stable",
        ignore_index=True,
    )
    return ordered, seconds


def score(arguments: list[str]) -> None:
    """Score the responses of one shard with the reward model and the held-out evaluator."""
    options = parser("score", score.__doc__)
    options.add_argument("--samples", nargs="+", required=True)
    options.add_argument("--prompts", required=True)
    options.add_argument("--reference", required=True, help="model folder, for its tokenizer")
    options.add_argument("--reward-model", required=True, help="model folder")
    options.add_argument("--evaluator", required=True, help="model folder")
    options.add_argument("--settings", type=settings, required=True)
    options.add_argument("--output", nargs="+", required=True, help="one for each of --samples")
    options.add_argument("--seconds", nargs="+", required=True, help="outputs, .json: time taken")
    args = options.parse_args(arguments)

    import torch

    from vbon.models.language_model import load_tokenizer
    from vbon.rewards import full_texts, load_reward_model, replace_unfinished

    torch.set_num_threads(1)
    prompts = read_table(args.prompts, "prompts").set_index("prompt_id")["prompt_ids"]
    tokenizer = load_tokenizer(args.reference)
    size = args.settings["batch_size"]
    reward_model = load_reward_model(args.reward_model, size, args.settings["transform"])
    evaluator = load_reward_model(args.evaluator, size)
    roles = ("prompts", "reward_model", "evaluator")
    inputs = {name: getattr(args, name) for name in roles}
    for path, output, took in zip(args.samples, args.output, args.seconds, strict=True):
        start_clock()
        samples = read_table(path, "samples")
        texts = full_texts(tokenizer, prompts.loc[samples["prompt_id"]], samples["response_ids"])
        frame = samples[["prompt_id", "draw"]].copy()
        started = time.perf_counter()
        rewards = reward_model(texts)
        seconds = time.perf_counter() - started
        finished = samples["finished"].to_numpy()
        frame["reward"] = replace_unfinished(rewards.reward, finished, args.settings)
        frame["reward_prob"] = rewards.prob
        frame["evaluator_reward"] = evaluator(texts).reward
        made = provenance(args.settings, {"samples": path, **inputs}, ("vbon.rewards",))
        write_table(output, frame, "rewards", made)
        write_json(took, {"draws": int(frame["draw"].nunique()), "seconds": seconds})


def merge(arguments: list[str]) -> None:
    """Join shards of one table in their order."""
    options = parser("merge", merge.__doc__)
    options.add_argument("--schema", choices=["samples", "rewards"], required=True)
    options.add_argument("--shards", nargs="+", required=True)
    options.add_argument("--output", required=True)
    args = options.parse_args(arguments)
    frame = pd.concat([read_table(path, args.schema) for path in args.shards], ignore_index=True)
    shards = {f"shard{number}": path for number, path in enumerate(args.shards)}
    write_table(args.output, frame, args.schema, provenance({}, shards, ("vbon.artifacts.tables",)))


def logf(arguments: list[str]) -> None:
    """Sort each prompt's first m rewards, and fit the exponential curve to them."""
    from vbon.pool.logf import fit_exponential

    options = parser("logf", logf.__doc__)
    options.add_argument("--rewards", required=True)
    options.add_argument("--draws", type=int, required=True, help="draws a prompt to use")
    options.add_argument("--output", required=True)
    args = options.parse_args(arguments)
    pools = first_rewards(args.rewards, args.draws)
    fits = np.array([fit_exponential(pool) for pool in pools], dtype=np.float64)
    missing, rmse = int(np.isnan(fits[:, 2]).sum()), np.nanmedian(np.append(fits[:, 2], 0.0))
    print(f"exponential fit: median error {rmse:.3g} nats; {missing} of {len(fits)} prompts "
          "have none, for which add1 takes over")  # fmt: skip
    frame = pd.DataFrame({"prompt_id": pools.index, "rewards_sorted": pools.to_numpy()})
    frame["num_draws"] = args.draws
    frame[["exp_a", "exp_b", "exp_rmse"]] = fits
    made = provenance({"draws": args.draws}, {"rewards": args.rewards}, ("vbon.pool.logf",))
    write_table(args.output, frame, "logf", made)


def prior(arguments: list[str]) -> None:
    """Fit the distribution that all prompts share to each prompt's first m rewards."""
    options = parser("prior", prior.__doc__)
    options.add_argument("--rewards", required=True)
    options.add_argument("--prompts", required=True)
    options.add_argument("--reference", required=True, help="model folder")
    options.add_argument("--reward-model", required=True, help="model folder")
    options.add_argument("--settings", type=settings, required=True, help="how rewards are made")
    options.add_argument("--draws", type=int, required=True, help="draws a prompt to use")
    options.add_argument("--output", required=True)
    args = options.parse_args(arguments)

    from vbon.pool.shared import fit_shared

    features = features_of(args.prompts, args.reference, args.reward_model, args.settings)
    names = read_table(args.prompts, "prompts", ["prompt_id"])["prompt_id"]
    pools = first_rewards(args.rewards, args.draws).loc[names]
    found = fit_shared(np.stack(pools.to_list()), *features)
    print(f"the fit to {len(pools)} prompts is worth {found.worth:.1f} draws", flush=True)
    frame = pd.DataFrame({"prompt_id": names, "shares": list(found.shares)})
    frame["knots"], frame["worth"] = [found.knots] * len(frame), found.worth
    names = ("rewards", "prompts", "reference", "reward_model")
    inputs = {name: getattr(args, name) for name in names}
    made = provenance({"draws": args.draws}, inputs, ("vbon.pool.shared", "vbon.pool.features"))
    write_table(args.output, frame, "prior", made)


def features_of(prompts: str, reference: str, reward_model: str, chosen: dict[str, Any]) -> Any:
    """Features of a table's prompts in its order: :func:`vbon.pool.features.prompt_features`."""
    import torch

    from vbon.models.language_model import load_language_model, load_tokenizer
    from vbon.pool.features import prompt_features
    from vbon.pool.table import load_prompts
    from vbon.rewards import load_reward_model

    torch.set_num_threads(1)
    return prompt_features(
        load_prompts(prompts),
        load_language_model(reference),
        load_tokenizer(reference),
        load_reward_model(reward_model, chosen["batch_size"], chosen["transform"]),
    )


def pairs(arguments: list[str]) -> None:
    """Choose the pairs of stored draws that offline methods are trained on, one file a pairing."""
    from vbon.pool.pairs import Pairing, make_pairs

    options = parser("pairs", pairs.__doc__)
    options.add_argument("--rewards", required=True)
    options.add_argument("--pairings", type=settings, required=True, help="{file: settings}")
    options.add_argument("--seed", type=int, required=True)
    options.add_argument("--output", required=True, help="folder")
    args = options.parse_args(arguments)
    rewards = read_table(args.rewards, "rewards", ["prompt_id", "draw", "reward"])
    for name, chosen in args.pairings.items():
        try:
            frame = make_pairs(rewards, Pairing(**chosen), args.seed)
        except (ArtifactError, DataError) as error:
            raise type(error)(f"{args.rewards}: {error}") from error
        made = provenance(
            {"seed": args.seed, **chosen}, {"rewards": args.rewards}, ("vbon.pool.pairs",)
        )
        write_table(f"{args.output}/{name}.parquet", frame, "pairs", made)

"""Verbs that make the reference pool: ``sample``, ``score``, ``merge``, ``logf``, ``pairs``."""

from typing import Any

import numpy as np
import pandas as pd

from vbon.artifacts import read_table, write_table
from vbon.artifacts.fingerprint import content_hash, provenance
from vbon.cli.options import parser, settings
from vbon.errors import ArtifactError, DataError


def sample(arguments: list[str]) -> None:
    """Draw reference responses to one shard of the prompts."""
    options = parser("sample", sample.__doc__)
    options.add_argument("--prompts", required=True)
    options.add_argument("--reference", required=True, help="model folder")
    options.add_argument("--settings", type=settings, required=True)
    options.add_argument("--draws", type=int, required=True, help="draws a prompt")
    options.add_argument("--shard", type=int, required=True, help="number of the shard, from 0")
    options.add_argument("--seed", type=int, required=True)
    options.add_argument("--output", required=True)
    args = options.parse_args(arguments)
    chosen = args.settings
    table = read_table(args.prompts, "prompts")
    first = args.shard * chosen["prompts_per_shard"]
    table = table.iloc[first : first + chosen["prompts_per_shard"]]
    frame = _draw(table, args.reference, chosen, args.draws, args.seed)
    inputs = {"prompts": args.prompts, "reference": args.reference}
    made = {"seed": args.seed, "draws": args.draws, "shard": args.shard, **chosen}
    write_table(args.output, frame, "samples", provenance(made, inputs, ("vbon.sampling",)))


def _draw(
    table: pd.DataFrame, reference: str, chosen: dict[str, Any], draws: int, seed: int
) -> pd.DataFrame:
    import torch

    from vbon.evaluation.policy import describe
    from vbon.models.language_model import check_tokenizer, load_language_model, load_tokenizer
    from vbon.sampling import sample as draw
    from vbon.seeding import derive_seed
    from vbon.types import Prompts

    torch.set_num_threads(1)
    model, tokenizer = load_language_model(reference), load_tokenizer(reference)
    eos_token_id = check_tokenizer(tokenizer, model)
    # Prompts of one length go together, so that no padding is decoded; a prompt's draws depend
    # on its id alone, and the original order is restored below.
    order = table["prompt_ids"].map(len).argsort(kind="stable")
    parts = []
    for start in range(0, len(table), chosen["prompts_per_batch"]):
        rows = table.iloc[order.iloc[start : start + chosen["prompts_per_batch"]]]
        prompts = Prompts.from_lists(rows["prompt_ids"].tolist(), rows["prompt_id"].tolist())
        rollouts = draw(
            model,
            prompts,
            draws=draws,
            max_new_tokens=chosen["max_new_tokens"],
            eos_token_id=eos_token_id,
            seed=derive_seed(seed, "pool"),
            temperature=chosen["temperature"],
        )
        parts.append(describe(rollouts, prompts, tokenizer))
        print(f"{start + len(rows)}/{len(table)} prompts sampled", flush=True)
    position = {name: index for index, name in enumerate(table["prompt_id"])}
    frame = pd.concat(parts, ignore_index=True)
    return frame.sort_values(
        ["prompt_id", "draw"],
        key=lambda column: column.map(position) if column.name == "prompt_id" else column,
        kind="stable",
        ignore_index=True,
    )


def score(arguments: list[str]) -> None:
    """Score the responses of one shard with the reward model and the held-out evaluator."""
    options = parser("score", score.__doc__)
    options.add_argument("--samples", required=True)
    options.add_argument("--prompts", required=True)
    options.add_argument("--reference", required=True, help="model folder, for its tokenizer")
    options.add_argument("--reward-model", required=True, help="model folder")
    options.add_argument("--evaluator", required=True, help="model folder")
    options.add_argument("--settings", type=settings, required=True)
    options.add_argument("--output", required=True)
    args = options.parse_args(arguments)

    import torch

    from vbon.models.language_model import load_tokenizer
    from vbon.rewards import full_texts, load_reward_model

    torch.set_num_threads(1)
    samples = read_table(args.samples, "samples")
    prompts = read_table(args.prompts, "prompts").set_index("prompt_id")["prompt_ids"]
    ids = prompts.loc[samples["prompt_id"]]
    texts = full_texts(load_tokenizer(args.reference), ids, samples["response_ids"])
    size = args.settings["batch_size"]
    frame = samples[["prompt_id", "draw"]].copy()
    rewards = load_reward_model(args.reward_model, size, args.settings["transform"])(texts)
    frame["reward"], frame["reward_prob"] = rewards.reward, rewards.prob
    frame["evaluator_reward"] = load_reward_model(args.evaluator, size)(texts).reward
    inputs = {
        "samples": args.samples,
        "prompts": args.prompts,
        "reward_model": args.reward_model,
        "evaluator": args.evaluator,
    }
    made = provenance(args.settings, inputs, ("vbon.rewards",))
    write_table(args.output, frame, "rewards", made)


def merge(arguments: list[str]) -> None:
    """Join shards of one table in their order."""
    options = parser("merge", merge.__doc__)
    options.add_argument("--schema", choices=["samples", "rewards"], required=True)
    options.add_argument("--shards", nargs="+", required=True)
    options.add_argument("--output", required=True)
    args = options.parse_args(arguments)
    frame = pd.concat([read_table(path, args.schema) for path in args.shards], ignore_index=True)
    made = {"shards": [content_hash(path) for path in args.shards]}
    write_table(args.output, frame, args.schema, made)


def logf(arguments: list[str]) -> None:
    """Sort each prompt's first m rewards, and fit the exponential curve where it is asked for."""
    from vbon.logf import fit_exponential

    options = parser("logf", logf.__doc__)
    options.add_argument("--rewards", required=True)
    options.add_argument("--draws", type=int, required=True, help="draws a prompt to use")
    options.add_argument("--fit", action="store_true", help="fit the exponential curve")
    options.add_argument("--output", required=True)
    args = options.parse_args(arguments)
    rewards = read_table(args.rewards, "rewards")
    bad = rewards[~np.isfinite(rewards["reward"])]
    if len(bad):
        row = bad.iloc[0]
        raise DataError(
            f"{args.rewards}: column 'reward' is {row['reward']} for prompt {row['prompt_id']}, "
            f"draw {row['draw']}; rewards must be finite"
        )
    kept = rewards[rewards["draw"] < args.draws]
    pools = kept.groupby("prompt_id", sort=False)["reward"].agg(np.sort)
    short = pools[pools.map(len) < args.draws]
    if len(short):
        raise ArtifactError(
            f"{args.rewards}: prompt {short.index[0]} has {len(short.iloc[0])} draws, "
            f"{args.draws} are asked for (logf.m, sampling.test_draws)"
        )
    fits = [fit_exponential(pool) if args.fit else (np.nan,) * 3 for pool in pools]
    frame = pd.DataFrame({"prompt_id": pools.index, "rewards_sorted": pools.to_numpy()})
    frame["num_draws"] = args.draws
    frame[["exp_a", "exp_b", "exp_rmse"]] = np.array(fits, dtype=np.float64)
    made = provenance(
        {"draws": args.draws, "fit": args.fit}, {"rewards": args.rewards}, ("vbon.logf",)
    )
    write_table(args.output, frame, "logf", made)


def pairs(arguments: list[str]) -> None:
    """Choose the pairs of stored draws that offline methods are trained on, one file a pairing."""
    from vbon.pairs import Pairing, make_pairs

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
        made = provenance({"seed": args.seed, **chosen}, {"rewards": args.rewards}, ("vbon.pairs",))
        write_table(f"{args.output}/{name}.parquet", frame, "pairs", made)

"""Steps that make the pool: draws, rewards, what log F is estimated from, and pairs of draws."""

from typing import Any

import numpy as np
import pandas as pd

from vbon.artifacts import read_table, write_table
from vbon.artifacts.measured import start_clock
from vbon.artifacts.steps import Input, Inputs, Job, Model, Output, Outputs, step
from vbon.artifacts.tables import write_json
from vbon.errors import ArtifactError, DataError


@step(needs_gpu=True)
def sample(
    prompts: Input,
    reference: Model,
    drawing: dict[str, Any],
    draws: int,
    shard: int,
    seed: int,
    temperatures: list[float],
    samples: Outputs,
    seconds: Outputs,
    job: Job,
) -> None:
    """Draw reference responses to one shard of the prompts, at each temperature."""
    from vbon.pool.draw import draw

    first, size = shard * drawing["prompts_per_shard"], drawing["prompts_per_shard"]
    table = read_table(prompts, "prompts").iloc[first : first + size]
    settings = {**drawing, "temperatures": temperatures}
    start_clock()
    drawn = draw(table, reference, settings, draws, seed)
    for (temperature, frame, spent), path, clock in zip(drawn, samples, seconds, strict=True):
        record = job.provenance(temperatures=None, temperature=temperature)
        write_table(path, frame, "samples", record)
        write_json(clock, {"draws": draws, "seconds": spent})
        start_clock()


@step(needs_gpu=True)
def score(
    samples: Inputs,
    prompts: Input,
    reference: Model,
    reward_model: Model,
    evaluator: Model,
    scoring: dict[str, Any],
    rewards: Outputs,
    seconds: Outputs,
    job: Job,
) -> None:
    """Score the responses of one shard with the reward model and the held-out evaluator."""
    from vbon.pool.score import scorer

    start_clock()
    models = reference, reward_model, evaluator
    scored = scorer(read_table(prompts, "prompts"), *models, scoring)
    for path, output, clock in zip(samples, rewards, seconds, strict=True):
        frame, spent = scored(read_table(path, "samples"))
        write_table(output, frame, "rewards", job.provenance(samples=path, reference=None))
        write_json(clock, {"draws": int(frame["draw"].nunique()), "seconds": spent})
        start_clock()


@step(is_light=True)
def merge(schema: str, shards: Inputs, output: Output, job: Job) -> None:
    """Join shards of one table in their order."""
    frame = pd.concat([read_table(path, schema) for path in shards], ignore_index=True)
    write_table(output, frame, schema, job.provenance())


@step(is_light=True)
def logf(rewards: Input, draws: int, output: Output, job: Job) -> None:
    """Sort each prompt's first rewards, and fit the exponential curve to them."""
    from vbon.pool.logf import fit_exponential
    from vbon.pool.table import first_rewards

    pools = first_rewards(rewards, draws)
    fits = np.array([fit_exponential(pool) for pool in pools], dtype=np.float64)
    unfitted, rmse = int(np.isnan(fits[:, 2]).sum()), np.nanmedian(np.append(fits[:, 2], 0.0))
    print(
        f"exponential fit: median error {rmse:.3g} nats; {unfitted} of {len(fits)} prompts have "
        "none and use add1"
    )
    frame = pd.DataFrame({"prompt_id": pools.index, "rewards_sorted": pools.to_numpy()})
    frame["num_draws"] = draws
    frame[["exp_a", "exp_b", "exp_rmse"]] = fits
    write_table(output, frame, "logf", job.provenance())


@step(needs_gpu=True)
def prior(
    rewards: Input,
    prompts: Input,
    reference: Model,
    reward_model: Model,
    scoring: dict[str, Any],
    draws: int,
    output: Output,
    job: Job,
) -> None:
    """Fit the distribution that all prompts share to each prompt's first rewards."""
    from vbon.pool.score import features_of
    from vbon.pool.shared import fit_shared
    from vbon.pool.table import first_rewards

    features = features_of(prompts, reference, reward_model, scoring)
    names = read_table(prompts, "prompts", ["prompt_id"])["prompt_id"]
    pools = first_rewards(rewards, draws).loc[names]
    shared = fit_shared(np.stack(pools.to_list()), *features)
    print(f"the fit to {len(pools)} prompts is worth {shared.worth:.1f} draws", flush=True)
    frame = pd.DataFrame({"prompt_id": names, "shares": list(shared.shares)})
    frame["knots"], frame["worth"] = [shared.knots] * len(frame), shared.worth
    write_table(output, frame, "prior", job.provenance())


@step(is_light=True)
def pairs(rewards: Input, pairings: dict[str, Any], seed: int, folder: str, job: Job) -> None:
    """Choose the pairs of stored draws that offline methods are trained on, a file per pairing."""
    from vbon.pool.pairs import Pairing, make_pairs

    draws = read_table(rewards, "rewards", ["prompt_id", "draw", "reward"])
    for name, settings in pairings.items():
        try:
            frame = make_pairs(draws, Pairing(**settings), seed)
        except (ArtifactError, DataError) as error:
            raise type(error)(f"{rewards}: {error}") from error
        record = job.provenance(pairings=settings, folder=None)
        write_table(f"{folder}/{name}.parquet", frame, "pairs", record)

"""Carry out runs of a sweep in a warm process, with a forked child per run."""

import multiprocessing
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64
from torch import Tensor
from transformers import PreTrainedModel

from vbon.artifacts import SCHEMAS, write_table
from vbon.artifacts.measured import measured, start_clock
from vbon.artifacts.storage import atomic_folder, explain
from vbon.artifacts.tables import write_record
from vbon.errors import VbonError
from vbon.methods.base import Method, Online
from vbon.models.language_model import load_language_model, load_tokenizer
from vbon.models.trainable import CAPACITY, count_trainable, make_trainable, merged
from vbon.pool.cdf import SampledCDF
from vbon.training import parallel
from vbon.training.anchored import make_online_trainer
from vbon.training.compute import COMPUTE, Compute
from vbon.training.inputs import Inputs
from vbon.training.offline import OfflineSettings, OfflineTrainer
from vbon.training.online import OnlineSettings, OnlineTrainer
from vbon.training.trainer import Diverged, Environment


def carry_out(
    run: dict[str, Any], method: Method, inputs: Inputs, provenance: dict[str, Any]
) -> str:
    """Carry out one run and move its folder into place when it is complete.

    If several processes share the run, all train and the main one writes.

    Args:
        run: The run as plain values (root, method, setting, seed, spec), and its ``inputs``.
        method: The method at the run's setting.
        inputs: Shared inputs.
        provenance: Its :meth:`vbon.planning.runs.Run.provenance`, with the key that marks it done.

    Returns:
        ``ok`` or ``diverged``.
    """
    folder = Path(f"{run['root']}/runs/{run['method']}/{run['setting']}/seed{run['seed']}")
    torch.set_num_threads(1)
    start_clock()
    if not parallel.is_main():
        return _outcome(run, method, inputs)[0]["status"]
    with atomic_folder(folder) as partial:
        record, rows, policy = _outcome(run, method, inputs)
        if policy is not None:
            policy.save_pretrained(partial / "policy")
            load_tokenizer(run["inputs"]["reference"]).save_pretrained(partial / "policy")
        history = pd.DataFrame(rows, columns=list(rows[0] if rows else SCHEMAS["history"].columns))
        write_table(partial / "history.parquet", history, "history", provenance)
        usage = measured()
        if parallel.count() > 1:
            usage["hardware"] += f", {parallel.count()} processes"
        record |= {
            **{name: value for name, value in provenance.items() if name != "settings"},
            **{name: run[name] for name in ("task", "study", "method", "setting", "seed", "spec")},
            **{name: getattr(method, name, None) for name in ("n", "kl_coef")},
            "train_seconds": usage.pop("seconds"),
            **usage,
        }
        for name in ("n", "kl_coef"):  # JSON has no infinity
            finite = record[name] is not None and record[name] < 1e300
            record[name] = record[name] if finite else None
        write_record(partial / "run.json", record)
    return record["status"]


def _outcome(
    run: dict[str, Any], method: Method, inputs: Inputs
) -> tuple[dict[str, Any], list[dict[str, float]], PreTrainedModel | None]:
    """Record of the training, if any is needed, rows of its history, and the policy to save."""
    if method.is_reference or not method.trained:
        policy = "reference" if method.trained else None
        return {"status": "ok", "policy": policy, "trainable_parameters": 0}, [], None
    rows: list[dict[str, float]] = []
    # The policy starts as the reference; loading it again shares no parameter with it.
    policy = load_language_model(run["inputs"].get("start", run["inputs"]["reference"]))
    loop = run["spec"].get("online") or run["spec"]["offline"]
    make_trainable(policy, **{name: loop[name] for name in CAPACITY}, seed=run["seed"])
    trainer = _make_trainer(run, method, inputs, policy)
    status = "ok"
    try:
        for row in trainer:
            rows.append(row)
            if not np.isfinite([row[name] for name in SCHEMAS["history"].columns]).all():
                raise Diverged(f"step {row['step']}: a statistic is not finite")
    except Diverged as error:
        if parallel.is_main():
            name = f"{run['method']} {run['setting']} seed {run['seed']}"
            print(f"{name} diverged: {error}", flush=True)
        status = "diverged"
    cdf = trainer.environment.cdf  # may have drawn from the reference
    record = {
        "status": status,
        "policy": "policy" if status == "ok" else None,
        "trainable_parameters": count_trainable(policy),
        "episodes": trainer.episodes,
        "sampled_tokens": trainer.sampled_tokens + getattr(cdf, "sampled_tokens", 0),
        "updates": trainer.updates,
        "seconds": trainer.seconds,
    }
    if isinstance(trainer, OfflineTrainer):
        record["stored_draws"] = method.pairing.draws * trainer.settings.blocks
        record["mean_nll"] = trainer.examples.mean_nll
    elif trainer.environment.stored is not None:
        record["stored_draws"] = trainer.environment.stored.draws
    return record, rows, merged(policy) if status == "ok" else None


def _sampling_cdf(environment: Environment, max_draws: int, seed: int) -> SampledCDF:
    """Log F from fresh draws of the reference."""

    def draw(rows: Tensor, count: int, seed: int) -> tuple[Float64[Tensor, "batch count"], int]:
        prompts = environment.prompts.select(rows)
        rollouts = environment.sample(environment.reference, prompts, count, seed)
        reward = environment.rewards(prompts.select(rollouts.prompt_index), rollouts)
        return reward.reshape(-1, count), int(rollouts.response_mask.sum())

    return SampledCDF(draw, max_draws, seed)


def _make_trainer(
    run: dict[str, Any], method: Method, inputs: Inputs, policy: PreTrainedModel
) -> OnlineTrainer | OfflineTrainer:
    """Trainer for the method's shape."""
    spec, environment, seed = run["spec"], inputs.environment, run["seed"]
    if spec.get("logf", {}).get("estimator") == "ibs":
        cdf = _sampling_cdf(environment, spec["logf"]["m"], seed)
        environment = replace(environment, cdf=cdf)
    shape = "online" if isinstance(method, Online) else "offline"
    compute = Compute(**{name: spec[shape][name] for name in COMPUTE})
    loop = {k: v for k, v in spec[shape].items() if k not in (*CAPACITY, *COMPUTE, "start")}
    if shape == "online":
        settings = OnlineSettings(**loop)
        return make_online_trainer(policy, method, environment, settings, seed, compute)
    parts = environment, inputs.examples(run["inputs"]["pairs"]), OfflineSettings(**loop)
    return OfflineTrainer(policy, method, *parts, seed, compute)


def in_child(function: Any, *arguments: Any) -> None:
    """Call a function in a forked child: a crash costs one run, and imports happen once.

    With a GPU or several processes the call stays in this process, because neither CUDA nor the
    connections between processes survive a fork.

    Raises:
        ChildProcessError: If the child failed.
    """
    if torch.cuda.is_available() or parallel.count() > 1:
        function(*arguments)
        return
    process = multiprocessing.get_context("fork").Process(
        target=_reported, args=(function, arguments)
    )
    process.start()
    process.join()
    if process.exitcode:
        raise ChildProcessError(f"its process {parallel.explain(process.exitcode)}")


def _reported(function: Any, arguments: tuple[Any, ...]) -> None:
    """Call a function; report errors of data or storage in one line."""
    try:
        function(*arguments)
    except Exception as error:
        message = str(error) if isinstance(error, VbonError) else explain(error)
        if message is None:
            raise
        sys.exit(f"vbon train: {message}")

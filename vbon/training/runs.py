"""Carry out runs of a sweep: a warm process, one forked child a run, nothing done twice."""

import multiprocessing
import sys
import warnings
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from vbon.artifacts import SCHEMAS, read_table, write_table
from vbon.artifacts.measured import measured, start_clock
from vbon.artifacts.storage import atomic_folder, explain
from vbon.artifacts.tables import write_record
from vbon.errors import ArtifactError, VbonError
from vbon.logf import FitWarning
from vbon.methods.base import Method, Offline, Online
from vbon.models.language_model import check_tokenizer, load_language_model, load_tokenizer
from vbon.models.trainable import CAPACITY, count_trainable, make_trainable, merged
from vbon.rewards import full_texts, load_reward_model, replace_unfinished
from vbon.training import parallel
from vbon.training.anchored import make_online_trainer
from vbon.training.cdf import EstimatedCDF, ExactCDF, Prior, RewardCDF, SampledCDF
from vbon.training.compute import COMPUTE, Compute
from vbon.training.offline import Examples, OfflineSettings, OfflineTrainer
from vbon.training.online import Diverged, Environment, OnlineSettings, OnlineTrainer, is_finite
from vbon.types import Prompts, Rollouts


def load_prompts(path: str | Path) -> Prompts:
    """Prompts of an artifact as padded token ids."""
    table = read_table(path, "prompts", ["prompt_id", "prompt_ids"])
    return Prompts.from_lists(table["prompt_ids"].tolist(), table["prompt_id"].tolist())


def load_cdf(paths: dict[str, str], settings: dict[str, Any], prompts: Prompts) -> RewardCDF:
    """The reference's reward distribution from its tables, in the order of ``prompts``.

    Args:
        paths: ``logf``, and ``prior`` for the estimator that needs it.
        settings: Section ``logf`` of the config.
        prompts: Training prompts.

    Raises:
        ArtifactError: If a table lacks a prompt.
    """
    table = _rows_of(prompts, paths["logf"], "logf")
    if "levels" in table:
        return ExactCDF(*(_padded(table[name]) for name in ("levels", "log_below", "log_level")))
    pools = torch.from_numpy(np.stack(table["rewards_sorted"].to_list()))
    fitted = torch.from_numpy(table[["exp_a", "exp_b"]].to_numpy(np.float64, copy=True))
    chosen = {name: settings[name] for name in ("estimator", "pooled_ties", "mid_ranks")}
    missing = int(fitted.isnan().any(1).sum())
    if chosen["estimator"] == "exponential" and missing:
        warnings.warn(
            f"{paths['logf']}: {missing} of {len(table)} prompts have no exponential fit; add1 "
            "takes over for them",
            FitWarning,
            stacklevel=2,
        )
    if "prior" not in paths:
        return EstimatedCDF(pools, fitted, **chosen)
    learned = _rows_of(prompts, paths["prior"], "prior")
    knots = torch.from_numpy(np.array(learned["knots"].iloc[0]))
    shares = torch.from_numpy(np.stack(learned["shares"].to_list()))
    prior = Prior(knots, shares, float(learned["worth"].iloc[0]))
    return EstimatedCDF(pools, fitted, **chosen, prior=prior)


def _rows_of(prompts: Prompts, path: str, schema: str) -> pd.DataFrame:
    """The rows of a table that belong to the prompts, in their order."""
    table = read_table(path, schema).set_index("prompt_id")
    missing = [name for name in prompts.prompt_id if name not in table.index]
    if missing:
        raise ArtifactError(f"{path}: column 'prompt_id' lacks {missing[0]}, which is a prompt")
    return table.loc[list(prompts.prompt_id)]


def _padded(rows: pd.Series) -> Float64[Tensor, "prompts levels"]:
    """Rows of numbers as one tensor, filled up with +inf."""
    tensors = [torch.from_numpy(np.array(row, np.float64)) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=torch.inf)


class Inputs:
    """What the runs of a task share, loaded once and only if a run needs it.

    Args:
        paths: Artifact of each input name; ``pairs``, in which runs differ, is not looked at.
        spec: Of any run of the group; they share sampling, rewards and log F settings.
    """

    def __init__(self, paths: dict[str, str], spec: dict[str, Any]) -> None:
        self._paths, self._spec = paths, spec

    @cached_property
    def reference(self) -> PreTrainedModel:
        """The frozen reference model."""
        return load_language_model(self._paths["reference"]).requires_grad_(False)

    @cached_property
    def samples(self) -> pd.DataFrame:
        """The reference's draws for the training prompts, as far as examples need them."""
        columns = ["prompt_id", "draw", "response_ids", "log_prob"]
        return read_table(self._paths["samples"], "samples", columns)

    def examples(self, path: str) -> Examples:
        """What an offline run is trained on.

        Args:
            path: Its table of pairs.
        """
        pairs = read_table(path, "pairs")
        return Examples.from_tables(pairs, self.samples, self.environment.prompts)

    @cached_property
    def environment(self) -> Environment:
        """Prompts, reference and rewards of the task."""
        tokenizer = load_tokenizer(self._paths["reference"])
        eos_token_id = check_tokenizer(tokenizer, self.reference)
        rewards = self._spec["rewards"]
        size, transform = rewards["batch_size"], rewards["transform"]
        reward_model = load_reward_model(self._paths["reward_model"], size, transform)
        evaluator = None
        if "evaluator" in self._paths:
            evaluator = load_reward_model(self._paths["evaluator"], size)

        def texts(prompts: Prompts, rollouts: Rollouts) -> list[str]:
            return full_texts(tokenizer, prompts.id_lists(), rollouts.response_lists())

        def score(prompts: Prompts, rollouts: Rollouts) -> Float64[Tensor, " batch"]:
            reward = reward_model(texts(prompts, rollouts)).reward
            return torch.from_numpy(replace_unfinished(reward, rollouts.finished.numpy(), rewards))

        def evaluate(prompts: Prompts, rollouts: Rollouts) -> Float64[Tensor, " batch"]:
            return torch.from_numpy(evaluator(texts(prompts, rollouts)).reward)

        prompts = load_prompts(self._paths["prompts"])
        cdf = None
        if "logf" in self._paths:
            cdf = load_cdf(self._paths, self._spec["logf"], prompts)
        limits = self._spec["sampling"]
        return Environment(
            prompts,
            self.reference,
            score,
            cdf,
            eos_token_id,
            limits["max_new_tokens"],
            limits["temperature"],
            None if evaluator is None else evaluate,
            rewards.get("monitored", 0),
        )


def carry_out(run: dict[str, Any], method: Method, inputs: Inputs, made: dict[str, Any]) -> str:
    """Carry out one run and move its folder into place when all of it is written.

    Of several processes all train and the main one writes.

    Args:
        run: The run as plain values (root, method, setting, seed, spec), and its ``inputs``.
        method: The method at the run's setting.
        inputs: Shared inputs.
        made: Its :meth:`vbon.plan.Run.provenance`, with the key by which it is known as done.

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
        write_table(partial / "history.parquet", history, "history", made)
        took = measured()
        if parallel.count() > 1:
            took["hardware"] += f", {parallel.count()} processes"
        record |= {
            **{name: value for name, value in made.items() if name != "settings"},
            **{name: run[name] for name in ("task", "study", "method", "setting", "seed", "spec")},
            "n": getattr(method, "n", None),
            "kl_coef": getattr(method, "kl_coef", None),
            "train_seconds": took.pop("seconds"),
            **took,
        }
        for name in ("n", "kl_coef"):  # JSON has no infinity
            finite = record[name] is not None and record[name] < 1e300
            record[name] = record[name] if finite else None
        write_record(partial / "run.json", record)
    return record["status"]


Outcome = tuple[dict[str, Any], list[dict[str, float]], PreTrainedModel | None]
"""What the record says of the training, the rows of the history, and a policy to be saved."""


def _outcome(run: dict[str, Any], method: Method, inputs: Inputs) -> Outcome:
    """Train where there is anything to train, and say how it went."""
    record: dict[str, Any] = {"status": "ok", "policy": None, "trainable_parameters": 0}
    if not method.trained:
        return record, [], None
    if method.is_reference:
        return record | {"policy": "reference"}, [], None
    return _train(run, method, inputs)


def _train(run: dict[str, Any], method: Method, inputs: Inputs) -> Outcome:
    """Train a method."""
    rows: list[dict[str, float]] = []
    # The policy starts as the reference; loading it again shares no parameter with it.
    policy = load_language_model(run["inputs"]["reference"])
    loop = run["spec"].get("online") or run["spec"]["offline"]
    make_trainable(policy, **{name: loop[name] for name in CAPACITY}, seed=run["seed"])
    trainer = _make_trainer(run, method, inputs, policy)
    status = "ok"
    try:
        for row in trainer:
            rows.append(row)
            if not is_finite({name: row[name] for name in SCHEMAS["history"].columns}):
                raise Diverged(f"step {row['step']}: a statistic is not finite")
    except Diverged as error:
        name = f"{run['method']} {run['setting']} seed {run['seed']}"
        if parallel.is_main():
            print(f"{name} diverged: {error}", flush=True)
        status = "diverged"
    record = {
        "status": status,
        "policy": "policy" if status == "ok" else None,
        "trainable_parameters": count_trainable(policy),
        "episodes": trainer.episodes,
        "sampled_tokens": trainer.sampled_tokens + _drawn_for_log_f(trainer.environment.cdf),
        "updates": trainer.updates,
        "seconds": trainer.seconds,
        **(_stored(method, trainer) if isinstance(trainer, OfflineTrainer) else {}),
    }
    return record, rows, merged(policy) if status == "ok" else None


def _drawn_for_log_f(cdf: RewardCDF | None) -> int:
    """Tokens of the reference that were sampled during training, not before it."""
    return cdf.sampled_tokens if isinstance(cdf, SampledCDF) else 0


def _sampling_cdf(environment: Environment, max_draws: int, seed: int) -> SampledCDF:
    """Log F from fresh draws of the environment's reference."""

    def draw(rows: Tensor, count: int, seed: int) -> tuple[Float64[Tensor, "batch count"], int]:
        asked = environment.prompts.select(rows)
        rollouts = environment.sample(environment.reference, asked, count, seed)
        reward = environment.rewards(asked.select(rollouts.prompt_index), rollouts)
        return reward.reshape(-1, count), int(rollouts.response_mask.sum())

    return SampledCDF(draw, max_draws, seed)


def _loop_settings(section: dict[str, Any]) -> dict[str, Any]:
    """Settings of a loop itself, without what is trained by it."""
    return {name: value for name, value in section.items() if name not in (*CAPACITY, *COMPUTE)}


def _stored(method: Offline, trainer: OfflineTrainer) -> dict[str, float]:
    """What the record says of the stored draws that a run was trained on."""
    draws = method.pairing.draws * trainer.settings.blocks
    return {"stored_draws": draws, "mean_nll": trainer.examples.mean_nll}


def _make_trainer(
    run: dict[str, Any], method: Method, inputs: Inputs, policy: PreTrainedModel
) -> OnlineTrainer | OfflineTrainer:
    """The loop for the method's shape."""
    spec, environment, seed = run["spec"], inputs.environment, run["seed"]
    if spec.get("logf", {}).get("estimator") == "ibs":
        cdf = _sampling_cdf(environment, spec["logf"]["m"], seed)
        environment = replace(environment, cdf=cdf)
    if isinstance(method, Online):
        settings = OnlineSettings(**_loop_settings(spec["online"]))
        compute = Compute(**{name: spec["online"][name] for name in COMPUTE})
        return make_online_trainer(policy, method, environment, settings, seed, compute)
    if not isinstance(method, Offline):
        raise TypeError(f"no trainer for methods of type {type(method).__mro__[1].__name__}")
    settings = OfflineSettings(**_loop_settings(spec["offline"]))
    parts = policy, method, environment, inputs.examples(run["inputs"]["pairs"]), settings, seed
    if settings.trainer == "native":
        compute = Compute(**{name: spec["offline"][name] for name in COMPUTE})
        return OfflineTrainer(*parts, compute)
    from vbon.training.trl import TRLTrainer  # takes seconds to import

    return TRLTrainer(*parts, tokenizer=load_tokenizer(run["inputs"]["reference"]))


def in_child(function: Any, *arguments: Any) -> None:
    """Call a function in a forked child, so that a crash costs one run and imports are paid once.

    With a GPU, or among several processes, the call stays in this process, because neither CUDA nor
    what connects processes survives a fork.

    Raises:
        ChildProcessError: If the child failed.
    """
    if torch.cuda.is_available() or parallel.count() > 1:
        function(*arguments)
        return
    process = multiprocessing.get_context("fork").Process(target=_told, args=(function, arguments))
    process.start()
    process.join()
    if process.exitcode:
        raise ChildProcessError(f"its process {parallel.explain(process.exitcode)}")


def _told(function: Any, arguments: tuple[Any, ...]) -> None:
    """Call a function; what is wrong with data or storage is told in one line."""
    try:
        function(*arguments)
    except Exception as error:
        told = str(error) if isinstance(error, VbonError) else explain(error)
        if told is None:
            raise
        sys.exit(f"vbon train: {told}")

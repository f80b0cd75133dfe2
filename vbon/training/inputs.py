"""Inputs of training runs: prompts, reference, rewards and log F, loaded once per job."""

import warnings
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from vbon.artifacts import read_table
from vbon.batches import Prompts, Rollouts
from vbon.errors import ArtifactError
from vbon.models.end_tokens import end_token_ids
from vbon.models.language_model import load_language_model, load_tokenizer
from vbon.pool.cdf import EstimatedCDF, ExactCDF, RewardCDF
from vbon.pool.logf import FitWarning
from vbon.pool.shared import SharedCDF
from vbon.pool.table import load_prompts
from vbon.rewards import Completions, load_reward_model, replace_unfinished
from vbon.training.offline import Examples
from vbon.training.stored import StoredDraws
from vbon.training.trainer import Environment


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
    missing = int(fitted.isnan().any(1).sum())
    if settings["estimator"] == "exponential" and missing:
        warnings.warn(
            f"{paths['logf']}: {missing} of {len(table)} prompts have no exponential fit; add1 "
            "replaces it",
            FitWarning,
            stacklevel=2,
        )
    prior = None
    if "prior" in paths:
        learned = _rows_of(prompts, paths["prior"], "prior")
        knots, worth = np.array(learned["knots"].iloc[0]), float(learned["worth"].iloc[0])
        prior = SharedCDF(knots, np.stack(learned["shares"].to_list()), worth)
    return EstimatedCDF(pools, fitted, settings["estimator"], settings["pooled_ties"], prior)


def _rows_of(prompts: Prompts, path: str, schema: str) -> pd.DataFrame:
    """Rows of a table for the prompts, in their order."""
    table = read_table(path, schema).set_index("prompt_id")
    missing = [name for name in prompts.prompt_id if name not in table.index]
    if missing:
        raise ArtifactError(f"{path}: column 'prompt_id' lacks the prompt {missing[0]}")
    return table.loc[list(prompts.prompt_id)]


def _padded(rows: pd.Series) -> Float64[Tensor, "prompts levels"]:
    """Rows of numbers as one tensor, padded with +inf."""
    tensors = [torch.from_numpy(np.array(row, np.float64)) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=torch.inf)


class Inputs:
    """Inputs shared by the runs of a task, loaded once and only if a run needs them.

    Args:
        paths: Artifact of each input name; ``pairs``, which differ between runs, are not read.
        spec: Spec of any run of the group; they share sampling, rewards and log F settings.
    """

    def __init__(self, paths: dict[str, str], spec: dict[str, Any]) -> None:
        self._paths, self._spec = paths, spec

    @cached_property
    def reference(self) -> PreTrainedModel:
        """The frozen reference model."""
        return load_language_model(self._paths["reference"]).requires_grad_(False)

    @cached_property
    def samples(self) -> pd.DataFrame:
        """Columns of the reference's draws for the training prompts that examples need."""
        columns = ["prompt_id", "draw", "response_ids", "log_prob"]
        return read_table(self._paths["samples"], "samples", columns)

    def examples(self, path: str) -> Examples:
        """Training pairs of an offline run, from their table."""
        pairs = read_table(path, "pairs")
        return Examples.from_tables(pairs, self.samples, self.environment.prompts)

    @cached_property
    def environment(self) -> Environment:
        """Prompts, reference and rewards of the task."""
        tokenizer = load_tokenizer(self._paths["reference"])
        eos_token_id = end_token_ids(tokenizer, self.reference)
        rewards = self._spec["rewards"]
        size, transform = rewards["batch_size"], rewards["transform"]
        reward_model = load_reward_model(self._paths["reward_model"], size, transform)
        watching = self._paths.get("evaluator")
        evaluator = None if watching is None else load_reward_model(watching, size)

        def completions(prompts: Prompts, rollouts: Rollouts) -> Completions:
            return Completions(tokenizer, prompts, rollouts.text_lists())

        def score(prompts: Prompts, rollouts: Rollouts) -> Float64[Tensor, " batch"]:
            reward = reward_model(completions(prompts, rollouts)).reward
            return torch.from_numpy(replace_unfinished(reward, rollouts.finished.numpy(), rewards))

        def evaluate(prompts: Prompts, rollouts: Rollouts) -> Float64[Tensor, " batch"]:
            return torch.from_numpy(evaluator(completions(prompts, rollouts)).reward)

        prompts = load_prompts(self._paths["prompts"])
        cdf = load_cdf(self._paths, self._spec["logf"], prompts) if "logf" in self._paths else None
        sampling = self._spec["sampling"]
        limits = eos_token_id, sampling["max_new_tokens"], sampling["temperature"]
        monitoring = None if evaluator is None else evaluate, rewards.get("monitored", 0)
        stored = None
        if "stored_draws" in self._spec:
            table = read_table(self._paths["rewards"], "rewards", ["prompt_id", "draw", "reward"])
            draws = self._spec["stored_draws"]
            stored = StoredDraws.from_tables(self.samples, table, prompts, draws, cdf)
        return Environment(prompts, self.reference, score, cdf, *limits, *monitoring, stored)

"""Rows of ``points`` and ``costs`` from the files of a run; does not import torch."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from vbon.artifacts import SCHEMAS, read_table
from vbon.artifacts.tables import read_json
from vbon.errors import DataError
from vbon.evaluation.metrics import Pools, summarise

_IDENTITY, _NAN = ("task", "method", "setting", "seed"), float("nan")


@dataclass(frozen=True)
class Pool:
    """Reference rewards of the test prompts at one temperature.

    Attributes:
        rewards: Ascending rewards of each test prompt.
        evaluator_rewards: The same for the held-out evaluator's rewards.
        first: Reward of each prompt's first draw.
        temperature: Sampling temperature of the policies compared with this pool.
    """

    rewards: Pools
    evaluator_rewards: Pools
    first: dict[str, float]
    temperature: float

    @classmethod
    def load(cls, rewards: str, draws: int, temperature: float) -> "Pool":
        """Read the pool.

        Args:
            rewards: Path of the table ``rewards`` of the test prompts.
            draws: Number of draws per prompt that responses are ranked among.
            temperature: Sampling temperature of these draws.
        """
        table = read_table(rewards, "rewards")
        ranking = table[table["draw"] < draws]
        grouped = ranking.groupby("prompt_id", sort=False)
        first = ranking[ranking["draw"] == 0].set_index("prompt_id")["reward"]
        ours, evaluated = (
            {name: np.sort(group.to_numpy()) for name, group in grouped[column]}
            for column in ("reward", "evaluator_reward")
        )
        return cls(ours, evaluated, first.to_dict(), temperature)


@dataclass(frozen=True)
class Measurement:
    """Pools and settings with which the runs of a task are measured.

    Attributes:
        pools: Reference rewards by the name of a set of responses.
        domains: Domain of each test prompt; None if domains are not compared.
        train_tokens: Total number of tokens of the first 0, 1, 2, ... draws of all training
            prompts.
        seconds: Seconds to sample (``samples``) and to score (``rewards``) one draw of every
            training prompt.
        seed: Evaluation seed.
        sample_seeds: Seeds with which responses were sampled.
        temperature: Sampling temperature of training.
    """

    pools: dict[str, Pool]
    domains: dict[str, str] | None
    train_tokens: Int[np.ndarray, " stored"]
    seconds: dict[str, float]
    seed: int
    sample_seeds: list[int]
    temperature: float

    @classmethod
    def load(
        cls,
        samples: str,
        prompts: str,
        rewards: Mapping[str, str],
        seconds: Sequence[str],
        settings: dict[str, Any],
    ) -> "Measurement":
        """Read the pools and their costs.

        Args:
            samples: Path of the table ``samples`` of the training prompts.
            prompts: Path of the table ``prompts`` of the test prompts.
            rewards: Paths of tables ``rewards`` of the test prompts, by the name of a set of
                responses.
            seconds: JSON files ``samples-*`` and ``rewards-*`` with the time that each shard of
                the training prompts took.
            settings: ``splits`` (temperature by name), ``test_draws``, ``temperature``, ``seed``,
                and optionally ``sample_seeds`` and ``by_domain``.

        Raises:
            DataError: If domains are compared and differ in their number of prompts.
        """
        train = read_table(samples, "samples", ["draw", "response_ids"])
        lengths = train["response_ids"].map(len).groupby(train["draw"]).sum().sort_index()
        draws, splits = settings["test_draws"], settings["splits"]
        return cls(
            {name: Pool.load(path, draws, splits[name]) for name, path in rewards.items()},
            _domains(prompts) if settings.get("by_domain") else None,
            np.append(0, lengths.cumsum().to_numpy()),
            _seconds_per_draw(seconds),
            settings["seed"],
            settings.get("sample_seeds") or [settings["seed"]],
            settings["temperature"],
        )

    def groups(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Name of a set of responses and key columns, for every row of ``points`` of a run."""
        domains = ["all"] if self.domains is None else sorted(set(self.domains.values()))
        for split, pool in self.pools.items():
            for seed, domain in itertools.product(self.sample_seeds, domains):
                keys = {"sample_seed": seed, "temperature": pool.temperature, "domain": domain}
                yield split, keys

    def of(self, responses: pd.DataFrame, keys: Mapping[str, Any]) -> pd.DataFrame:
        """Responses that belong to the row with these keys."""
        part = responses[responses["sample_seed"] == keys["sample_seed"]]
        if self.domains is None:
            return part
        return part[part["prompt_id"].map(self.domains) == keys["domain"]]


def _domains(prompts: str) -> dict[str, str]:
    """Domain of each prompt; all domains must have equally many prompts."""
    table = read_table(prompts, "prompts", ["prompt_id", "domain"])
    sizes = table["domain"].value_counts()
    if sizes.nunique() != 1:
        raise DataError(
            f"{prompts}: column 'domain' has groups of {sizes.to_dict()} prompts; domains are "
            "compared only with equally many prompts of each"
        )
    return dict(zip(table["prompt_id"], table["domain"], strict=True))


def _seconds_per_draw(files: Sequence[str]) -> dict[str, float]:
    """Seconds per draw of every training prompt, by kind of shard."""
    total = {"samples": 0.0, "rewards": 0.0}
    for file in map(Path, files):
        shard = read_json(file)
        total[file.name.partition("-")[0]] += shard["seconds"] / shard["draws"]
    return total


def points_of(
    record: dict[str, Any], folder: Path, measurement: Measurement
) -> list[dict[str, Any]]:
    """Rows of ``points`` of one run; numbers are NaN for a run that diverged.

    Args:
        record: Content of the run's ``run.json``.
        folder: Folder of its responses.
        measurement: Pools and settings to measure with.

    Raises:
        ArtifactError: If a run with status ``ok`` has no responses.
    """
    pool_tokens = int(measurement.train_tokens[_stored_draws(record)])
    base = {
        **dict.fromkeys(SCHEMAS["points"].columns, _NAN),
        **{name: record[name] for name in (*_IDENTITY, "status", "trainable_parameters")},
        **{k: _NAN if record[k] is None else float(record[k]) for k in ("n", "kl_coef")},
        **{"num_prompts": 0, "num_responses": 0},
        "sampled_tokens": record.get("sampled_tokens", 0) + pool_tokens,
    }
    if record["study"]:
        settings = record["spec"].get("logf", {})
        base |= {"m": settings.get("m", _NAN), "estimator": settings.get("estimator")}
    if record["status"] != "ok":
        return [base | keys for _, keys in measurement.groups()]
    paths = {split: folder / f"{split}.parquet" for split in measurement.pools}
    tables = {split: read_table(path, "responses") for split, path in paths.items()}
    rows = []
    for split, keys in measurement.groups():
        part, pool = measurement.of(tables[split], keys), measurement.pools[split]
        measured = summarise(part, pool.rewards, pool.evaluator_rewards, pool.first)
        rows.append(base | keys | {name: x for name, x in measured.items() if name in base})
    return rows


def _stored_draws(record: dict[str, Any]) -> int:
    """Draws per training prompt that the run used of the pool."""
    settings = record["spec"].get("logf", {})
    for_log_f = 0 if settings.get("estimator") == "ibs" else settings.get("m", 0)
    return max(for_log_f, record.get("stored_draws", 0))


def cost_of(record: dict[str, Any], measurement: Measurement) -> dict[str, Any]:
    """One row of ``costs``: time and memory of a run, which are not reproducible.

    ``pool_*_seconds`` is the time that drawing and scoring the pool took for as many draws of
    every training prompt as the run used.
    """
    seconds, stored = record.get("seconds", {}), _stored_draws(record)
    measured = ("train_seconds", "peak_memory_mb", "hardware")
    return {
        **{name: record[name] for name in (*_IDENTITY, *measured)},
        "sample_seed": measurement.seed,
        "temperature": measurement.temperature,
        "domain": "all",
        "sample_seconds": seconds.get("sample", 0.0),
        "score_seconds": seconds.get("score", 0.0),
        "pool_sample_seconds": stored * measurement.seconds["samples"],
        "pool_score_seconds": stored * measurement.seconds["rewards"],
        "updates": record.get("updates", 0),
    }

"""Rows of ``points`` and ``costs``, from what a run left on disk. Loads no torch."""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from vbon.artifacts import SCHEMAS, read_table
from vbon.errors import ArtifactError, DataError
from vbon.evaluation.metrics import Pools, summarise

_NAN = float("nan")


@dataclass(frozen=True)
class Pool:
    """Reference rewards of the test prompts at one temperature.

    Attributes:
        rewards: Ascending rewards of each test prompt.
        evaluator_rewards: The same by the held-out evaluator.
        first: Reward of each prompt's first draw.
        temperature: At which policies are sampled.
    """

    rewards: Pools
    evaluator_rewards: Pools
    first: dict[str, float]
    temperature: float

    @classmethod
    def load(cls, rewards: str, draws: int, temperature: float) -> "Pool":
        """Read the pool.

        Args:
            rewards: Table of the test prompts.
            draws: How many of a prompt's draws rank responses.
            temperature: Of these draws.
        """
        table = read_table(rewards, "rewards")
        ranking = table[table["draw"] < draws]
        grouped = ranking.groupby("prompt_id", sort=False)
        first = ranking[ranking["draw"] == 0].set_index("prompt_id")["reward"]
        return cls(
            {name: np.sort(group.to_numpy()) for name, group in grouped["reward"]},
            {name: np.sort(group.to_numpy()) for name, group in grouped["evaluator_reward"]},
            first.to_dict(),
            temperature,
        )


@dataclass(frozen=True)
class Measurement:
    """What the runs of a task were measured with.

    Attributes:
        pools: Reference rewards by the name of a set of responses.
        domains: Domain of each test prompt, if they are told apart.
        train_tokens: Tokens of all training prompts' first draws: of none, of one, of two, ...
        seconds: Of sampling and of scoring one draw of every training prompt.
        seed: Evaluation seed.
        sample_seeds: Seeds by which responses were sampled.
        temperature: Of training.
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
        """Read the pools, and what they cost.

        Args:
            samples: Table of the training prompts.
            prompts: Table of the test prompts.
            rewards: Tables of the test prompts, by the name of a set of responses.
            seconds: What the shards of the training prompts took, ``samples-*`` and ``rewards-*``.
            settings: ``splits`` (temperature by name), ``test_draws``, ``temperature``, ``seed``,
                and perhaps ``sample_seeds`` and ``by_domain``.

        Raises:
            DataError: If domains are told apart and one has more prompts than another.
        """
        train = read_table(samples, "samples", ["draw", "response_ids"])
        lengths = train["response_ids"].map(len).groupby(train["draw"]).sum().sort_index()
        draws, splits = settings["test_draws"], settings["splits"]
        return cls(
            {name: Pool.load(path, draws, splits[name]) for name, path in rewards.items()},
            _domains(prompts) if settings.get("by_domain") else None,
            np.append(0, lengths.cumsum().to_numpy()),
            _seconds_a_draw(seconds),
            settings["seed"],
            settings.get("sample_seeds") or [settings["seed"]],
            settings["temperature"],
        )

    def groups(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every set of responses with the keys of each row of points made of it."""
        domains = ["all"] if self.domains is None else sorted(set(self.domains.values()))
        for split, pool in self.pools.items():
            for seed, domain in itertools.product(self.sample_seeds, domains):
                yield (
                    split,
                    {"sample_seed": seed, "temperature": pool.temperature, "domain": domain},
                )

    def of(self, responses: pd.DataFrame, keys: Mapping[str, Any]) -> pd.DataFrame:
        """The responses that belong to a row."""
        part = responses[responses["sample_seed"] == keys["sample_seed"]]
        if self.domains is None:
            return part
        return part[part["prompt_id"].map(self.domains) == keys["domain"]]


def _domains(prompts: str) -> dict[str, str]:
    """Domain of each prompt; a comparison of domains needs as many prompts of each."""
    table = read_table(prompts, "prompts", ["prompt_id", "domain"])
    sizes = table["domain"].value_counts()
    if sizes.nunique() != 1:
        raise DataError(f"{prompts}: column 'domain' has groups of {sizes.to_dict()} prompts")
    return dict(zip(table["prompt_id"], table["domain"], strict=True))


def _seconds_a_draw(files: Sequence[str]) -> dict[str, float]:
    """Seconds of one draw of every training prompt, by kind of shard."""
    total = {"samples": 0.0, "rewards": 0.0}
    for file in map(Path, files):
        took = json.loads(file.read_text())
        total[file.name.partition("-")[0]] += took["seconds"] / took["draws"]
    return total


def _identity(record: dict[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in ("task", "method", "setting", "seed")}


def points_of(
    record: dict[str, Any], folder: Path, measurement: Measurement
) -> list[dict[str, Any]]:
    """The rows of ``points`` of one run; numbers are NaN for a run that diverged.

    Args:
        record: What the run left as ``run.json``.
        folder: Of its responses.
        measurement: What it was measured with.

    Raises:
        ArtifactError: If a run that is fine has no responses.
    """
    base = {
        **dict.fromkeys(SCHEMAS["points"].columns, _NAN),
        **_identity(record),
        "status": record["status"],
        "n": _NAN if record["n"] is None else float(record["n"]),
        "kl_coef": _NAN if record["kl_coef"] is None else float(record["kl_coef"]),
        "num_prompts": 0,
        "num_responses": 0,
        "sampled_tokens": record.get("sampled_tokens", 0)
        + int(measurement.train_tokens[_stored_draws(record)]),
        "trainable_parameters": record["trainable_parameters"],
    }
    if record["study"]:
        settings = record["spec"].get("logf", {})
        base |= {"m": settings.get("m", _NAN), "estimator": settings.get("estimator")}
    if record["status"] != "ok":
        return [base | keys for _, keys in measurement.groups()]
    tables = {split: _responses(folder / f"{split}.parquet") for split in measurement.pools}
    rows = []
    for split, keys in measurement.groups():
        part, pool = measurement.of(tables[split], keys), measurement.pools[split]
        measured = summarise(part, pool.rewards, pool.evaluator_rewards, pool.first)
        rows.append(base | keys | {name: x for name, x in measured.items() if name in base})
    return rows


def _responses(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise ArtifactError(f"{path} does not exist, but its run is done; evaluate it again")
    return read_table(path, "responses")


def _stored_draws(record: dict[str, Any]) -> int:
    """Draws a training prompt that the run used of those that were sampled before it."""
    settings = record["spec"].get("logf", {})
    for_log_f = 0 if settings.get("estimator") == "ibs" else settings.get("m", 0)
    return max(for_log_f, record.get("stored_draws", 0))


def cost_of(record: dict[str, Any], measurement: Measurement) -> dict[str, Any]:
    """One row of ``costs``: what the run took, apart from the numbers that must repeat.

    ``pool_*_seconds`` is the run's share of what drawing and scoring the pool took: as many draws
    of every training prompt as it used.
    """
    seconds, stored = record.get("seconds", {}), _stored_draws(record)
    return {
        **_identity(record),
        "sample_seed": measurement.seed,
        "temperature": measurement.temperature,
        "domain": "all",
        "train_seconds": record["train_seconds"],
        "sample_seconds": seconds.get("sample", 0.0),
        "score_seconds": seconds.get("score", 0.0),
        "pool_sample_seconds": stored * measurement.seconds["samples"],
        "pool_score_seconds": stored * measurement.seconds["rewards"],
        "peak_memory_mb": record["peak_memory_mb"],
        "updates": record.get("updates", 0),
        "hardware": record["hardware"],
    }

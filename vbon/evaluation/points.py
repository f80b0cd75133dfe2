"""Rows of ``points`` and ``costs``, from what a run left on disk. Loads no torch."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from vbon.artifacts import SCHEMAS, read_table
from vbon.errors import ArtifactError
from vbon.evaluation.metrics import Pools, summarise

_NAN = float("nan")


@dataclass(frozen=True)
class Pool:
    """Reference rewards of the test prompts, and the tokens that the training pool cost.

    Attributes:
        rewards: Ascending rewards of each test prompt.
        evaluator_rewards: The same by the held-out evaluator.
        first: Reward of each prompt's first draw.
        seconds: Of sampling and of scoring one draw of every training prompt.
        train_tokens: Tokens of all training prompts' first draws: of none, of one, of two, ...
        temperature: At which policies are sampled.
        seed: Evaluation seed.
    """

    rewards: Pools
    evaluator_rewards: Pools
    first: dict[str, float]
    train_tokens: Int[np.ndarray, " stored"]
    seconds: dict[str, float]
    temperature: float
    seed: int

    @classmethod
    def load(
        cls,
        samples: Sequence[str],
        rewards: str,
        seconds: Sequence[str],
        settings: dict[str, Any],
    ) -> "Pool":
        """Read the pool.

        Args:
            samples: Tables of the training and the test prompts.
            rewards: Table of the test prompts.
            seconds: What the shards of the training prompts took, ``samples-*`` and ``rewards-*``.
            settings: ``test_draws``, ``temperature``, ``seed``.
        """
        train = read_table(samples[0], "samples", ["draw", "response_ids"])
        lengths = train["response_ids"].map(len).groupby(train["draw"]).sum().sort_index()
        table = read_table(rewards, "rewards")
        ranking = table[table["draw"] < settings["test_draws"]]
        grouped = ranking.groupby("prompt_id", sort=False)
        first = ranking[ranking["draw"] == 0].set_index("prompt_id")["reward"]
        return cls(
            {name: np.sort(group.to_numpy()) for name, group in grouped["reward"]},
            {name: np.sort(group.to_numpy()) for name, group in grouped["evaluator_reward"]},
            first.to_dict(),
            np.append(0, lengths.cumsum().to_numpy()),
            _seconds_a_draw(seconds),
            settings["temperature"],
            settings["seed"],
        )


def _seconds_a_draw(files: Sequence[str]) -> dict[str, float]:
    """Seconds of one draw of every training prompt, by kind of shard."""
    total = {"samples": 0.0, "rewards": 0.0}
    for file in map(Path, files):
        took = json.loads(file.read_text())
        total[file.name.partition("-")[0]] += took["seconds"] / took["draws"]
    return total


def _keys(record: dict[str, Any], pool: Pool) -> dict[str, Any]:
    return {
        **{name: record[name] for name in ("task", "method", "setting", "seed")},
        "sample_seed": pool.seed,
        "temperature": pool.temperature,
        "domain": "all",
    }


def point_of(record: dict[str, Any], responses: Path, pool: Pool) -> dict[str, Any]:
    """One row of ``points``; numbers are NaN for a run that diverged.

    Raises:
        ArtifactError: If a run that is fine has no responses.
    """
    point = {
        **dict.fromkeys(SCHEMAS["points"].columns, _NAN),
        **_keys(record, pool),
        "status": record["status"],
        "n": _NAN if record["n"] is None else float(record["n"]),
        "kl_coef": _NAN if record["kl_coef"] is None else float(record["kl_coef"]),
        "num_prompts": 0,
        "num_responses": 0,
        "sampled_tokens": record.get("sampled_tokens", 0)
        + int(pool.train_tokens[_stored_draws(record)]),
        "trainable_parameters": record["trainable_parameters"],
    }
    if record["study"]:
        settings = record["spec"].get("logf", {})
        point |= {"m": settings.get("m", _NAN), "estimator": settings.get("estimator")}
    if record["status"] != "ok":
        return point
    if not responses.exists():
        raise ArtifactError(f"{responses} does not exist, but its run is done; evaluate it again")
    measured = summarise(
        read_table(responses, "responses"), pool.rewards, pool.evaluator_rewards, pool.first
    )
    return point | {name: value for name, value in measured.items() if name in point}


def _stored_draws(record: dict[str, Any]) -> int:
    """Draws a training prompt that the run used of those that were sampled before it."""
    settings = record["spec"].get("logf", {})
    for_log_f = 0 if settings.get("estimator") == "ibs" else settings.get("m", 0)
    return max(for_log_f, record.get("stored_draws", 0))


def cost_of(record: dict[str, Any], pool: Pool) -> dict[str, Any]:
    """One row of ``costs``: what the run took, apart from the numbers that must repeat.

    ``pool_*_seconds`` is the run's share of what drawing and scoring the pool took: as many draws
    of every training prompt as it used.
    """
    seconds, stored = record.get("seconds", {}), _stored_draws(record)
    return {
        **_keys(record, pool),
        "train_seconds": record["train_seconds"],
        "sample_seconds": seconds.get("sample", 0.0),
        "score_seconds": seconds.get("score", 0.0),
        "pool_sample_seconds": stored * pool.seconds["samples"],
        "pool_score_seconds": stored * pool.seconds["rewards"],
        "peak_memory_mb": record["peak_memory_mb"],
        "updates": record.get("updates", 0),
        "hardware": record["hardware"],
    }

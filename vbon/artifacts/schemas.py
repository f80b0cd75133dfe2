"""Columns of every table artifact, checked when a table is written or read.

A table may carry more columns than its schema (studies add their own), never fewer.
"""

from dataclasses import dataclass

import pyarrow as pa

STRING, BOOL, INT, LONG, FLOAT = pa.string(), pa.bool_(), pa.int32(), pa.int64(), pa.float64()
TOKENS, FLOATS = pa.list_(pa.int32()), pa.list_(pa.float64())


@dataclass(frozen=True)
class Schema:
    """Name, version, key columns and column types of one kind of table."""

    name: str
    keys: tuple[str, ...]
    columns: dict[str, pa.DataType]
    version: int = 1


_REWARDS = {"reward": FLOAT, "reward_prob": FLOAT, "evaluator_reward": FLOAT}
_POINT_KEYS = {
    "task": STRING,
    "method": STRING,
    "setting": STRING,
    "seed": INT,
    "sample_seed": INT,
    "temperature": FLOAT,
    "domain": STRING,
}
_POINT_NUMBERS = [
    "kl",
    "kl_se",
    "kl_k1",
    "kl_k3",
    "win_rate",
    "win_rate_se",
    "win_rate_single",
    "evaluator_win_rate",
    "evaluator_win_rate_se",
    "reward",
    "reward_se",
    "reward_prob",
    "reward_prob_se",
    "evaluator_reward",
    "evaluator_reward_se",
    "response_length",
    "eos_rate",
    "distinct_2",
    "saturation",
]

SCHEMAS: dict[str, Schema] = {
    schema.name: schema
    for schema in (
        Schema("texts", ("source_id",), {"source_id": STRING, "part": STRING}),
        Schema(
            "prompts",
            ("prompt_id",),
            {
                "prompt_id": STRING,
                "prompt": STRING,
                "prompt_ids": TOKENS,
                "source_id": STRING,
                "domain": STRING,
            },
        ),
        Schema(
            "samples",
            ("prompt_id", "draw"),
            {
                "prompt_id": STRING,
                "draw": INT,
                "response": STRING,
                "response_ids": TOKENS,
                "finished": BOOL,
                "log_prob": FLOAT,
            },
        ),
        Schema("text_rewards", ("text",), {"text": STRING, "reward": FLOAT}),
        Schema(
            "strings",
            ("prompt_id", "response_ids"),
            {
                "prompt_id": STRING,
                "response_ids": TOKENS,
                "log_prob": FLOAT,
                "reward": FLOAT,
                "evaluator_reward": FLOAT,
            },
        ),
        Schema("rewards", ("prompt_id", "draw"), {"prompt_id": STRING, "draw": INT, **_REWARDS}),
        Schema(
            "pairs",
            ("prompt_id", "pair"),
            {"prompt_id": STRING, "pair": INT, "chosen": INT, "rejected": INT},
        ),
        Schema(
            "logf",
            ("prompt_id",),
            {
                "prompt_id": STRING,
                "num_draws": INT,
                "rewards_sorted": FLOATS,
                "exp_a": FLOAT,
                "exp_b": FLOAT,
                "exp_rmse": FLOAT,
            },
        ),
        Schema(
            "prior",
            ("prompt_id",),
            {"prompt_id": STRING, "knots": FLOATS, "shares": FLOATS, "worth": FLOAT},
        ),
        Schema(
            "history",
            ("step",),
            {
                "step": INT,
                "episodes": LONG,
                "objective": FLOAT,
                "reward": FLOAT,
                "kl": FLOAT,
                "clip_fraction": FLOAT,
                "grad_norm": FLOAT,
                "learning_rate": FLOAT,
                "seconds": FLOAT,
            },
        ),
        Schema(
            "responses",
            ("prompt_id", "draw"),
            {
                "prompt_id": STRING,
                "draw": INT,
                "response": STRING,
                "response_ids": TOKENS,
                "finished": BOOL,
                "log_prob": FLOAT,
                "log_prob_ref": FLOAT,
                "kl": FLOAT,
                "kl_k3": FLOAT,
                "sample_seed": INT,
                **_REWARDS,
            },
        ),
        Schema(
            "points",
            tuple(_POINT_KEYS),
            {
                **_POINT_KEYS,
                "status": STRING,
                "n": FLOAT,
                "kl_coef": FLOAT,
                "num_prompts": INT,
                "num_responses": INT,
                **dict.fromkeys(_POINT_NUMBERS, FLOAT),
                "sampled_tokens": LONG,
                "trainable_parameters": LONG,
            },
        ),
        Schema(
            "costs",
            tuple(_POINT_KEYS),
            {
                **_POINT_KEYS,
                "train_seconds": FLOAT,
                "sample_seconds": FLOAT,
                "score_seconds": FLOAT,
                "pool_sample_seconds": FLOAT,
                "pool_score_seconds": FLOAT,
                "peak_memory_mb": FLOAT,
                "updates": LONG,
                "hardware": STRING,
            },
        ),
        Schema(
            "pareto",
            ("front", "axes", "method"),
            {
                "front": STRING,
                "axes": STRING,
                "method": STRING,
                "runs": INT,
                "on_front": INT,
                "share": FLOAT,
                "share_low": FLOAT,
                "share_high": FLOAT,
                "hypervolume": FLOAT,
                "hypervolume_low": FLOAT,
                "hypervolume_high": FLOAT,
            },
        ),
    )
}
"""Schemas by table name."""

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


def _all(kind: pa.DataType, names: str) -> dict[str, pa.DataType]:
    """Columns of one type, by their names in one string."""
    return dict.fromkeys(names.split(), kind)


_PROMPT = {"prompt_id": STRING}
_DRAW = {**_PROMPT, "draw": INT}
_REWARDS = _all(FLOAT, "reward reward_prob evaluator_reward")
_RESPONSE = {"response": STRING, "response_ids": TOKENS, "finished": BOOL, "log_prob": FLOAT}
_POINT = {
    **_all(STRING, "task method setting"),
    **_all(INT, "seed sample_seed"),
    **{"temperature": FLOAT, "domain": STRING},
}

# Columns of the key, then the others.
_COLUMNS = {
    "texts": (_all(STRING, "source_id"), _all(STRING, "part")),
    "prompts": (
        _PROMPT,
        {"prompt": STRING, "prompt_ids": TOKENS, **_all(STRING, "source_id domain")},
    ),
    "samples": (_DRAW, _RESPONSE),
    "text_rewards": (_all(STRING, "text"), _all(FLOAT, "reward")),
    "strings": (
        {**_PROMPT, "response_ids": TOKENS},
        _all(FLOAT, "log_prob reward evaluator_reward"),
    ),
    "rewards": (_DRAW, _REWARDS),
    "pairs": ({**_PROMPT, "pair": INT}, _all(INT, "chosen rejected")),
    "logf": (
        _PROMPT,
        {"num_draws": INT, "rewards_sorted": FLOATS, **_all(FLOAT, "exp_a exp_b exp_rmse")},
    ),
    "prior": (_PROMPT, {**_all(FLOATS, "knots shares"), "worth": FLOAT}),
    "history": (
        _all(INT, "step"),
        _all(LONG, "episodes")
        | _all(FLOAT, "objective reward kl clip_fraction grad_norm learning_rate seconds"),
    ),
    "responses": (
        _DRAW,
        {**_RESPONSE, **_all(FLOAT, "log_prob_ref kl kl_k3"), "sample_seed": INT, **_REWARDS},
    ),
    "points": (
        _POINT,
        {"status": STRING, "n": FLOAT, "kl_coef": FLOAT, "num_prompts": INT, "num_responses": INT}
        | _all(
            FLOAT,
            "kl kl_se kl_k1 kl_k3 win_rate win_rate_se win_rate_single evaluator_win_rate "
            "evaluator_win_rate_se reward reward_se reward_prob reward_prob_se evaluator_reward "
            "evaluator_reward_se response_length eos_rate distinct_2 saturation",
        )
        | _all(LONG, "sampled_tokens trainable_parameters"),
    ),
    "costs": (
        _POINT,
        _all(FLOAT, "train_seconds sample_seconds score_seconds pool_sample_seconds")
        | _all(FLOAT, "pool_score_seconds peak_memory_mb")
        | {"updates": LONG, "hardware": STRING},
    ),
    "pareto": (
        _all(STRING, "front axes method"),
        _all(INT, "runs on_front")
        | _all(FLOAT, "share share_low share_high hypervolume hypervolume_low hypervolume_high"),
    ),
}

SCHEMAS: dict[str, Schema] = {
    name: Schema(name, tuple(keys), keys | others) for name, (keys, others) in _COLUMNS.items()
}
"""Schemas by table name."""

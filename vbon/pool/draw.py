"""Draws of the reference for a table of prompts."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from vbon.batches import Prompts
from vbon.errors import ConfigError
from vbon.models.context import context_length
from vbon.models.end_tokens import end_token_ids, tokenless_ids
from vbon.models.language_model import load_language_model, load_tokenizer
from vbon.models.paths import path_of
from vbon.pool.table import rollout_rows
from vbon.sampling.backends import make_backend
from vbon.seeding import derive_seed


def draw(
    table: pd.DataFrame, reference: str, settings: Mapping[str, Any], draws: int, seed: int
) -> Iterator[tuple[float, pd.DataFrame, float]]:
    """Draw responses to each prompt at each of some temperatures.

    Args:
        table: Rows of schema "prompts".
        reference: Model folder.
        settings: How responses are drawn: ``temperatures``, ``backend``, ``max_new_tokens``,
            ``prompts_per_batch``.
        draws: Draws per prompt.
        seed: Base seed.

    Yields:
        For each temperature: the temperature, rows of schema "samples" in the order of the prompts,
        and the seconds that drawing alone took.
    """
    torch.set_num_threads(1)
    model, tokenizer = load_language_model(reference), load_tokenizer(reference)
    eos_token_id, tokenless = end_token_ids(tokenizer, model), tokenless_ids(tokenizer, model)
    print(f"{type(model).__name__}: log-probs by path {path_of(model).name!r}", flush=True)
    longest = table["prompt_ids"].map(len).max()
    limit = context_length(model.config)
    if limit is not None and longest + settings["max_new_tokens"] > limit:
        raise ConfigError(
            f"reference: its context is {limit} tokens, too few for a prompt of {longest} tokens "
            f"and sampling.max_new_tokens = {settings['max_new_tokens']} together; lower that or "
            "prompts.max_tokens, or give another reference"
        )
    backend = make_backend(settings, reference, model)
    # Prompts of one length go together, so that no padding is decoded; a prompt's draws depend
    # on its id alone, and the original order is restored below.
    order = table["prompt_ids"].map(len).to_numpy().argsort(kind="stable")
    options = {"max_new_tokens": settings["max_new_tokens"], "eos_token_id": eos_token_id}
    options |= {"draws": draws, "seed": derive_seed(seed, "pool")}
    for temperature in settings["temperatures"]:
        parts, seconds = [], 0.0
        for start in range(0, len(table), settings["prompts_per_batch"]):
            rows = table.iloc[order[start : start + settings["prompts_per_batch"]]]
            prompts = Prompts.from_lists(rows["prompt_ids"].tolist(), rows["prompt_id"].tolist())
            started = time.perf_counter()
            rollouts = backend(prompts, temperature=temperature, **options)
            seconds += time.perf_counter() - started
            parts.append(rollout_rows(rollouts, prompts, tokenizer))
            print(f"{start + len(rows)}/{len(table)} prompts sampled", flush=True)
        frame = pd.concat(parts, ignore_index=True)
        restored = np.arange(len(frame)).reshape(-1, draws)[order.argsort()].ravel()
        frame = frame.iloc[restored].reset_index(drop=True)
        if tokenless:  # decided by the models, so that all shards have the same columns
            frame["tokenless"] = [len(tokenless.intersection(ids)) for ids in frame["response_ids"]]
            share = (frame["tokenless"] > 0).mean()
            print(
                f"warning: the model has {len(tokenless)} ids without a token of its tokenizer; "
                f"{share:.2%} of the draws at temperature {temperature:g} contain one, which no "
                "text shows",
                flush=True,
            )
        yield temperature, frame, seconds

"""Backends that draw the reference's responses, with one interface."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from vbon.batches import Prompts, Rollouts
from vbon.errors import DataError
from vbon.models.language_model import token_log_probs
from vbon.sampling.decode import sample

MAX_GAP = 0.1
"""Largest mean difference in log-prob between backend and model, in nats per token. Rounding to
bfloat16 gives a tenth of it, another model ten times as much."""


Backend = Callable[..., Rollouts]
"""Function of prompts and the options of :func:`vbon.sampling.sample`, except for its value head.
It draws from the model's own distribution: no top-k, top-p or penalties."""


def make_backend(
    settings: Mapping[str, Any], folder: str | Path, model: PreTrainedModel
) -> Backend:
    """Backend named in the section ``sampling`` of a config.

    Args:
        settings: ``backend``, and for vLLM its section ``vllm``.
        folder: Folder of the model, or of a pointer to one.
        model: The same model, loaded as for training.

    Returns:
        A backend whose log-probs are those of ``model``, whichever program draws.

    Raises:
        ConfigError: If the backend is not installed.
    """
    if settings["backend"] == "native":
        return partial(sample, model)
    from vbon.sampling.vllm import VLLM

    return partial(_checked, VLLM(folder, **settings["vllm"]), model)


@torch.no_grad()
def _checked(
    backend: Backend,
    model: PreTrainedModel,
    prompts: Prompts,
    *,
    temperature: float,
    **options: Any,
) -> Rollouts:
    """Draws of another program, checked against the model and with its log-probs."""
    rollouts = backend(prompts, temperature=temperature, **options)
    repeated = prompts.select(rollouts.prompt_index)
    mask = rollouts.response_mask
    log_probs = token_log_probs(model, repeated, rollouts.response_ids, mask, temperature)
    gap = (log_probs - rollouts.token_log_probs)[mask].abs().mean().item()
    print(f"log-probs of sampler and model differ by {gap:.1e} nats per token", flush=True)
    if not gap <= MAX_GAP:
        raise DataError(
            f"sampling.backend: its log-probs differ from the reference's by {gap:.2g} nats per "
            f"token, more than {MAX_GAP}; set sampling.vllm.dtype to float32, or "
            "sampling.backend to transformers"
        )
    return replace(rollouts, token_log_probs=log_probs)

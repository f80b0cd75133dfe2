"""What may draw the reference's responses, behind one protocol."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from transformers import PreTrainedModel

from vbon.batches import Prompts, Rollouts
from vbon.errors import DataError
from vbon.models.language_model import token_log_probs
from vbon.sampling.decode import sample

MAX_GAP = 0.1
"""Nats a token by which a backend may differ from the model: rounding to bfloat16 gives a tenth
of it, another model ten times as much."""


@runtime_checkable
class Backend(Protocol):
    """Draws responses from the model's own distribution, without top-k, top-p or penalties.

    A response ends with a sampled ``eos_token_id``, which counts as a token of it, or unfinished
    at the length limit. Draws of a prompt stand together, in the order of prompts.
    """

    def __call__(
        self,
        prompts: Prompts,
        *,
        draws: int,
        max_new_tokens: int,
        eos_token_id: int,
        seed: int,
        temperature: float = 1.0,
    ) -> Rollouts: ...


def make_backend(
    settings: Mapping[str, Any], folder: str | Path, model: PreTrainedModel
) -> Backend:
    """The backend that the section ``sampling`` of a config names.

    Args:
        settings: ``backend``, and for vLLM its section ``vllm``.
        folder: Folder of the model, or of a pointer to one.
        model: The same model, loaded as it is for training.

    Returns:
        A backend whose log-probs are those of ``model``, whatever has drawn.

    Raises:
        ConfigError: If the backend is not installed.
    """
    if settings["backend"] == "transformers":
        return partial(sample, model)
    from vbon.sampling.vllm import VLLM

    return partial(_checked, VLLM(folder, **settings["vllm"]), model)


@torch.no_grad()
def _checked(
    backend: Backend, model: PreTrainedModel, prompts: Prompts, *, temperature: float, **how: Any
) -> Rollouts:
    """Draws of another program, with the log-probs of the model that is trained."""
    rollouts = backend(prompts, temperature=temperature, **how)
    asked = prompts.select(rollouts.prompt_index)
    mask = rollouts.response_mask
    found = token_log_probs(model, asked, rollouts.response_ids, mask, temperature)
    gap = (found - rollouts.token_log_probs)[mask].abs().mean().item()
    print(f"log-probs of sampler and model differ by {gap:.1e} nats a token", flush=True)
    if not gap <= MAX_GAP:
        raise DataError(
            f"sampling.backend: what it draws from differs from the reference by {gap:.2g} nats a "
            f"token (at most {MAX_GAP}); give sampling.vllm.dtype float32, or another backend"
        )
    return replace(rollouts, token_log_probs=found)

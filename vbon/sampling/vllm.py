"""Draw responses with vLLM: the same distribution, for large models and many draws.

Only this file knows vLLM, and it is loaded where a config says ``backend: vllm``.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vbon.batches import Prompts, Rollouts
from vbon.errors import ConfigError, missing_vllm
from vbon.models.language_model import resolve
from vbon.sampling.decode import prompt_seeds

_ENVIRONMENT = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",  # nothing is sent anywhere
    "HF_HUB_OFFLINE": "1",  # the model is a folder
}
"""Set before vLLM is loaded, unless they are already."""


class VLLM:
    """A model served in this process; :meth:`__call__` is a sampling backend.

    All draws of a prompt are one request, so its prompt is stored once. A prompt's draws have a
    seed of their own, but rounding depends on what is computed beside them: on another machine, or
    in another batch, a draw may turn where two tokens are all but equally far.

    Args:
        folder: Folder of the model, or of a pointer to one.
        dtype: ``float32`` or ``bfloat16``, of weights and activations.
        tensor_parallel_size: GPUs that hold a part of the model each.
        gpu_memory_utilization: Share of a GPU's memory for the model and its cache. A processor's
            cache is as large as the environment's ``VLLM_CPU_KVCACHE_SPACE`` (GiB).

    Raises:
        ConfigError: If vLLM is not installed, or cannot serve this model here.

    Example:
        ``VLLM("results/sentiment/models/reference")(prompts, draws=600, max_new_tokens=24,
        eos_token_id=1, seed=0)``
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        dtype: str = "float32",
        tensor_parallel_size: int = 1,
        gpu_memory_utilization: float = 0.6,
    ) -> None:
        if why := missing_vllm("sampling.backend"):
            raise ConfigError(why)
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        if tensor_parallel_size == 1:
            # In this process: nothing is left behind if it is killed.
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        import vllm

        self._vllm = vllm
        with _explained():
            self._engine = vllm.LLM(
                model=str(resolve(folder)),
                skip_tokenizer_init=True,
                generation_config="vllm",  # no top-k or penalty that the folder may ask for
                logprobs_mode="processed_logprobs",  # at the temperature of sampling
                dtype=dtype,
                tensor_parallel_size=tensor_parallel_size,
                gpu_memory_utilization=gpu_memory_utilization,
                enable_prefix_caching=True,
                disable_log_stats=True,
            )

    def __call__(
        self,
        prompts: Prompts,
        *,
        draws: int,
        max_new_tokens: int,
        eos_token_id: int,
        seed: int,
        temperature: float = 1.0,
    ) -> Rollouts:
        """Draw ``draws`` responses to each prompt, as :func:`vbon.sampling.sample` does."""
        requests = [{"prompt_token_ids": ids} for ids in prompts.id_lists()]
        asked = [
            self._vllm.SamplingParams(
                n=draws,
                temperature=temperature,
                max_tokens=max_new_tokens,
                seed=own,
                logprobs=0,  # of the sampled token alone
                stop_token_ids=[eos_token_id],
                ignore_eos=True,  # other ends that the model's folder may name
                detokenize=False,
            )
            for own in prompt_seeds(prompts, seed)
        ]
        with _explained():
            answers = self._engine.generate(requests, asked, use_tqdm=False)
        found = [draw for answer in answers for draw in sorted(answer.outputs, key=_index)]
        return _as_rollouts(found, draws, max_new_tokens, eos_token_id)


@contextmanager
def _explained() -> Iterator[None]:
    """Turn what vLLM raises about models and machines that it does not support into one line."""
    try:
        yield
    except (AssertionError, NotImplementedError, RuntimeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"sampling.backend: vLLM cannot draw from this model here: {reason}; change "
            "sampling.vllm, or give transformers"
        ) from error


def _index(draw: Any) -> int:
    return draw.index


def _as_rollouts(found: list[Any], draws: int, max_new_tokens: int, eos_token_id: int) -> Rollouts:
    """What vLLM returned, in this project's terms."""
    ids = torch.zeros(len(found), max_new_tokens, dtype=torch.long)
    mask, log_probs = torch.zeros_like(ids, dtype=torch.bool), torch.zeros(ids.shape)
    for row, draw in enumerate(found):
        count = len(draw.token_ids)
        ids[row, :count] = torch.tensor(draw.token_ids)
        mask[row, :count] = True
        log_probs[row, :count] = _log_probs(draw.token_ids, draw.logprobs)
    finished = (mask & (ids == eos_token_id)).any(1)
    return Rollouts(torch.arange(len(found)) // draws, ids, mask, finished, log_probs)


def _log_probs(tokens: list[int], given: list[Mapping[int, Any]]) -> Float[Tensor, " tokens"]:
    """Log-prob of each sampled token."""
    pairs = zip(tokens, given, strict=True)
    return torch.tensor([options[token].logprob for token, options in pairs])

"""Sampling with vLLM: the same distribution, for large models and many draws.

Only this file uses vLLM, and imports it only if a config has ``backend: vllm``.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path

import torch

from vbon.batches import Prompts, Rollouts
from vbon.errors import ConfigError, missing_vllm
from vbon.models.loading import resolve
from vbon.sampling.decode import prompt_seeds

_ENVIRONMENT = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",  # sends no statistics
    "HF_HUB_OFFLINE": "1",  # the model is a local folder
}
"""Environment variables set before vLLM is imported, unless already set."""


class VLLM:
    """Sampling backend that serves a model in this process.

    All draws of a prompt are one request, so its keys and values are stored once. Each prompt has
    its own seed. Rounding depends on the batch and the machine, however, so with others a draw may
    differ where two tokens are nearly tied.

    Args:
        folder: Folder of the model, or of a pointer to one.
        dtype: ``float32`` or ``bfloat16``, of weights and activations.
        tensor_parallel_size: Number of GPUs that the model is split over.
        gpu_memory_utilization: Share of a GPU's memory for the model and its cache. On a processor
            the environment variable ``VLLM_CPU_KVCACHE_SPACE`` (GiB) sets the size of the cache.

    Raises:
        ConfigError: If vLLM is not installed, or cannot serve this model on this machine.

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
            # Run the engine in this process, so that a kill leaves no other process behind.
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        import vllm

        self._vllm = vllm
        with _explained():
            self._engine = vllm.LLM(
                model=str(resolve(folder)),
                skip_tokenizer_init=True,
                generation_config="vllm",  # ignore top-k or penalties of the model's folder
                logprobs_mode="processed_logprobs",  # at the sampling temperature
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
        eos_token_id: int | Sequence[int],
        seed: int,
        temperature: float = 1.0,
    ) -> Rollouts:
        """Draw ``draws`` responses to each prompt, as :func:`vbon.sampling.sample` does."""
        ends = torch.tensor(eos_token_id).reshape(-1)
        requests = [{"prompt_token_ids": ids} for ids in prompts.id_lists()]
        parameters = [
            self._vllm.SamplingParams(
                n=draws,
                temperature=temperature,
                max_tokens=max_new_tokens,
                seed=prompt_seed,
                logprobs=0,  # of the sampled token only
                stop_token_ids=ends.tolist(),
                ignore_eos=True,  # ignore other end tokens of the model's folder
                detokenize=False,
            )
            for prompt_seed in prompt_seeds(prompts, seed)
        ]
        with _explained():
            answers = self._engine.generate(requests, parameters, use_tqdm=False)
        outputs = [
            draw for answer in answers for draw in sorted(answer.outputs, key=attrgetter("index"))
        ]
        ids = torch.zeros(len(outputs), max_new_tokens, dtype=torch.long)
        mask, log_probs = torch.zeros_like(ids, dtype=torch.bool), torch.zeros(ids.shape)
        for row, draw in enumerate(outputs):
            count, pairs = len(draw.token_ids), zip(draw.token_ids, draw.logprobs, strict=True)
            ids[row, :count] = torch.tensor(draw.token_ids)
            mask[row, :count] = True
            log_probs[row, :count] = torch.tensor([each[token].logprob for token, each in pairs])
        finished = (mask & torch.isin(ids, ends)).any(1)
        return Rollouts(torch.arange(len(outputs)) // draws, ids, mask, finished, log_probs)


@contextmanager
def _explained() -> Iterator[None]:
    """Turn vLLM's errors about unsupported models and machines into one line."""
    try:
        yield
    except (AssertionError, NotImplementedError, RuntimeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"sampling.backend: vLLM cannot draw from this model on this machine ({reason}); "
            "change sampling.vllm, or set sampling.backend to native"
        ) from error

"""Packages that only some configurations need."""

import importlib.util


def missing_vllm(where: str) -> str | None:
    """Why vLLM cannot be used, and how to install it; None if it can. It is not loaded.

    Args:
        where: Path in the config of the backend that asks for it.

    Example:
        >>> "vllm" in (missing_vllm("sentiment.sampling.backend") or "vllm")
        True
    """
    if importlib.util.find_spec("vllm") is not None:
        return None
    return (
        f"{where}: 'vllm' is not installed here; `make vllm` adds its build for processors, "
        "`pip install -e '.[vllm]'` that for GPUs"
    )

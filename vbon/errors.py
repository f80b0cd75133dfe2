"""Errors that a user can act on: one line naming the key or column, the value and the remedy.

The command line prints these without a traceback; anything else is a bug and keeps its traceback.
"""

import importlib.util


class VbonError(ValueError):
    """An error whose message is meant for the person at the keyboard."""


class ConfigError(VbonError):
    """A configuration key has a value that cannot work."""


class DataError(VbonError):
    """Input text, rewards or samples cannot be used."""


class ArtifactError(VbonError):
    """An artifact is missing, truncated, or not of the schema its reader expects."""


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

"""Errors that a user can act on, each a line that names the key or column, value and remedy.

The command line prints these without a traceback; any other error is a bug and keeps it.
"""

import importlib.util


class VbonError(ValueError):
    """An error whose message is meant for the user."""


class ConfigError(VbonError):
    """A configuration key has an invalid value."""


class DataError(VbonError):
    """Input texts, rewards, samples or tables cannot be used."""


class ArtifactError(VbonError):
    """An artifact is missing, damaged, or has another schema than its reader expects."""


def missing_vllm(where: str) -> str | None:
    """Message if vLLM is not installed, with the command to install it; None if it is.

    vLLM is not imported.

    Args:
        where: Config key of the backend, for the message.

    Example:
        >>> "vllm" in (missing_vllm("sentiment.sampling.backend") or "vllm")
        True
    """
    if importlib.util.find_spec("vllm") is not None:
        return None
    return (
        f"{where}: 'vllm' is not installed here; install its build for processors with "
        "`make vllm`, that for GPUs with `pip install -e '.[vllm]'`"
    )

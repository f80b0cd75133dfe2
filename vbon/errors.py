"""Errors that a user can act on, each a line that names the key or column, value and remedy.

The command line prints these without a traceback; any other error is a bug and keeps it.
"""

import importlib.util
import re
from typing import Any

_NUMBER = re.compile(r"([+-]?)(?=\.?\d)(\d*)(\.\d*)?(?:[eE]([+-]?)(\d+))?")


class VbonError(ValueError):
    """An error whose message is meant for the user."""


class ConfigError(VbonError):
    """A configuration key has an invalid value."""


class DataError(VbonError):
    """Input texts, rewards, samples or tables cannot be used."""


class ArtifactError(VbonError):
    """An artifact is missing, damaged, or has another schema than its reader expects."""


def reason(error: BaseException) -> str:
    r"""Why an operation failed, in one line: the message of a library's error, or its kind.

    Example:
        >>> reason(ValueError("no digits\n  in line 3")), reason(RecursionError())
        ('no digits in line 3', 'nested too deeply')
    """
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return " ".join(str(error).split())[:300] or type(error).__name__


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


def number_hint(value: Any) -> str:
    """Remedy for a number that YAML 1.1 reads as text; empty for any other value.

    Args:
        value: A value that should be a number, or a list of such values.

    Example:
        >>> number_hint("1e-4"), number_hint([0.5, "2E5"])
        (' (YAML reads it as text: write 1.0e-4)', ' (YAML reads it as text: write 2.0e+5)')
        >>> number_hint("fast"), number_hint(0)
        ('', '')
    """
    texts = [each for each in (value if isinstance(value, list) else [value]) if type(each) is str]
    match = next(filter(None, map(_NUMBER.fullmatch, map(str.strip, texts))), None)
    if match is None:
        return ""
    sign, whole, fraction, exponent_sign, exponent = match.groups()
    number = f"{sign}{whole or 0}"
    if fraction is not None or exponent is not None:
        number += f".{(fraction or '.')[1:] or 0}"
    if exponent is not None:
        number += f"e{exponent_sign or '+'}{exponent}"
    return f" (YAML reads it as text: write {number})"

"""Why a chat template fails, in words for a line of an error."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError


def template_fault(error: Exception, messages: Sequence[Mapping[str, Any]]) -> str:
    """Objection of a chat template to a conversation, and the remedy.

    Args:
        error: What rendering raised, which may be anything.
        messages: The conversation.

    Example:
        >>> template_fault(TemplateError("no system role"), [{"role": "system", "content": ""}])
        'refuses its messages (no system role); correct them, or drop prompts.system'
        >>> template_fault(TypeError("no text"), [])
        'fails on its messages (TypeError: no text); correct them or the template'
    """
    reason = " ".join(str(error).split())[:200]
    if isinstance(error, TemplateSyntaxError):
        return f"is not valid Jinja (line {error.lineno}: {reason}); correct the template"
    if type(error) is not TemplateError:  # which a template raises by `raise_exception`
        kind = type(error).__name__
        return f"fails on its messages ({kind}: {reason}); correct them or the template"
    has_system = any(message["role"] == "system" for message in messages)
    remedy = "correct them, or drop prompts.system" if has_system else "correct them"
    return f"refuses its messages ({reason}); {remedy}"

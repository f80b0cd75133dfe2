"""Find kinds of task by name: ``vbon/tasks/<kind>.py`` registers the kind ``<kind>``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from vbon.artifacts.plugins import Registry
from vbon.artifacts.steps import Kind
from vbon.tasks.base import Task

KINDS = Registry("kind", "kind", Path(__file__).parent, "VBON_TASKS")
register = KINDS.register


def kind_of(name: str, section: Mapping[str, Any]) -> Any:
    """Kind that a section gives, unchecked, or that of its name; None without either."""
    if "kind" in section:
        return section["kind"]
    named = (kind for kind in KINDS.files() if KINDS.get(kind).section_name == name)
    return next(named, name if name in KINDS.files() else None)


def make_task(section: Mapping[str, Any]) -> Task:
    """The task of a section with a kind.

    Example:
        >>> make_task({"kind": "enumerable", "num_prompts": 2}).num_prompts
        {'train': 2, 'test': 2}
    """
    return KINDS.get(section["kind"])(section)


Section = Annotated[Task, Kind("setting", make_task)]
"""Parameter of a step that is a task: its section, or the part that the step needs."""

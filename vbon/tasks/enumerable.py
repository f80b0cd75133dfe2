"""A language short enough to enumerate, where every optimum is known."""

from pathlib import Path
from typing import Any

from vbon.tasks.base import Task
from vbon.tasks.registry import register


@register
class Enumerable(Task):
    """Complete a string of a language of a few hundred, where every optimum is a finite sum."""

    section_name = "enumerable"
    schema = "enumerable_section"
    figures = ("optimum",)
    tables = (*Task.tables, "optimum")
    claims = ("invariance",)
    shares_pool = False

    @property
    def num_prompts(self) -> dict[str, int]:
        """Number of prompts; both splits have the same."""
        return dict.fromkeys(("train", "test"), self.section["num_prompts"])

    def write(self, root: Path, seed: int, provenance: dict[str, Any]) -> None:
        """Write models, rewards, prompts and the table of all strings."""
        from vbon.tasks.language import save

        save(root, self.section, self.section["sampling"]["max_new_tokens"], seed, provenance)

"""A language short enough to enumerate, where every optimum can be computed."""

from pathlib import Path
from typing import Any

from vbon.errors import ConfigError
from vbon.tasks.base import Task
from vbon.tasks.registry import register

MOST_STRINGS = 100_000
"""Limit of strings per prompt, since all are listed and each policy is a table of them."""


@register
class Enumerable(Task):
    """Complete a string of a language of a few hundred strings; every optimum is a finite sum."""

    section_name = "enumerable"
    schema = "enumerable_section"
    figures = ("optimum",)
    tables = (*Task.tables, "optimum")
    claims = ("invariance",)
    shares_pool = False

    def check(self, where: str) -> None:
        """Refuse a language with more strings than can be listed."""
        letters, longest = self.section["num_letters"], self.section["sampling"]["max_new_tokens"]
        strings = sum(letters**length for length in range(longest + 1))
        if strings > MOST_STRINGS:
            raise ConfigError(
                f"{where}.sampling.max_new_tokens: {longest} is not allowed with "
                f"{where}.num_letters = {letters}, since {strings:.1g} strings are more than "
                f"{MOST_STRINGS}; lower one of them"
            )

    @property
    def num_prompts(self) -> dict[str, int]:
        """Number of prompts; both splits have the same."""
        return dict.fromkeys(("train", "test"), self.section["num_prompts"])

    def write(self, root: Path, seed: int, provenance: dict[str, Any]) -> None:
        """Write models, rewards, prompts and the table of all strings."""
        from vbon.tasks.language import save

        save(root, self.section, self.section["sampling"]["max_new_tokens"], seed, provenance)

"""What a report is made from: tables, drawn figures and the cards beside them, by name."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from vbon.artifacts import SCHEMAS, read_table
from vbon.artifacts.fingerprint import MEASURED
from vbon.artifacts.tables import read_copy, read_provenance


@dataclass(frozen=True)
class Task:
    """One task's part of a report.

    Attributes:
        name: Of the task.
        paths: Files by name: ``points``, ``costs``, ``tables/table1`` or ``figures/figure3``; of a
            figure the ``.csv`` of what it draws, with the ``.svg`` beside it.
    """

    name: str
    paths: Mapping[str, Path]

    def has(self, *names: str) -> bool:
        """Whether all of these are there."""
        return all(name in self.paths for name in names)

    def table(self, name: str) -> pd.DataFrame:
        """A table by name.

        Raises:
            ArtifactError: If it is an artifact and not what its footer says.
        """
        path = self.paths[name]
        if path.suffix == ".parquet":
            return read_table(path, name)
        return read_copy(path, name) if name in SCHEMAS else pd.read_csv(path)

    def svg(self, name: str) -> str:
        """A figure as it is printed."""
        return self.paths[f"figures/{name}"].with_suffix(".svg").read_text()

    def named(self, kind: str) -> list[str]:
        """Names of its ``tables`` or ``figures``, in the order in which they were given."""
        found = (name.partition("/") for name in self.paths)
        return [own for folder, _, own in found if folder == kind and own]

    @cached_property
    def cards(self) -> dict[str, dict[str, Any]]:
        """What is known of the making of each table that says it; figures may be drawn again."""
        found = {}
        tables = {name: path for name, path in self.paths.items() if name[:8] != "figures/"}
        for name, path in tables.items():
            beside = path.with_suffix(".json")
            if path.suffix == ".parquet":
                found[name] = read_provenance(path)
            elif beside.exists():
                found[name] = json.loads(beside.read_text())
        return found

    @cached_property
    def models(self) -> pd.DataFrame:
        """The table ``models``, without rows where there is none."""
        columns = ["role", "kind", "quantity", "value"]
        if not self.has("tables/models"):
            return pd.DataFrame(columns=columns)
        return pd.read_csv(self.paths["tables/models"], dtype=str)

    def setting(self, role: str, quantity: str) -> str | None:
        """What the table ``models`` says of one role, if it says it."""
        own = self.models[(self.models["role"] == role) & (self.models["quantity"] == quantity)]
        return None if own.empty else str(own["value"].iloc[0])

    def is_synthetic(self) -> bool | None:
        """Whether its texts were written by a program; None where no table says it."""
        if self.models.empty:
            return None
        source = self.setting("texts", "source")
        return source is None or source == "grammar"  # a language has letters, no texts


def tasks_of(named: Mapping[str, str]) -> list[Task]:
    """Tasks in the order in which their files are given.

    Args:
        named: Paths by ``{task}/{name}``.

    Example:
        >>> [task.name for task in tasks_of({"a/points": "p.csv", "b/tables/t": "t.csv"})]
        ['a', 'b']
    """
    grouped: dict[str, dict[str, Path]] = {}
    for key, path in named.items():
        task, _, name = key.partition("/")
        grouped.setdefault(task, {})[name] = Path(path)
    return [Task(task, paths) for task, paths in grouped.items()]


def origin(tasks: list[Task]) -> dict[str, str]:
    """Where results come from, from the cards of their tables: never from today's clock.

    Returns:
        Words by name: versions, machines, the last time that a table was written and, where the
        table ``models`` is there, commit, seed and hash of the configuration of each task.
    """
    cards = [card for task in tasks for card in task.cards.values()]
    measured = [card[MEASURED] for card in cards if MEASURED in card]
    versions = sorted({tuple(sorted(card["versions"].items())) for card in cards})
    models = {task.name: task.cards.get("tables/models", {}) for task in tasks}
    settings = {name: card["settings"] for name, card in models.items() if card}
    found = {
        "Results of": max((card["written"] for card in measured), default="").replace("T", " "),
        "Commit": _joined(card.get("commit", "") for card in models.values()),
        "Configuration": _joined(f"{name} {own['config']}" for name, own in settings.items()),
        "Seed": _joined(str(own["seed"]) for own in settings.values()),
        "Hardware": _joined(card["hardware"] for card in measured),
        "Packages": _joined(f"{name} {own}" for pairs in versions for name, own in pairs),
    }
    return {name: words for name, words in found.items() if words}


def _joined(words: Any) -> str:
    return ", ".join(dict.fromkeys(filter(None, words)))

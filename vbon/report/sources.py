"""Sources of a report, by name: tables, drawn figures and their provenance."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from vbon.artifacts.fingerprint import MEASURED
from vbon.artifacts.tables import read_either, read_provenance


@dataclass(frozen=True)
class Task:
    """Files of one task.

    Attributes:
        name: Name of the task.
        paths: Paths by name, such as ``points``, ``costs``, ``tables/table1`` or
            ``figures/figure3``; for a figure the ``.csv`` of its data, with the ``.svg`` beside it.
    """

    name: str
    paths: Mapping[str, Path]

    def has(self, *names: str) -> bool:
        """Return true if the task has all of these files."""
        return all(name in self.paths for name in names)

    def table(self, name: str) -> pd.DataFrame:
        """Return a table by name.

        Raises:
            ArtifactError: If an artifact contradicts its footer.
        """
        return read_either(self.paths[name])

    def svg(self, name: str) -> bytes:
        """Return a figure as SVG."""
        return self.paths[f"figures/{name}"].with_suffix(".svg").read_bytes()

    def named(self, kind: str) -> list[str]:
        """Return the names of its ``tables`` or ``figures``, in the order of ``paths``."""
        parts = (name.partition("/") for name in self.paths)
        return [name for folder, _, name in parts if folder == kind and name]

    @cached_property
    def cards(self) -> dict[str, dict[str, Any]]:
        """Provenance of each table that has one. Figures are skipped: redrawing changes theirs."""
        cards = {}
        for name, path in self.paths.items():
            if path.suffix == ".parquet":
                cards[name] = read_provenance(path)
            elif name[:8] != "figures/" and path.with_suffix(".json").exists():
                cards[name] = json.loads(path.with_suffix(".json").read_text())
        return cards

    @cached_property
    def models(self) -> pd.DataFrame:
        """The table ``cards``; empty if the task has none."""
        if not self.has("tables/cards"):
            return pd.DataFrame(columns=["role", "kind", "quantity", "value"])
        return pd.read_csv(self.paths["tables/cards"], dtype=str, keep_default_na=False)

    def setting(self, role: str, quantity: str) -> str | None:
        """Return a value of the table ``cards``, if it has a row for it."""
        rows = self.models[(self.models["role"] == role) & (self.models["quantity"] == quantity)]
        return None if rows.empty else str(rows["value"].iloc[0])


def tasks_of(named: Mapping[str, str]) -> list[Task]:
    """Return tasks in the order of their files.

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
    """Return the origin of the results, from the provenance of their tables, not from the clock.

    Returns:
        Words by name: versions, machines, the time of the last table and, for tasks with a table
        ``cards``, commit, seed and hash of the configuration.
    """
    cards = [card for task in tasks for card in task.cards.values()]
    measured = [card[MEASURED] for card in cards if MEASURED in card]
    versions = sorted({tuple(sorted(card["versions"].items())) for card in cards})
    models = {task.name: task.cards.get("tables/cards", {}) for task in tasks}
    settings = {name: card["settings"] for name, card in models.items() if card}
    words = {
        "Results of": max((card["written"] for card in measured), default="").replace("T", " "),
        "Commit": _joined(card.get("commit", "") for card in models.values()),
        "Configuration": _joined(f"{name} {values['config']}" for name, values in settings.items()),
        "Quantised": _joined(
            f"{task.name} {role}: {weights}"
            for task in tasks
            for role in task.models["role"].unique()
            if (weights := task.setting(role, "weights"))
        ),
        "Seed": _joined(str(values["seed"]) for values in settings.values()),
        "Hardware": _joined(card["hardware"] for card in measured),
        "Packages": _joined(f"{name} {version}" for pairs in versions for name, version in pairs),
    }
    return {name: text for name, text in words.items() if text}


def _joined(words: Any) -> str:
    return ", ".join(dict.fromkeys(filter(None, words)))

"""What a configuration takes from the Hugging Face hub, and whether it is pinned."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vbon.config import ROLES

_COMMIT = re.compile("[0-9a-f]{40}")


def is_hub_id(name: str | None) -> bool:
    """Whether a model's id names one on the hub, and not a folder of this machine.

    Example:
        >>> [is_hub_id(name) for name in ("gpt2", "lvwerra/gpt2-imdb", "./mine", None)]
        [True, True, False, False]
    """
    if name is None or name.startswith(("/", ".", "~")):
        return False
    return not Path(name).exists() and name.count("/") < 2


def hub_sources(config: Mapping[str, Any]) -> dict[str, tuple[str, str, str | None]]:
    """What a configuration takes from the hub: kind, id and revision, by the place of the id."""
    found: dict[str, tuple[str, str, str | None]] = {}
    for task in config["tasks"]:
        section = config[task]
        for role in ROLES:
            chosen = section.get(role, {})
            if is_hub_id(chosen.get("id")):
                found[f"{task}.{role}.id"] = ("model", chosen["id"], chosen["revision"])
        texts = section.get("reviews") or section.get("posts") or {}
        for key in ("source", "test_source"):
            source = texts.get(key)
            if source is None or source == "grammar" or source.endswith((".jsonl", ".jsonl.gz")):
                continue
            kind = "reviews" if "reviews" in section else "posts"
            found[f"{task}.{kind}.{key}"] = ("dataset", source, texts["revision"])
    return found


def unpinned(config: Mapping[str, Any]) -> list[str]:
    """Ids of the hub whose content may change under the benchmark, one line each."""
    lines = {}
    for place, (_, name, revision) in hub_sources(config).items():
        if not _COMMIT.fullmatch(revision or ""):
            key = f"{place.rpartition('.')[0]}.revision"
            lines[key] = (
                f"{key}: {revision!r} is no commit, so {name} may change under the benchmark; "
                "give the 40 digits that `vbon prefetch` prints"
            )
    return list(lines.values())

"""Find damaged artifacts and set them aside, so that the workflow makes them again."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from vbon.artifacts.tables import check_table, damaged_parts
from vbon.errors import ArtifactError

RECORDS = ("run.json", "card.json")
SUFFIX = ".damaged"


def find_damage(folder: str | Path) -> dict[Path, str]:
    """Damaged tables and records below a folder, with a message for each.

    A table is damaged if its data do not match the hash in its footer; the record of a run or a
    model, if it cannot be read or one of its parts is missing or has changed.
    """
    messages = {}
    for path in sorted(_below(folder)):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue  # of an interrupted writer
        try:
            if path.suffix == ".parquet":
                check_table(path)
            elif path.name in RECORDS and (parts := damaged_parts(path)):
                messages[path] = f"{path}: {', '.join(parts)} changed since it was written"
        except ArtifactError as error:
            messages[path] = str(error)
    return messages


def _below(folder: str | Path) -> Iterator[Path]:
    """Everything below a folder, parts of which may be links to folders on other disks."""
    seen = set()
    for top, folders, names in os.walk(folder, followlinks=True):
        yield from (Path(top, name) for name in (*folders, *names))
        folders[:] = [name for name in folders if os.path.realpath(f"{top}/{name}") not in seen]
        seen.update(os.path.realpath(f"{top}/{name}") for name in folders)


def set_aside(folder: str | Path, tasks: Iterable[str]) -> tuple[dict[Path, str], list[str]]:
    """Rename damaged files below a results folder, so that the workflow makes them again.

    Nothing is lost: a file keeps its place, with suffix ``.damaged``, until it is made again.
    Points of a damaged run or of damaged responses are deleted; otherwise the workflow would not
    revisit the run.

    Args:
        folder: Results folder; only the folders of tasks in it are searched.
        tasks: Names of the tasks.

    Returns:
        Messages by damaged path, and the paths that must be requested from the workflow. Runs
        are not among these: the missing points request them.
    """
    messages: dict[Path, str] = {}
    places, requests = [Path(folder, task) for task in tasks], []
    for place in places:
        messages |= find_damage(place)
    for path in messages:
        parts = path.relative_to(folder).parts
        if "runs" in parts:  # before the rename, so that a kill in between is harmless
            for name in ("points.parquet", "points.csv"):
                Path(folder, *parts[: parts.index("runs")], name).unlink(missing_ok=True)
            if path.parent.name == "responses":
                for mark in Path(folder, parts[0], "evaluated").glob("*"):
                    mark.unlink()
        else:
            requests.append(str(path))
        path.rename(path.with_name(path.name + SUFFIX))
    # Files set aside earlier and not replaced yet, because that workflow was killed.
    below = (path for place in places for path in sorted(_below(place)))
    waiting = [path.with_suffix("") for path in below if path.name.endswith(SUFFIX)]
    parts = {path: path.relative_to(folder).parts for path in waiting if path not in messages}
    requests += [str(path) for path in parts if "runs" not in parts[path] and not path.exists()]
    return messages, requests

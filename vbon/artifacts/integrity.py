"""Find artifacts that are not what was written, and set them aside so that they are made again."""

from collections.abc import Iterator
from pathlib import Path

from vbon.artifacts.tables import check_table, damaged_parts
from vbon.errors import ArtifactError

RECORDS = ("run.json", "card.json")
SUFFIX = ".damaged"


def find_damage(folder: str | Path) -> dict[Path, str]:
    """Damaged tables and records below a folder, and what is wrong with each.

    A table is damaged if its data are not those that its footer was written for, a record (of a
    run or a model) if it cannot be read or one of its parts is gone or changed.
    """
    found = {}
    for path in _files(Path(folder)):
        try:
            if path.suffix == ".parquet":
                check_table(path)
            elif parts := damaged_parts(path):
                found[path] = f"{path}: {', '.join(parts)} changed since it was written"
        except ArtifactError as error:
            found[path] = str(error)
    return found


def _files(folder: Path) -> Iterator[Path]:
    """Tables and records, but not what an interrupted writer left."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if (path.suffix == ".parquet" or path.name in RECORDS) and not hidden:
            yield path


def set_aside(folder: str | Path) -> tuple[dict[Path, str], list[str]]:
    """Rename what is damaged below a results folder, so that the workflow makes it again.

    Nothing is lost: the file stays, with suffix ``.damaged``, in the folder of a run or model until
    that is made again. What has been gathered from a damaged run or its responses is taken away,
    since only that makes the workflow look at the run.

    Returns:
        What is wrong by path, and those of the paths that a workflow has to be asked for.
    """
    found = find_damage(folder)
    asked = []
    for path in found:
        parts = path.relative_to(folder).parts
        if "runs" in parts:  # first of all, so that a kill in between changes nothing
            for name in ("points.parquet", "points.csv"):
                Path(folder, *parts[: parts.index("runs")], name).unlink(missing_ok=True)
            if path.parent.name == "responses":
                for mark in Path(folder, parts[0], "evaluated").glob("*"):
                    mark.unlink()
        else:
            asked.append(str(path))
        path.rename(path.with_name(path.name + SUFFIX))
    # Those of an earlier time that nothing has replaced yet, since that workflow was killed.
    waiting = [path.with_suffix("") for path in sorted(Path(folder).rglob(f"*{SUFFIX}"))]
    parts = {path: path.relative_to(folder).parts for path in waiting if path not in found}
    asked += [str(path) for path in parts if "runs" not in parts[path] and not path.exists()]
    return found, asked

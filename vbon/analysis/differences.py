"""Differences between two results folders: before and after a change, or of two machines."""

import filecmp
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vbon.analysis.compare import changed_claims, compare_points, runs_of_one
from vbon.analysis.prompts import RUN
from vbon.analysis.verdicts import NOT_SUPPORTED, SUPPORTED
from vbon.artifacts.tables import read_copy, read_json, read_provenance, read_small
from vbon.errors import DataError

POINTS = ("*/points.csv", "*/studies/*/points.csv")
_TABLES = (*POINTS, "*/*.csv", "*/studies/*/*.csv", "*/tables/*.csv", "*/figures/*.csv")
_CARDS = ("*/tables/*.json", "*/figures/*.json", "*/runs/*/*/*/run.json")
_FEW = 8  # names or settings that a line lists


def differences(a: Path, b: Path, everything: bool) -> tuple[list[str], pd.DataFrame, bool]:
    """Compare two results folders.

    Args:
        a: Folder with ``{task}/points.csv``, as ``results`` and ``published`` have.
        b: Another one.
        everything: Whether every row is in the lines, not only those beyond noise.

    Returns:
        Lines to print, the table of :func:`vbon.analysis.compare.compare_points`, and whether a row
        is beyond noise, or a run is missing or diverged in one of the two.
    """
    points = [_points(folder) for folder in (a, b)]
    means = [_prompt_means(folder) for folder in (a, b)]
    table = compare_points(*points, means=None if any(m.empty for m in means) else tuple(means))
    alone = runs_of_one(*points)
    lines = [f"A: {a}", f"B: {b}", "", *_files(a, b), *_origins(a, b), *_runs(*alone)]
    claims = changed_claims(*map(_verdicts, (a, b)))
    lines += [f"claim: {row.task}: {row.claim}: {row.a} -> {row.b}" for row in claims.itertuples()]
    lines += ["", *_differences(table, everything)]
    return lines, table, bool(table["differs"].any() or any(alone))


def _points(folder: Path) -> pd.DataFrame:
    """Points of all tasks and studies of a folder."""
    paths = [path for pattern in POINTS for path in sorted(folder.glob(pattern))]
    if not paths:
        raise DataError(
            f"{folder}: found neither {{task}}/points.csv nor {{task}}/studies/{{name}}/points.csv;"
            " give a folder of results, such as results or published"
        )
    parts = []
    for path in paths:
        study = path.parent.name if path.parent.parent.name == "studies" else ""
        parts.append(read_copy(path, "points").assign(study=study))
    return pd.concat(parts, ignore_index=True)


def _prompt_means(folder: Path) -> pd.DataFrame:
    """Means per prompt of all tasks of a folder that has them."""
    parts = [
        read_small(path, *RUN, "prompt_id").assign(task=path.parent.parent.name, study="")
        for path in sorted(folder.glob("*/tables/prompt_means.csv"))
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def both_verdicts(a: Path, b: Path) -> pd.DataFrame:
    """The verdicts of two results folders side by side, such as those of two data seeds.

    Args:
        a: Folder with ``{task}/tables/claims.csv``, as ``results`` and ``published`` have.
        b: Another one; both must have a task in common.

    Returns:
        Columns ``task, claim, key``, then of each folder ``value, low, high, verdict`` with the
        suffix ``_a`` or ``_b``, and ``holds``: ``yes`` if a claim is supported in both, ``no`` if
        a verdict is "not supported", else ``undecided``. A row per claim that both have.

    Raises:
        DataError: If a folder has no claims, or they have no task in common.
    """
    keys, numbers = ["task", "claim", "key"], ["value", "low", "high", "verdict"]
    claims = [_verdicts(folder, "key", *numbers) for folder in (a, b)]
    for folder, rows in zip((a, b), claims, strict=True):
        if rows.empty:
            raise DataError(
                f"{folder}: no {{task}}/tables/claims.csv; give a folder of results, such as "
                "results or published"
            )
    first, second = (rows[[*keys, *numbers]] for rows in claims)
    second = second.drop(columns="claim")
    keys = {"on": ["task", "key"], "validate": "one_to_one"}
    both = first.merge(second, **keys, suffixes=("_a", "_b"))
    if both.empty:
        tasks = [", ".join(dict.fromkeys(rows["task"])) for rows in claims]
        raise DataError(
            f"{a} has claims about {tasks[0]}, {b} about {tasks[1]}; give folders with a task in "
            "common"
        )
    either = both[["verdict_a", "verdict_b"]]
    both["holds"] = "undecided"
    both.loc[(either == SUPPORTED).all(axis=1), "holds"] = "yes"
    both.loc[(either == NOT_SUPPORTED).any(axis=1), "holds"] = "no"
    return both


def _verdicts(folder: Path, *columns: str) -> pd.DataFrame:
    """Claims of all tasks of a folder, whose tables have these columns."""
    parts = [
        read_small(path, "claim", "verdict", *columns).assign(task=path.parent.parent.name)
        for path in sorted(folder.glob("*/tables/claims.csv"))
    ]
    return pd.concat(parts) if parts else pd.DataFrame(columns=["task", "claim", "verdict"])


def _files(a: Path, b: Path) -> Iterator[str]:
    """Line about the tables that are equal, byte by byte."""
    common = _common(a, b, _TABLES)
    same = [name for name in common if filecmp.cmp(a / name, b / name, shallow=False)]
    yield f"same bytes: {len(same)} of {len(common)} tables that both have"
    points = [name for name in same if name.endswith("points.csv")]
    if points:
        yield f"  among them {_listed(points)}"


def _common(a: Path, b: Path, patterns: Sequence[str]) -> list[str]:
    """Files that both folders have, relative to them."""
    names = dict.fromkeys(
        str(path.relative_to(a)) for pattern in patterns for path in sorted(a.glob(pattern))
    )
    return [name for name in names if (b / name).exists()]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(names[:_FEW]) + more


def _origins(a: Path, b: Path) -> Iterator[str]:
    """Lines about differences of origin: machine, versions, settings, code."""
    machines = [_machines(folder) for folder in (a, b)]
    if machines[0] != machines[1]:
        yield f"hardware: {_listed(machines[0]) or '?'} -> {_listed(machines[1]) or '?'}"
    records = [
        [_record(folder / name) for name in _common(a, b, (*_CARDS, "*/points.parquet"))]
        for folder in (a, b)
    ]
    versions = [dict(item for row in part for item in row["versions"].items()) for part in records]
    moved = list(_changes(*versions))
    if moved:
        yield f"versions: {', '.join(moved)}"
    pairs = list(zip(*records, strict=True))
    other = sum(one["code"] != two["code"] for one, two in pairs)
    if other:
        yield f"code: another for {other} of {len(pairs)} records that both have"
    changed: Counter[str] = Counter()
    for one, two in pairs:
        changed.update(_changes(one["settings"], two["settings"]))
    for text, count in changed.most_common(_FEW):
        yield f"setting: {text} (in {count} of {len(pairs)} records)"
    if len(changed) > _FEW:
        yield f"setting: {len(changed) - _FEW} other differences"


def _machines(folder: Path) -> list[str]:
    """Machines on which runs were trained."""
    tables = (read_small(path, "hardware") for path in folder.glob("*/costs.csv"))
    return sorted({str(name) for table in tables for name in table["hardware"]})


def _record(path: Path) -> dict[str, Any]:
    """Settings, code and versions in a card, a run's record or a table's footer."""
    record = read_provenance(path) if path.suffix == ".parquet" else read_json(path)
    versions = record.get("versions")
    return {
        "versions": versions if isinstance(versions, dict) else {},
        "code": record.get("code"),
        "settings": record.get("spec", record.get("settings", {})),
    }


def _changes(one: Any, two: Any, place: str = "") -> Iterator[str]:
    """Settings that differ, by their place."""
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        for key in sorted({*one, *two}):
            where = f"{place}.{key}" if place else str(key)
            yield from _changes(one.get(key, "none"), two.get(key, "none"), where)
    elif one != two:
        yield f"{place} {one} -> {two}"


def _runs(only_a: list[str], only_b: list[str], ended: list[str]) -> Iterator[str]:
    """Runs that are not in both, and not in the same state."""
    for what, names in (("only in A", only_a), ("only in B", only_b)):
        if names:
            yield f"{what}: {len(names)} run{'s' * (len(names) > 1)}: {_listed(names)}"
    if ended:
        yield f"diverged in one of the two: {_listed(ended)}"


def _differences(table: pd.DataFrame, everything: bool) -> Iterator[str]:
    """A line per task, study and metric, then the rows: those that are marked, or all."""
    if table.empty:
        yield "no setting is in both"
        return
    moved = table[table["difference"] != 0]
    yield f"{len(table) - len(moved)} of {len(table)} rows are equal"
    if len(moved):
        yield "differences, B minus A, where there are any"
        yield _summary(table, moved).to_string(index=False, float_format="{:.4g}".format)
    marked = table if everything else table[table["differs"]]
    yield ""
    if marked.empty:
        yield "nothing is beyond noise"
        return
    yield "every row; * is beyond noise" if everything else "beyond noise"
    shown = marked.assign(mark=marked["differs"].map({True: "*", False: ""}))
    columns = [name for name in shown if name not in ("differs", "df")]
    yield shown[columns].to_string(index=False, float_format="{:.4g}".format)


def _summary(table: pd.DataFrame, moved: pd.DataFrame) -> pd.DataFrame:
    """Mean and largest difference by task, study and metric, where any row moved."""
    family = ["task", "study", "metric"]
    rows = []
    for keys, part in table.merge(moved[family].drop_duplicates()).groupby(family):
        most = part.loc[part["difference"].abs().idxmax()]
        row = dict(zip(family, keys, strict=True))
        row |= {"rows": len(part), "beyond noise": part["differs"].sum()}
        row |= {"mean": part["difference"].mean(), "largest": most["difference"]}
        rows.append(row | {"of": f"{most['method']} {most['setting']}"})
    return pd.DataFrame(rows)

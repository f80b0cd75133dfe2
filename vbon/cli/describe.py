"""The verb ``describe``: where an artifact came from."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from vbon.artifacts.fingerprint import MEASURED, code_fingerprint, content_hash
from vbon.artifacts.integrity import RECORDS, SUFFIX
from vbon.artifacts.tables import check_table, damaged_parts, read_record
from vbon.cli.options import parser
from vbon.errors import ArtifactError


def describe(arguments: list[str]) -> None:
    """Print where an artifact came from: settings, inputs, code, versions, machine and time.

    A table tells it in its footer, a run or a model in its record, any other file in the card
    (``.json``) beside it.
    """
    options = parser("describe", describe.__doc__)
    options.add_argument("paths", nargs="+", help="tables, figures, run or model folders")
    options.add_argument("--json", action="store_true", help="everything that is known, as JSON")
    args = options.parse_args(arguments)
    for path in map(Path, args.paths):
        source, made = provenance_of(path)
        if args.json:
            print(json.dumps({"path": str(path), "source": str(source), **made}, indent=1))
        else:
            print("\n".join(_lines(path, source, made)))


def provenance_of(path: Path) -> tuple[Path, dict[str, Any]]:
    """The file that says what made an artifact, and what it says.

    Raises:
        ArtifactError: If there is no artifact, it is damaged, or nothing says where it is from.
    """
    if not path.exists():
        raise ArtifactError(f"{path} does not exist; give a file or folder below results/")
    if path.suffix == ".parquet":
        return path, check_table(path)
    for record in _records(path):
        if record.suffix == ".parquet":
            return record, check_table(record)
        made = read_record(record)
        _check(path, record, made)
        return record, made
    raise ArtifactError(
        f"{path}: nothing says where it came from; describe tables, figures, and what lies in "
        "the folder of a run or a model"
    )


def _records(path: Path) -> Iterator[Path]:
    """Where an artifact's provenance may stand: beside it, or at the top of its folder."""
    if path.is_file():
        beside = [path.with_suffix(".json"), path.with_suffix(".parquet")]
        yield from (found for found in beside if found.exists())
    for folder in [path, *path.parents]:
        yield from (folder / name for name in RECORDS if (folder / name).exists())
    if path.name in RECORDS:
        yield path


def _check(path: Path, record: Path, made: Mapping[str, Any]) -> None:
    """Refuse what was changed after its record was written."""
    if "parts" in made:
        changed = damaged_parts(record)
    else:
        same = path.suffix != ".csv" or content_hash(path) == made.get("content")
        changed = [] if same else [path.name]
    if changed:
        raise ArtifactError(
            f"{record}: {', '.join(changed)} is not what was written with it; delete it "
            f"({path}) and run the workflow again"
        )


def _lines(path: Path, source: Path, made: Mapping[str, Any]) -> Iterator[str]:
    """What is known, a line each."""
    yield f"{path}" + ("" if source == path else f"  (told by {source})")
    if "schema" in made:
        yield f"  table     {made['schema']}, version {made['version']}"
    if "status" in made:
        named = f"{made['method']} {made['setting']} seed {made['seed']}"
        yield f"  run       {named}: {made['status']}"
    took = {**made, **made.get(MEASURED, {"seconds": made.get("train_seconds")})}
    yield f"  written   {took['written']}, after {took['seconds']:.1f} s"
    yield f"  on        {took['hardware']}; at most {took['peak_memory_mb']:.0f} MB"
    if "code" in made:
        yield f"  code      {made['code']}, {_today(made)}"
    if "versions" in made:
        yield "  versions  " + ", ".join(f"{k} {v}" for k, v in made["versions"].items())
    yield "  settings"
    shown = yaml.safe_dump(made.get("spec", made.get("settings", {})), default_flow_style=None)
    yield from (f"    {line}" for line in shown.splitlines())
    if made.get("inputs"):
        yield "  inputs"
    for name, content in made.get("inputs", {}).items():
        where = made["paths"][name]
        yield f"    {name}: {where}, {content}, {_now(Path(where), content)}"


def _today(made: Mapping[str, Any]) -> str:
    """Whether the code that made it is the code that is here."""
    modules = [Path(name) if "/" in name else name for name in made.get("modules", [])]
    if any(isinstance(name, Path) and not name.exists() for name in modules):
        return "made with a module that is not here"
    same = code_fingerprint(*modules) == made["code"]
    return ("the same" if same else "not the same") + " as that of " + ", ".join(map(str, modules))


def _now(path: Path, content: str) -> str:
    """What has become of an input."""
    if not path.exists():
        return f"gone{' (damaged)' if path.with_name(path.name + SUFFIX).exists() else ''}"
    return "still the same" if content_hash(path) == content else "CHANGED since"

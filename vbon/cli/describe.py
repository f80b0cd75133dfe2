"""The verb ``describe``: where an artifact came from."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from vbon.artifacts.fingerprint import MEASURED, code_fingerprint, content_hash
from vbon.artifacts.integrity import RECORDS, SUFFIX
from vbon.artifacts.tables import check_table, damaged_parts, read_record
from vbon.cli.options import parser
from vbon.errors import ArtifactError

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def describe(arguments: list[str]) -> None:
    """Print where an artifact came from: settings, inputs, code, versions, machine and time.

    It is in the footer of a table, in the record of a run or a model, and for any other file in the
    card (``.json``) beside it.
    """
    options = parser("describe", describe.__doc__)
    options.add_argument("paths", nargs="+", help="tables, figures, run or model folders")
    options.add_argument("--json", action="store_true", help="the complete provenance as JSON")
    args = options.parse_args(arguments)
    for path in map(Path, args.paths):
        source, provenance = provenance_of(path)
        if args.json:
            print(json.dumps({"path": str(path), "source": str(source), **provenance}, indent=1))
        else:
            # Files of strangers must not control the terminal.
            print("\n".join(_CONTROLS.sub("?", line) for line in _lines(path, source, provenance)))


def provenance_of(path: Path) -> tuple[Path, dict[str, Any]]:
    """The file with the provenance of an artifact, and the provenance.

    Raises:
        ArtifactError: If there is no artifact, it is damaged, or it has no provenance.
    """
    if not path.exists():
        raise ArtifactError(f"{path} does not exist; give a file or folder below results/")
    if path.suffix == ".parquet":
        return path, check_table(path)
    for record in _records(path):
        if record.suffix == ".parquet":
            return record, check_table(record)
        provenance = read_record(record)
        if "parts" in provenance:
            changed = damaged_parts(record)
        else:
            same = path.suffix != ".csv" or content_hash(path) == provenance.get("content")
            changed = [] if same else [path.name]
        if changed:
            raise ArtifactError(
                f"{record}: {', '.join(changed)} is not what was written with it; delete it "
                f"({path}) and run the workflow again"
            )
        return record, provenance
    raise ArtifactError(
        f"{path}: has no provenance; describe tables, figures, and files in the folder of a run or "
        "a model"
    )


def _records(path: Path) -> Iterator[Path]:
    """Files that may contain an artifact's provenance: beside it, or at the top of its folder."""
    if path.is_file():
        beside = [path.with_suffix(".json"), path.with_suffix(".parquet")]
        yield from (file for file in beside if file.exists())
    for folder in [path, *path.parents]:
        yield from (folder / name for name in RECORDS if (folder / name).exists())
    if path.name in RECORDS:
        yield path


def _lines(path: Path, source: Path, record: Mapping[str, Any]) -> Iterator[str]:
    """Provenance in words, one line per fact."""
    yield f"{path}" + ("" if source == path else f"  (from {source})")
    if "schema" in record:
        yield f"  table     {record['schema']}, version {record.get('version')}"
    if "status" in record:
        run = f"{record.get('method')} {record.get('setting')} seed {record.get('seed')}"
        yield f"  run       {run}: {record['status']}"
    usage = {**record, **(_named(record, MEASURED) or {"seconds": record.get("train_seconds")})}
    seconds, memory = _number(usage.get("seconds"), ".1f"), _number(usage.get("peak_memory_mb"))
    yield f"  written   {usage.get('written', '?')}, after {seconds} s"
    yield f"  on        {usage.get('hardware', '?')}; at most {memory} MB"
    if "weights" in record:
        yield f"  weights   {record['weights']}"
    if "code" in record:
        yield f"  code      {record['code']}, {_code_today(record)}"
    if "versions" in record:
        yield "  versions  " + ", ".join(f"{k} {v}" for k, v in _named(record, "versions").items())
    yield "  settings"
    shown = yaml.safe_dump(record.get("spec", record.get("settings", {})), default_flow_style=None)
    yield from (f"    {line}" for line in shown.splitlines())
    paths = _named(record, "paths")
    if inputs := _named(record, "inputs"):
        yield "  inputs"
    for name, content in inputs.items():
        where = str(paths.get(name, "?"))
        yield f"    {name}: {where}, {content}, {_input_today(Path(where), content, source)}"


def _named(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Values by name in a record; none if there are no such values."""
    values = record.get(key)
    return values if isinstance(values, Mapping) else {}


def _number(value: Any, form: str = ".0f") -> str:
    return format(value, form) if isinstance(value, int | float) else "?"


def _is_near(path: Path, source: Path) -> bool:
    """Return True for files and folders below this one, and files near the record; links count.

    A stranger's record could name a device, or a folder as large as a disk.
    """
    try:
        path = path.resolve()
        if path.is_relative_to(Path.cwd()):
            return path.is_file() or path.is_dir()
        return path.is_file() and path.is_relative_to(source.resolve().parents[1])
    except (OSError, ValueError, RuntimeError, IndexError):
        return False


def _code_today(record: Mapping[str, Any]) -> str:
    """Comparison of the recorded code with today's."""
    roots = record.get("modules")
    roots = list(map(str, roots)) if isinstance(roots, list) else []
    files = [Path(root.partition(":")[0]) for root in roots if "/" in root]
    if not all(path.suffix == ".py" and path.is_file() for path in files):
        return "made with a module that is not here"
    try:
        same = code_fingerprint(*roots) == record["code"]
    except (ArithmeticError, LookupError, OSError, SyntaxError, TypeError, ValueError):
        return "made with a module that is not here"
    return ("the same" if same else "not the same") + " as that of " + ", ".join(roots)


def _input_today(path: Path, content: str, source: Path) -> str:
    """Comparison of the recorded content of an input with today's."""
    if not _is_near(path, source):
        if path.exists():
            return "not compared: it is not below this folder"
        return f"gone{' (damaged)' if path.with_name(path.name + SUFFIX).exists() else ''}"
    return "still the same" if content_hash(path) == content else "CHANGED since"

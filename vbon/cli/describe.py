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
            print("\n".join(_lines(path, source, provenance)))


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
        yield f"  table     {record['schema']}, version {record['version']}"
    if "status" in record:
        run = f"{record['method']} {record['setting']} seed {record['seed']}"
        yield f"  run       {run}: {record['status']}"
    usage = {**record, **record.get(MEASURED, {"seconds": record.get("train_seconds")})}
    yield f"  written   {usage['written']}, after {usage['seconds']:.1f} s"
    yield f"  on        {usage['hardware']}; at most {usage['peak_memory_mb']:.0f} MB"
    if "weights" in record:
        yield f"  weights   {record['weights']}"
    if "code" in record:
        yield f"  code      {record['code']}, {_code_today(record)}"
    if "versions" in record:
        yield "  versions  " + ", ".join(f"{k} {v}" for k, v in record["versions"].items())
    yield "  settings"
    shown = yaml.safe_dump(record.get("spec", record.get("settings", {})), default_flow_style=None)
    yield from (f"    {line}" for line in shown.splitlines())
    if record.get("inputs"):
        yield "  inputs"
    for name, content in record.get("inputs", {}).items():
        where = record["paths"][name]
        yield f"    {name}: {where}, {content}, {_input_today(Path(where), content)}"


def _code_today(record: Mapping[str, Any]) -> str:
    """Comparison of the recorded code with today's."""
    roots = record.get("modules", [])
    if not all(Path(root.partition(":")[0]).exists() for root in roots if "/" in root):
        return "made with a module that is not here"
    same = code_fingerprint(*roots) == record["code"]
    return ("the same" if same else "not the same") + " as that of " + ", ".join(roots)


def _input_today(path: Path, content: str) -> str:
    """Comparison of the recorded content of an input with today's."""
    if not path.exists():
        return f"gone{' (damaged)' if path.with_name(path.name + SUFFIX).exists() else ''}"
    return "still the same" if content_hash(path) == content else "CHANGED since"

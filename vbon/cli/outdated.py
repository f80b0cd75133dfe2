"""What the workflow would make anew because its settings, code or set of inputs changed."""

import csv
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

_CHANGED = ("params changed", "rule implementation changed", "set of input files changed")


def outdated_files(overlays: Iterable[str]) -> set[str]:
    """Results on disk that a changed setting or code makes obsolete, and all that depends on them.

    Times of files do not count: a checkout or a copy changes them and no result.

    Args:
        overlays: Overlays on ``config.yaml``.

    Returns:
        Paths as the workflow names them; none if this folder has no workflow, or it cannot be
        parsed (which is told on standard error).
    """
    if not Path("Snakefile").exists():
        return set()
    given = ["--configfile", *overlays] if overlays else []
    command = [sys.executable, "-m", "snakemake", "--detailed-summary", "--cores", "1", *given]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        print(
            f"warning: Snakemake cannot tell what is out of date ({lines[-1]}); the count goes by "
            "what is on disk",
            file=sys.stderr,
        )
        return set()
    rows = list(csv.DictReader(done.stdout.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))
    return _downstream(rows)


def _downstream(rows: list[dict[str, str]]) -> set[str]:
    """Changed files and what was made from them, by the inputs that were recorded."""
    readers: dict[str, list[str]] = {}
    for row in rows:
        for source in row["input-file(s)"].split(","):
            readers.setdefault(source, []).append(row["output_file"])
    found: set[str] = set()
    queue = [row["output_file"] for row in rows if row["status"] in _CHANGED]
    while queue:
        path = queue.pop()
        if path not in found:
            found.add(path)
            queue += readers.get(path, [])
    return found

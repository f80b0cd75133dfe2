"""The verb ``restore``: after ``dvc pull``, continue a sweep that another machine computed."""

import io
import json
import subprocess
import sys
from contextlib import redirect_stdout

from vbon.cli.inspect import plan
from vbon.cli.options import parser
from vbon.cli.workflow import workflow
from vbon.errors import ArtifactError

_REDRAWN = "figures"  # a stage whose files may be drawn again at any time
_SHOWN = 5


def restore(arguments: list[str]) -> None:
    """Tell Snakemake that what came by ``dvc pull`` is what it would make.

    A fresh clone has files in no order of time, and no record of what they were made with.
    Snakemake would make many of them again, and would not notice later that a setting changed.
    """
    parser("restore", " ".join((restore.__doc__ or "").split())).parse_args(arguments)
    changed = _changed()
    if changed:
        shown = ", ".join(changed[:_SHOWN]) + (" …" if len(changed) > _SHOWN else "")
        raise ArtifactError(
            f"dvc.lock does not tell where these files are from ({shown}): `dvc status` must be "
            "clean. Get what is missing with `dvc pull`; put a changed config or code aside until "
            "this is done (`git stash`)"
        )
    print("restoring: a tenth of a second for each job of the benchmark", flush=True)
    options = ["--cores", "1", "--touch", "--forceall", "--quiet", "all"]
    workflow([*options, "--", "all"])
    with redirect_stdout(io.StringIO()) as listed:
        plan([])
    print(listed.getvalue().splitlines()[-1])


def _changed() -> list[str]:
    """Stages whose inputs or results are not those that are recorded."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"], capture_output=True, text=True
    )
    try:
        found = json.loads(done.stdout)
    except ValueError:
        raise ArtifactError(f"`dvc status` failed: {done.stderr.strip()}") from None
    return [stage for stage in found if stage.partition("@")[0] != _REDRAWN]

"""Parts of Snakemake 9.27 that are not its public interface, all in one place."""

import base64
from pathlib import Path
from typing import Any


def schedule_at_once(workflow: Any) -> None:
    """Look for jobs when a job ends, and not every second.

    With its limit of jobs per second, Snakemake 9 looks for jobs every second, and once more per
    second for every job that has ended: minutes of a core in a long sweep.
    """
    workflow.scheduler.job_rate_limiter = None


def is_started_by_user(workflow: Any) -> bool:
    """Return True where the workflow was started, False where a cluster started it for a job."""
    return workflow.is_main_process


def config_files(workflow: Any) -> list[str]:
    """The configuration files that were read, overlays included."""
    return list(map(str, workflow.configfiles))


def producible(workflow: Any, paths: list[str]) -> list[str]:
    """Those of some files that a rule makes."""
    return [path for path in paths if any(rule.is_producer(path) for rule in workflow.rules)]


def has_record(path: str) -> bool:
    """Return True if Snakemake has recorded how it made a file."""
    name = base64.urlsafe_b64encode(path.encode()).decode()
    return Path(".snakemake/metadata", name).exists()

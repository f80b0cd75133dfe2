"""Progress of a sweep, from the files that its runs leave on disk while it goes on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from vbon.artifacts import read_table
from vbon.artifacts.fingerprint import digest
from vbon.artifacts.storage import being_written
from vbon.artifacts.tables import read_record
from vbon.errors import ArtifactError
from vbon.evaluation.metrics import summarise
from vbon.evaluation.points import Pool
from vbon.planning.runs import Root, Run
from vbon.tasks.base import evaluation_splits
from vbon.training.steps import failure_of

STATES = ("done", "running", "failed", "waiting")
_IDENTITY = ("task", "study", "method", "setting", "seed")
QUANTITIES = ("kl", "kl_se", "win_rate", "win_rate_se", "reward", "evaluator_win_rate")


def states(runs: list[Run], alive: bool) -> pd.DataFrame:
    """State of each run.

    A run is done if its record has the settings of the config. Later changes of code or inputs may
    call for it again; ``vbon plan`` finds these, in seconds.

    Args:
        runs: Runs of the config.
        alive: Whether a workflow is running in this folder; otherwise no run is.

    Returns:
        A row per run: ``task, study, method, setting, seed``; ``trained``: whether there is
        anything to train; ``state``, of :data:`STATES`; ``seconds`` of training if it is done;
        ``message``: ``diverged``, or why it failed.
    """
    rows = []
    for run in runs:
        trained = run.instance.trained and not run.instance.is_reference
        rows.append([*_identity(run), trained, *_state(run, alive)])
    columns = [*_IDENTITY, "trained", "state", "seconds", "message"]
    return pd.DataFrame(rows, columns=columns)


def _identity(run: Run) -> list[Any]:
    return [getattr(run, name) for name in _IDENTITY]


def _state(run: Run, alive: bool) -> tuple[str, float, str]:
    if alive and being_written(run.folder).exists():
        return "running", float("nan"), ""
    failure = failure_of(run.folder)
    if failure.exists():
        return "failed", float("nan"), failure.read_text().strip()
    try:
        record = read_record(f"{run.folder}/run.json")
    except (ArtifactError, OSError):
        return "waiting", float("nan"), ""
    if digest(record["spec"]) != run.spec_hash:  # of another config
        return "waiting", float("nan"), ""
    message = "" if record["status"] == "ok" else record["status"]
    return "done", float(record["train_seconds"]), message


def seconds_left(table: pd.DataFrame) -> float:
    """Seconds until all runs are trained, if as many train at once as now.

    A run is expected to take the mean time of finished runs of its method in its task or study; of
    its method anywhere, or of any method, if there are none. Running ones count half.

    Args:
        table: As of :func:`states`.

    Returns:
        NaN before the first run is done.

    Example:
        >>> seconds_left(pd.DataFrame({
        ...     "task": "sentiment", "study": "", "method": "ppo", "trained": True,
        ...     "state": ["done", "running", "waiting"], "seconds": [4.0, None, None]}))
        6.0
    """
    table = table[table["trained"]]
    seconds = table["seconds"].astype(float)
    expected = pd.Series(seconds.mean(), index=table.index)
    for keys in (["method"], ["task", "study", "method"]):  # the closest runs count
        means = seconds.groupby([table[key] for key in keys]).transform("mean")
        expected = means.fillna(expected)
    left = table["state"].map({"waiting": 1.0, "failed": 1.0, "running": 0.5}).dropna()
    at_once = max(int((table["state"] == "running").sum()), 1)
    return float((expected[left.index] * left).sum(skipna=False) / at_once)


class Points:
    """The points of runs that are measured already; each file is read once.

    Args:
        roots: The task or study of a run, by its folder.
    """

    def __init__(self, roots: Mapping[str, Root]) -> None:
        self._roots = roots
        self._pools: dict[tuple[str, int], Pool] = {}
        self._numbers: dict[tuple[str, int], dict[str, Any]] = {}

    def of(self, runs: list[Run]) -> pd.DataFrame:
        """Rows of the runs that have responses, in the order in which they were measured.

        Returns:
            ``task, study, method, setting, seed, temperature, kl, kl_se`` (nats), ``win_rate,
            win_rate_se, reward, evaluator_win_rate``, ``measured`` (time); numbers as in points,
            over all domains and sample seeds.
        """
        rows = []
        for run in runs:
            for split, temperature in evaluation_splits(self._roots[run.root].section).items():
                path = Path(run.folder, "responses", f"{split}.parquet")
                try:
                    rows.append(self._point(run, split, temperature, path))
                except (ArtifactError, FileNotFoundError):  # not yet, or just being replaced
                    continue
        columns = [*_IDENTITY, "temperature", *QUANTITIES, "measured"]
        table = pd.DataFrame(rows, columns=columns)
        return table.sort_values("measured", kind="stable", ignore_index=True)

    def _point(self, run: Run, split: str, temperature: float, path: Path) -> dict[str, Any]:
        key = (str(path), path.stat().st_mtime_ns)
        if key not in self._numbers:
            pool = self._pool(run, split, temperature)
            responses = read_table(path, "responses")
            numbers = summarise(responses, pool.rewards, pool.evaluator_rewards, pool.first)
            numbers = {name: numbers.get(name, float("nan")) for name in QUANTITIES}
            self._numbers[key] = numbers | {"measured": key[1] / 1e9}
        identity = dict(zip(_IDENTITY, _identity(run), strict=True))
        return identity | {"temperature": temperature} | self._numbers[key]

    def _pool(self, run: Run, split: str, temperature: float) -> Pool:
        path = Path(run.evaluation_inputs(split)["rewards"])
        key = (str(path), path.stat().st_mtime_ns)
        if key not in self._pools:
            draws = self._roots[run.root].section["sampling"]["test_draws"]
            self._pools[key] = Pool.load(str(path), draws, temperature)
        return self._pools[key]

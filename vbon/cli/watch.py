"""The verb ``watch``: progress of a sweep in a terminal."""

import math
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from vbon.analysis.progress import STATES, Points, seconds_left, states
from vbon.artifacts.tables import atomic_path
from vbon.cli.lock import is_locked
from vbon.cli.options import parser
from vbon.planning.config import load
from vbon.planning.runs import Run, expand, roots

_RIGHT = ("done", "running", "failed", "s/run", "points", "KL", "win rate")
_WIDE = 110  # columns where no terminal has a width
_LATEST = 8  # measured runs that are shown one by one


def watch(arguments: list[str]) -> None:
    """Show the runs of a sweep (done, running, failed, waiting), its end, and the points so far.

    It only reads, so it can be started and stopped at any time, in a second terminal or after the
    sweep was stopped; on a cluster, in the folder in which the workflow was started. It ends when
    all runs are done and measured.
    """
    options = parser("watch", watch.__doc__)
    options.add_argument("--configfile", nargs="+", default=[], help="overlays, as of the workflow")
    options.add_argument("--every", type=_seconds, default=5.0, help="seconds between looks")
    options.add_argument("--once", action="store_true", help="look once, and end")
    options.add_argument("--points", help="also write the points so far to this .csv")
    args = options.parse_args(arguments)
    config = load(["config.yaml", *args.configfile])
    runs = expand(config)
    sources = {root.folder: root for task in config["tasks"] for root in roots(config, task)}
    looks = _looks(runs, Points(sources), args.points, config["results_dir"])
    console = Console(width=None if sys.stdout.isatty() else _WIDE)
    if args.once or not console.is_terminal:
        console.print(next(looks)[0])
        return
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        for view, ended in looks:
            live.update(view, refresh=True)
            if ended:
                return
            time.sleep(args.every)


def _seconds(text: str) -> float:
    """Seconds between two looks; reading without a pause would load the disk."""
    seconds = float(text)
    if not 0.5 <= seconds < math.inf:
        raise ValueError(text)
    return seconds


def _looks(
    runs: list[Run], points: Points, output: str | None, results: str
) -> Iterator[tuple[Group, bool]]:
    """Yield the view of each look, and whether all runs are done and measured."""
    while True:
        alive = _is_running(results)
        table, measured = states(runs, alive), points.of(runs)
        if output:
            with atomic_path(output) as temporary:
                measured.to_csv(temporary, index=False)
        counts = table["state"].value_counts()
        sound = table[(table["state"] == "done") & (table["message"] == "")]
        with_points = measured.drop_duplicates(["task", "study", "method", "setting", "seed"])
        ended = counts.get("done", 0) == len(runs) and len(with_points) >= len(sound)
        parts = [_head(table, measured, alive), _by_method(table, measured)]
        parts += [_latest(measured)] * bool(len(measured))
        failures = table[table["state"] == "failed"]
        lines = [f"{_name(row)}: {row.message}" for row in failures.itertuples()]
        parts += [f"[red]failed[/] {escape(line)}" for line in lines]  # errors quote texts
        yield Group(*parts), ended


def _is_running(results: str) -> bool:
    """Return True if a workflow runs in this folder, or writes these results from another."""
    return is_locked(".") or is_locked(results) or any(Path(".snakemake/locks").glob("*"))


def _head(table: Any, measured: Any, alive: bool) -> str:
    """The first line: counts of runs, and the time left."""
    counts = table["state"].value_counts().reindex(STATES, fill_value=0)
    by_state = ", ".join(f"{counts[state]} {state}" for state in STATES)
    left = seconds_left(table)
    if not math.isfinite(left):
        when = "no run is trained yet, so the time left is unknown"
    elif left:
        when = f"about {_clock(left)} of training left"
    else:
        when = "all trained"
    working = "" if alive else "; [yellow]no workflow is running here[/]"
    return f"[bold]{len(table)} runs[/]: {by_state}; {len(measured)} measured; {when}{working}"


def _clock(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def _by_method(table: Any, measured: Any) -> Table:
    """A row per method of each task and study: its runs, and the ranges of its points."""
    shown = Table("task", "method", *_RIGHT, box=SIMPLE_HEAD, pad_edge=False)
    for column in shown.columns:
        column.no_wrap = True
        column.justify = "right" if column.header in _RIGHT else "left"
    waiting = 0
    for keys, part in table.groupby(["task", "study", "method"], sort=False):
        counts = part["state"].value_counts().reindex(STATES, fill_value=0)
        if counts["waiting"] == len(part):
            waiting += len(part)
            continue
        task, study, method = keys
        points = measured[(measured[["task", "study", "method"]] == keys).all(axis=1)]
        busy = (str(counts[state] or "") for state in ("running", "failed"))
        seconds = f"{part['seconds'].mean():.1f}" if part["seconds"].sum() else ""
        shown.add_row(
            f"{task}/{study}" if study else task, method, f"{counts['done']}/{len(part)}", *busy,
            seconds, str(len(points) or ""), _range(points["kl"]), _range(points["win_rate"]),
        )  # fmt: skip
    shown.caption = f"and {waiting} runs of methods that wait" if waiting else None
    return shown


def _range(values: Any) -> str:
    """Smallest and largest measured value."""
    ends = dict.fromkeys(f"{end:.2f}" for end in (values.min(), values.max()))
    return "" if values.isna().all() else "-".join(ends)


def _latest(measured: Any) -> Table:
    """The last points, with their standard errors over prompts."""
    shown = Table("latest point", "t", "KL (nats)", "win rate", "reward", box=SIMPLE_HEAD)
    shown.pad_edge = False
    for row in measured.tail(_LATEST).itertuples():
        kl, wins = f"{row.kl:.3f} ± {row.kl_se:.3f}", f"{row.win_rate:.3f} ± {row.win_rate_se:.3f}"
        shown.add_row(_name(row), f"{row.temperature:g}", kl, wins, f"{row.reward:.3f}")
    return shown


def _name(row: object) -> str:
    where = f"{row.task}/{row.study}" if row.study else row.task
    return f"{where} {row.method} {row.setting} seed {row.seed}"

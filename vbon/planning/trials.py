"""Trials of budgets: studies named ``x{level}-{method}-{letter}``, which train one method each.

The training of a trial may cost at most ``level`` times as many operations as that of the first.
"""

import re
from collections.abc import Sequence
from typing import Any

from vbon.errors import ConfigError
from vbon.planning.cost import estimate, shape_of
from vbon.planning.runs import Root, Run
from vbon.tasks.base import ROLES

TRIAL = re.compile(r"x(\d+)-(.+)-([a-z]+)")


def is_trial(study: str) -> bool:
    """Return True if a study is a trial by its name.

    Example:
        >>> is_trial("x4-bon_sft-a"), is_trial("figure4")
        (True, False)
    """
    return TRIAL.fullmatch(study) is not None


def trained(trials: Sequence[Root], runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """Cost of a run of each trial, by the formulas of :mod:`vbon.planning.cost`.

    Args:
        trials: The first is the unit of cost.
        runs: All runs of them; in each trial all cost the same, or the costliest counts.

    Returns:
        By study ``level``, ``method``, ``trial`` (its letter), ``budget`` (settings by key),
        ``cost`` in units, and ``tokens`` (drawn).

    Raises:
        ConfigError: If a trial costs more than its level.
    """
    costs: dict[str, dict[str, Any]] = {}
    unit = None
    for root in trials:
        shapes = {role: shape_of(root.section, role, role == "reference") for role in ROLES}
        level, method, letter = TRIAL.fullmatch(root.study).groups()
        mine = [run for run in runs if run.root == root.folder and run.method == method]
        if not mine or method not in root.section["budgets"]:
            raise ConfigError(
                f"{root.path}: a study of this name compares budgets of {method}; give "
                f"run_methods: [{method}] and budgets.{method}, or another name"
            )
        works = [estimate(root.section, [run], shapes).training for run in mine]
        work = max(works, key=lambda work: work.flop)
        unit = unit or work.flop
        if work.flop > int(level) * unit:
            raise ConfigError(
                f"{root.path}: a run costs {work.flop / unit:.3f} times one of the first trial, "
                f"accepted are at most {level}; lower its budget"
            )
        names = {"level": int(level), "method": method, "trial": letter}
        numbers = {"cost": work.flop / unit, "tokens": int(work.tokens)}
        costs[root.study] = {**names, "budget": root.section["budgets"][method], **numbers}
    return costs

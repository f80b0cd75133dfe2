"""The checked configuration, its plan, and the wildcards of all rules."""

import os

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from vbon.errors import VbonError
from vbon.planning import snakemake9
from vbon.planning.analysis_values import Values
from vbon.planning.config import resolve, uninstalled
from vbon.planning.drawing import Drawing
from vbon.planning.runs import advice, pair_files
from vbon.planning.values import read_yaml
from vbon.planning.workflow import EXAMPLES, SPLITS, Plan, as_json
from vbon.tasks.base import ROLES

IS_ALONE = "FIGURES_ALONE" in globals()  # set by workflow/figures.smk

try:
    for file in snakemake9.config_files(workflow):
        read_yaml(file)  # Snakemake accepts a key that is given twice
    config = resolve(config)
    PLAN = Plan(config, IS_ALONE, snakemake9.is_started_by_user(workflow))
except VbonError as error:
    raise WorkflowError(f"configuration: {error}") from None

os.environ |= PLAN.environment
DRAWING = Drawing(PLAN)
VALUES = Values(PLAN)
STEPS = PLAN.steps
RESULTS = PLAN.results
LIGHT = PLAN.is_light

if not IS_ALONE:
    unfinished = [
        f"partial: {len(PLAN.missing(task))} runs of {task} are missing"
        for task in (config["tasks"] if PLAN.is_partial else [])
        if PLAN.missing(task)
    ]
    for line in [*advice(PLAN.runs), *uninstalled(config), *unfinished]:
        logger.warning(line)


wildcard_constraints:
    task="|".join(PLAN.text_tasks) or "none",
    root="|".join(PLAN.roots),
    split="|".join(PLAN.sets_of_draws),
    role="|".join(ROLES),
    shard=r"\d+",
    m=r"\d+",

"""Files and settings of the steps of the analysis, by the names of their parameters."""

from collections.abc import Callable
from functools import reduce
from operator import getitem, itemgetter
from typing import Any, get_origin

from vbon.artifacts.fingerprint import digest
from vbon.artifacts.steps import Step
from vbon.planning.runs import Run, language_of
from vbon.planning.workflow import EXAMPLES, Plan, as_json
from vbon.pool.logf import RANK_BASED
from vbon.tasks.base import ROLES

SAME_RANKS = ("identity", "invariance")
"""Studies of the same runs on rewards of the same order; they are too short for an optimum."""
TILTS = ("best_of_n", "lower_bound", "kl_rl", "win_rate")
"""Optima of methods (:mod:`vbon.objectives.oracle`) that weights of the reference's draws give."""
_HOW_IT_RUNS = ("results_dir", "tasks", "partial", "runs_per_job", "gpus_per_job")

Wildcards = Any
"""Values of a rule's wildcards, as attributes."""


class Values:
    """Inputs and parameters of the rules of tables.

    Args:
        plan: The plan of the workflow.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def inputs(self, step: Step) -> dict[str, Callable[[Wildcards], Any]]:
        """Input functions of the rule of a table's step."""
        return {name: self._function(name, as_files=True) for name in step.named("input")}

    def params(self, step: Step) -> dict[str, Any]:
        """Parameters of the rule of a table's step: its settings, named files, and code."""
        settings = step.named("setting")
        names = [
            n for n, p in step.parameters.items() if n in settings or get_origin(p.type) is dict
        ]

        def code_of(wildcards: Wildcards) -> str | None:
            return self.plan.code(step.name, task=self.plan.tasks[wildcards.task])

        code = code_of if "task" in settings else self.plan.code(step.name)
        return {**{name: self._function(name) for name in names}, "code": code}

    def _function(self, name: str, as_files: bool = False) -> Callable[[Wildcards], Any]:
        """A function of wildcards: the value of a name for their task."""

        def value(wildcards: Wildcards) -> Any:
            content = self.value(wildcards.task, name)
            if isinstance(content, dict) and name in NAMED:
                return list(content.values()) if as_files else self.plan.words(content)
            words = content if isinstance(content, list) else [content]
            is_plain = all(isinstance(word, str | int | float) for word in words)
            return content if as_files or is_plain else as_json(content)

        return value

    def value(self, task: str, name: str) -> Any:
        """File, files or setting that a table's step gets for its parameter of this name.

        Raises:
            KeyError: If nothing has that name.
        """
        return VALUES[name](self.plan, task)


def _optimised(plan: Plan, task: str) -> list[Run]:
    """Runs of a language that are compared with their optima."""
    return [run for run in plan.runs if run.task == task and run.study not in SAME_RANKS]


def _optimised_sections(plan: Plan, task: str) -> dict[str, Any]:
    roots = [root for root in plan.roots.values() if root.task == task]
    return {r.folder: language_of(r.section) for r in roots if r.study not in SAME_RANKS}


def _served(plan: Plan, task: str) -> list[Run]:
    """The first run of each setting of a task's methods."""
    firsts: dict[tuple[str, str], Run] = {}
    for run in plan.runs_of(task):
        firsts.setdefault((run.method, run.setting), run)
    return list(firsts.values())


def _fitted(plan: Plan, task: str) -> list[Run]:
    """Trained runs whose method's optimum is a tilt of the reference's draws."""
    trained = [run for run in plan.runs_of(task) if run.instance.trained]
    return [r for r in trained if r.instance.optimum in TILTS and not r.instance.is_reference]


def _rank_draws(plan: Plan, task: str) -> dict[str, int]:
    """Fewest draws per training prompt whose ranks alone give log F, by method."""
    runs = [run for run in _fitted(plan, task) if "logf" in run.instance.needs]
    settings = [(run.method, run.spec["logf"]) for run in runs]
    draws = [(name, logf["m"]) for name, logf in settings if logf["estimator"] in RANK_BASED]
    return dict(sorted(draws, key=itemgetter(1), reverse=True))  # the last of a name stays


def _evidence(plan: Plan, task: str) -> dict[str, str]:
    """Tables that a task's claims use, as far as this configuration makes them."""
    folder, tables = plan.folder(task), plan.tables(task)
    points = {"points": f"{folder}/points.parquet", "costs": f"{folder}/costs.parquet"}
    paths = points if task in plan.text_tasks else {}
    for name in ("orderings", "table1", "section6"):
        paths |= {name: f"{folder}/tables/{name}.csv"} if name in tables else {}
    for name in ("figure4", *SAME_RANKS):
        file = f"{folder}/studies/{name}/points.parquet"
        paths |= {name: file} if plan.studied(task, name) else {}
    return paths


def _descriptions(plan: Plan, task: str) -> dict[str, str]:
    """Files that describe the texts and models of a task, by role."""
    folder = plan.folder(task)
    if task not in plan.text_tasks:
        return {"language": f"{folder}/data/strings.parquet"}
    return {"texts": f"{folder}/data/texts.parquet", **_cards(plan, task)}


def _cards(plan: Plan, task: str) -> dict[str, str]:
    return {role: f"{plan.folder(task)}/models/{role}/card.json" for role in ROLES}


def _config_hash(plan: Plan, task: str) -> str:
    """Hash of the configuration of one task."""
    omitted = {*_HOW_IT_RUNS, *plan.config["tasks"]}
    shared = {key: value for key, value in plan.config.items() if key not in omitted}
    return digest({**shared, "task": plan.config[task]})


def _shown_split(plan: Plan, task: str) -> str:
    """Set of responses that is shown: at the temperature nearest to that of table 2."""
    splits = plan.tasks[task].splits
    return min(splits, key=lambda name: abs(splits[name] - EXAMPLES["table2"]))


def _path(pattern: str) -> Callable[[Plan, str], str]:
    return lambda plan, task: f"{plan.folder(task)}/{pattern}"


def _setting(*keys: str) -> Callable[[Plan, str], Any]:
    return lambda plan, task: reduce(getitem, keys, plan.config[task])


VALUES: dict[str, Callable[[Plan, str], Any]] = {
    "points": _path("points.parquet"),
    "pareto": _path("pareto.parquet"),
    "equivalence_points": _path("studies/equivalence/points.parquet"),
    "estimators_points": _path("studies/estimators/points.parquet"),
    "texts": _path("data/texts.parquet"),
    "train_prompts": _path("prompts/train.parquet"),
    "test_prompts": _path("prompts/test.parquet"),
    "samples": _path("reference/samples/train.parquet"),
    "train_rewards": _path("reference/rewards/train.parquet"),
    "test_rewards": lambda plan, task: plan.test_rewards(plan.roots[task]),
    "reference": _path("models/reference/card.json"),
    "reward_model": _path("models/reward_model/card.json"),
    "evaluator": _path("models/evaluator/card.json"),
    "model_cards": _cards,
    "descriptions": _descriptions,
    "evidence": _evidence,
    "equivalence": lambda plan, task: (
        [f"{plan.folder(task)}/tables/equivalence.csv"] * plan.has_equivalence(task)
    ),
    "prompt_means": lambda plan, task: (
        [f"{plan.folder(task)}/tables/prompt_means.csv"] * ("prompt_means" in plan.tables(task))
    ),
    "oracle_curves": _path("tables/oracle_curves.csv"),
    "lead": lambda plan, task: (
        [f"{plan.folder(task)}/tables/lead.csv"] if "lead" in plan.tables(task) else []
    ),
    "runs": lambda plan, task: plan.records(plan.runs_of(task)),
    "measured": Plan.measured,
    "served": lambda plan, task: [run.to_json() for run in _served(plan, task)],
    "served_runs": lambda plan, task: plan.records(_served(plan, task)),
    "fitted": lambda plan, task: plan.records(runs := _fitted(plan, task)) + plan.marks(runs),
    "optima": lambda plan, task: {run.method: run.instance.optimum for run in _fitted(plan, task)},
    "rank_draws": _rank_draws,
    "trial_points": lambda plan, task: {
        root.study: f"{root.folder}/points.parquet" for root in plan.trials(task)
    },
    "unequal_points": lambda plan, task: {
        name: f"{plan.folder(task)}/studies/{name}/points.parquet" for name in plan.unequal(task)
    },
    "mappings": Plan.unequal,
    "trained": lambda plan, task: plan.costs[task],
    "optimised": lambda plan, task: [run.to_json() for run in _optimised(plan, task)],
    "optimised_runs": lambda plan, task: plan.records(_optimised(plan, task)),
    "sections": _optimised_sections,
    "strings": lambda plan, task: {
        root: f"{root}/data/strings.parquet" for root in _optimised_sections(plan, task)
    },
    "task": lambda plan, task: plan.tasks[task].cut(),
    "groups": lambda plan, task: list(plan.tasks[task].claims),
    "planned": lambda plan, task: sum(run.task == task for run in plan.planned),
    "folders": Plan.missing,
    "seed": lambda plan, task: plan.seed,
    "bootstrap": lambda plan, task: plan.config["figures"]["bootstrap"],
    "config": _config_hash,
    "shown_split": _shown_split,
    "subreddit": _setting("prompts", "example"),
    "scoring": _setting("rewards"),
    "checks": _setting("checks"),
    "test_draws": _setting("sampling", "test_draws"),
    "prompts_served": _setting("inference", "prompts"),
    "n": lambda plan, task: plan.studied(task, "estimators")[0].instance.n,
    "drawing": lambda plan, task: {
        name: plan.config[task]["sampling"][name] for name in ("max_new_tokens", "temperature")
    },
}  # fmt: skip
"""Value of each parameter that a step of :mod:`vbon.analysis.steps` may have, for a task."""

NAMED = (
    "test_rewards", "model_cards", "descriptions", "evidence", "strings", "trial_points",
    "unequal_points",
)  # fmt: skip
"""Names whose values are files by name."""

"""Files, settings and jobs of a configuration, for the rules of the workflow.

Rules contain patterns of paths; everything that depends on the configuration is here, where unit
tests reach it.
"""

import json
import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from vbon.artifacts.fingerprint import content_hash
from vbon.artifacts.functions import FUNCTIONS
from vbon.artifacts.steps import Step, steps
from vbon.errors import VbonError
from vbon.methods.registry import method_modules
from vbon.planning import snakemake9
from vbon.planning.config import tasks_of
from vbon.planning.hub import hub_sources
from vbon.planning.inputs import check_inputs, content, data_inputs, model_inputs
from vbon.planning.runs import Root, Run, expand, file_of, jobs, language_of, roots
from vbon.planning.trials import is_trial, trained
from vbon.tasks.base import ROLES, Task, TextTask, evaluation_splits

SPLITS = ("train", "test")
UNEQUAL = ("prompt_scale", "reward_tail")
"""Settings of the loop that map rewards (:class:`vbon.rewards.unequal.Inequality`)."""
EXAMPLES = {"table2": 0.5, "table4": 0.25, "table5": 0.5, "table6": 0.75, "table7": 1}
"""Tables of one post's summaries, and their temperatures."""
STUDIED = ("figure4", "estimators")
"""Studies that have a figure of their name."""
UNREAD = (
    "attainment", "oracle_curves", "shown_pools", "monitored", "histories", "excerpts", "cards",
    "prompt_means",
)  # fmt: skip
"""Tables that are drawn, or are shown by the report alone; the others are rendered as Markdown."""
FEW_DRAWS = 100_000  # of a pool: read, joined and counted in about a second
TABLE1_DRAWS = 850  # a pool of 600 and, outside of it, the largest sample of 250


def as_json(value: Any) -> str:
    """Settings as one word of a command line; the logged command alone repeats the job."""
    return json.dumps(value, sort_keys=True)


class Plan:
    """A resolved configuration as the workflow carries it out.

    Args:
        config: A resolved configuration.
        is_alone: Whether only figures are drawn, of the tables that exist.
        has_code: Whether hashes of code are needed: only where the workflow was started.
    """

    def __init__(
        self, config: Mapping[str, Any], is_alone: bool = False, has_code: bool = True
    ) -> None:
        self.config, self.is_alone, self._has_code = config, is_alone, has_code
        if not is_alone and has_code:
            check_inputs(config)
        self.planned = expand(config)
        self.is_partial = config["partial"] and not is_alone
        self.runs = [run for run in self.planned if run.is_done()] if self.is_partial else (
            self.planned
        )  # fmt: skip
        self.results, self.seed = config["results_dir"], config["seed"]
        self.gpus = config["gpus_per_job"]  # of a job that trains; its processes have one each
        self.gpu = min(self.gpus, 1)  # of any other that runs models
        self.hub = hub_sources(config)  # sources on the hub, by key of the id
        with_runs = {run.task for run in self.runs if not run.study}
        self.tasks: dict[str, Task] = {
            name: task for name, task in tasks_of(config).items() if name in with_runs
        }
        if not self.tasks:
            raise VbonError(
                "partial: true, and no run is finished yet; start them with partial: false"
            )
        self.jobs = jobs(self.runs, config["runs_per_job"])
        self.roots: dict[str, Root] = {
            root.folder.removeprefix(f"{self.results}/"): root
            for task in self.tasks
            for root in roots(config, task)
        }
        self.costs = {name: trained(self.trials(name), self.runs) for name in self.tasks}
        self.steps = steps()

    # Tasks

    @property
    def text_tasks(self) -> list[str]:
        """Tasks whose texts train models and give prompts."""
        return [name for name, task in self.tasks.items() if isinstance(task, TextTask)]

    def having(self, table: str) -> str:
        """Pattern of the tasks that have a table."""
        names = [name for name in self.tasks if table in self.tables(name)]
        return "|".join(names) or "none"

    def missing(self, task: str) -> list[str]:
        """Folders of a task's runs that are planned and not finished, where that is allowed."""
        finished = {run.folder for run in self.runs}
        folders = [run.folder for run in self.planned if run.task == task]
        return [folder for folder in folders if folder not in finished]

    def runs_of(self, root: str) -> list[Run]:
        """The runs of a task or study."""
        return [run for run in self.runs if run.root == f"{self.results}/{root}"]

    def studied(self, task: str, name: str) -> list[Run]:
        """The runs of one study of a task."""
        return [run for run in self.runs if run.task == task and run.study == name]

    def records(self, runs: Iterable[Run]) -> list[str]:
        """Records of runs."""
        return [f"{run.folder}/run.json" for run in runs]

    def marks(self, runs: Iterable[Run]) -> list[str]:
        """Files that exist once runs are measured: one per job."""
        folders = {run.folder for run in runs}
        jobs = [k for k, group in self.jobs.items() if folders & {run.folder for run in group}]
        return [f"{self.results}/{self.jobs[name][0].task}/evaluated/{name}" for name in jobs]

    def measured(self, root: str) -> list[str]:
        """Records and marks of the runs of a task or study."""
        runs = self.runs_of(root)
        return [*self.records(runs), *self.marks(runs)]

    @staticmethod
    def words(paths: Mapping[str, str]) -> list[str]:
        """Files as words of a command line, each by its name."""
        return [f"{name}={path}" for name, path in paths.items()]

    @staticmethod
    def damaged(workflow: Any) -> list[str]:
        """Files that `vbon workflow` set aside and a rule makes: no other rule may request them."""
        paths = json.loads(os.environ.get("VBON_REBUILD", "[]"))
        return snakemake9.producible(workflow, paths)

    # Code

    def code(self, name: str, *more: str | Path, **objects: Any) -> str | None:
        """Hash of a step's code, by which its jobs run again; None inside a cluster's job."""
        return self.steps[name].code(*more, **objects) if self._has_code else None

    def code_of_group(self, name: str, group: list[Run]) -> str | None:
        """Hash of a step's code and of the methods of a job's runs."""
        methods = sorted({run.method for run in group})
        return self.code(name, *(method_modules()[method] for method in methods))

    def code_of_languages(self) -> str | None:
        """Hash of the code that writes languages, of all their kinds."""
        step = self.steps["languages"]
        tasks = [task for name, task in self.tasks.items() if name not in self.text_tasks]
        return self.code(step.name, *sorted({root for t in tasks for root in step.roots(task=t)}))

    # Texts, models and prompts

    def fetched(self, *place: str) -> list[str]:
        """Record that a part of the configuration has been fetched, if it is on the hub."""
        is_fetched = any(name.startswith(".".join(place) + ".") for name in self.hub)
        return [f"{self.results}/{place[0]}/hub.json"] if is_fetched else []

    def sources(self, task: str) -> str:
        """Everything that a task takes from the hub."""
        return as_json({k: v for k, v in self.hub.items() if k.startswith(f"{task}.")})

    def inputs_of(self, task: str, role: str | None = None) -> str | None:
        """Content of the user's files that are a task's data, or a model; as for :meth:`code`."""
        if not self._has_code:
            return None
        section = self.config[task]
        return as_json(content(model_inputs(section, role) if role else data_inputs(section)))

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables of all jobs, for reward functions.

        Those of the configuration alone are run, and one that uses ``hash`` or the order of a set
        has the same answers in each process.
        """
        models = (self.config[task].get(role, {}) for task in self.tasks for role in ROLES)
        files = {name.rpartition(":")[0] for m in models if (name := m.get("callable"))}
        hashes = sorted(content_hash(file) for file in files if os.path.isfile(file))
        seed = os.environ.get("PYTHONHASHSEED", "random")
        return {
            FUNCTIONS: ",".join(hashes),
            "PYTHONHASHSEED": "0" if seed == "random" else seed,
        }

    def text_settings(self, task: str, *keys: str) -> str:
        """The part of a section that makes texts, models or prompts."""
        section = self.tasks[task].cut(*keys)
        for role in ROLES:  # an estimate of cost alone depends on sizes
            if role in section:
                section[role] = {k: v for k, v in section[role].items() if k != "size"}
        return as_json(section)

    # Reference draws

    def drawn_together(self, task: str) -> dict[str, dict[str, float]]:
        """Temperatures of the sets of draws that answer the same prompts, by these prompts."""
        training = {"train": self.config[task]["sampling"]["temperature"]}
        return {"train": training, "test": self.tasks[task].splits}

    @property
    def sets_of_draws(self) -> list[str]:
        """Names of all sets of draws: test prompts may be answered at several temperatures."""
        splits = (evaluation_splits(root.section) for root in self.roots.values())
        return sorted({"train", *(name for names in splits for name in names)})

    def drawing(self, task: str) -> str:
        """Settings of drawing other than number and temperature."""
        names = ["backend", "max_new_tokens", "prompts_per_shard", "prompts_per_batch"]
        sampling = self.config[task]["sampling"]
        if sampling["backend"] == "vllm":
            names.append("vllm")
        return as_json({name: sampling[name] for name in names})

    def gpus_for_drawing(self, task: str) -> int:
        """GPUs of a job that draws: vLLM may hold a part of the model on each of several."""
        sampling = self.config[task]["sampling"]
        parts = sampling["vllm"]["tensor_parallel_size"] if sampling["backend"] == "vllm" else 1
        return parts * self.gpu

    def num_shards(self, task: str, prompts: str) -> int:
        """Number of shards of a split of prompts."""
        size = self.config[task]["sampling"]["prompts_per_shard"]
        return -(-self.tasks[task].num_prompts[prompts] // size)

    def shards(self, task: str, kind: str, split: str) -> list[str]:
        """Shards of the samples or rewards of one set of draws."""
        folder = f"{self.results}/{task}/reference/shards"
        count = self.num_shards(task, split.partition("-")[0])
        return [f"{folder}/{kind}-{split}-{shard}.parquet" for shard in range(count)]

    def draws(self, task: str, prompts: str) -> int:
        """Draws per prompt: test prompts also have the fresh ones that best-of-n chooses from."""
        section = self.config[task]
        if prompts == "train":
            return section["sampling"]["train_draws"]
        blocks = len(section["evaluation"].get("sample_seeds") or [0])
        return section["sampling"]["test_draws"] + blocks * section["sampling"]["fresh_draws"]

    def used_draws(self, task: str, split: str) -> int:
        """Draws per prompt that log F of a set of draws is estimated from."""
        section = self.config[task]
        return section["logf"]["m"] if split == "train" else section["sampling"]["test_draws"]

    @cached_property
    def is_light(self) -> bool:
        """True if all pools are so small that joining or counting them needs no cluster job."""
        return all(self._pool_draws(root) <= FEW_DRAWS for root in self.roots.values())

    def _pool_draws(self, root: Root) -> int:
        """Reference draws of one task or study, at all temperatures."""
        if root.task in self.text_tasks:
            counts, sets = self.tasks[root.task].num_prompts, self.drawn_together(root.task)
            return sum(counts[p] * len(sets[p]) * self.draws(root.task, p) for p in sets)
        names, sampling = ("train_draws", "test_draws", "fresh_draws"), root.section["sampling"]
        return root.section["num_prompts"] * sum(sampling[name] for name in names)

    # Languages

    @property
    def languages(self) -> dict[str, dict[str, Any]]:
        """Settings of data and pool of each task and study that writes a language, by folder."""
        languages = [root for root in self.roots.values() if root.task not in self.text_tasks]
        return {root.folder: language_of(root.section) for root in languages}

    # Runs

    def training_inputs(self, group: list[Run]) -> list[str]:
        """Files that a job's runs read; data outside their bounds stop it."""
        task = group[0].task
        is_checked = task in self.text_tasks and any(run.instance.trained for run in group)
        files = {f"{self.results}/{task}/tables/data.csv"} if is_checked else set()
        return sorted(files.union(*(map(file_of, run.inputs().values()) for run in group)))

    def evaluation_inputs(self, runs: Iterable[Run]) -> list[str]:
        """Files that measuring some runs reads, beside the runs."""
        paths: set[str] = set()
        for run in runs:
            for split in evaluation_splits(self.root_of(run).section):
                paths.update(map(file_of, run.evaluation_inputs(split).values()))
        return sorted(paths)

    def root_of(self, run: Run) -> Root:
        """The task or study of a run."""
        return self.roots[run.root.removeprefix(f"{self.results}/")]

    def measuring(self, root: Root) -> dict[str, Any]:
        """Settings of the measurement of a policy."""
        limits = ("max_new_tokens", "test_draws", "fresh_draws")
        sampling = {name: root.section["sampling"][name] for name in limits}
        evaluation = {k: v for k, v in root.section["evaluation"].items() if k != "temperatures"}
        splits = evaluation_splits(root.section)
        ties = {"has_ties": True} if self.tasks[root.task].has_ties else {}
        return {**evaluation, **root.section["rewards"], **sampling, "splits": splits, **ties}

    # Points

    def seconds(self, root: Root) -> list[str]:
        """Times of drawing and scoring the training prompts' pool."""
        count = self.num_shards(root.task, "train") if root.task in self.text_tasks else 1
        stems = [f"{root.shared}/reference/seconds/{k}-train" for k in ("samples", "rewards")]
        return [f"{stem}-{shard}.json" for stem in stems for shard in range(count)]

    def test_rewards(self, root: Root) -> dict[str, str]:
        """The reference's rewards of each set of draws for the test prompts."""
        folder = f"{root.shared}/reference/rewards"
        return {split: f"{folder}/{split}.parquet" for split in evaluation_splits(root.section)}

    def aggregating(self, root: Root) -> str:
        """Settings of the points of a task or study."""
        settings = {"temperature": root.section["sampling"]["temperature"], "seed": self.seed}
        settings["by_domain"] = self.tasks[root.task].has_domains
        return as_json({**self.measuring(root), **settings})

    # Tables

    def tables(self, task: str) -> dict[str, Step]:
        """Steps that make the tables of a task, as far as the configuration has what they need."""
        is_one_temperature = len(self.tasks[task].splits) == 1
        conditions = {
            "convergence": self.has_training(task),
            "histories": self.has_training(task),
            "equivalence": self.has_equivalence(task),
            "table1": self.config[task]["sampling"]["train_draws"] >= TABLE1_DRAWS,
            "estimators": bool(self.studied(task, "estimators")),
            "trials": is_one_temperature and bool(self.trials(task)),
            "unequal": is_one_temperature and bool(self.unequal(task)),
            "examples": False,  # by name
            **dict.fromkeys(("distances", "prompt_means", "bands"), is_one_temperature),
        }
        names = [*self.tasks[task].tables, "claims", "missing"]
        return {name: self.steps[name] for name in names if conditions.get(name, True)}

    def has_training(self, task: str) -> bool:
        """Return True if any run of the task itself is trained."""
        runs = self.runs_of(task)
        return any(run.instance.trained and not run.instance.is_reference for run in runs)

    def has_equivalence(self, task: str) -> bool:
        """Return True if vBoN and its L bound are trained at the same n and seed."""
        studies = {"vbon": ("", "equivalence"), "vbon_l": ("equivalence",)}
        runs = [run for run in self.runs if run.task == task]
        exact, bound = (
            {(r.instance.n, r.seed) for r in runs if r.method == method and r.study in where}
            for method, where in studies.items()
        )
        return any(n > 1 for n, _ in exact & bound)

    def examples(self, task: str) -> list[str]:
        """Tables of one post's summaries, at the temperatures that are measured."""
        if "examples" not in self.tasks[task].tables:
            return []
        measured = self.tasks[task].splits.values()
        return [name for name, temperature in EXAMPLES.items() if temperature in measured]

    def table_names(self, task: str) -> list[str]:
        """Names of all tables that a task's steps make."""
        steps = self.tables(task).values()
        paths = [path for step in steps for path in self.outputs(step).values()]
        return [*(Path(path).stem for path in paths), *self.examples(task)]

    def rendered(self, task: str) -> list[str]:
        """Names of the tables for reading, as Markdown."""
        unread = UNREAD if self.is_partial else (*UNREAD, "missing")
        return [name for name in self.table_names(task) if name not in unread]

    def table_steps(self) -> list[str]:
        """Names of the steps that make the tables of any task."""
        return list(dict.fromkeys(name for task in self.tasks for name in self.tables(task)))

    def outputs(self, step: Step) -> dict[str, str]:
        """Pattern of each table that a step makes."""
        names = {name: step.name if name == "output" else name for name in step.named("output")}
        return {key: f"{self.results}/{{task}}/tables/{name}.csv" for key, name in names.items()}

    def is_local(self, step: Step) -> bool:
        """Return True if a table is made so quickly that it needs no cluster job."""
        reads_pool = not {"samples", "train_rewards"}.isdisjoint(step.parameters)
        return step.is_light and (self.is_light or not reads_pool)

    def folder(self, task: str) -> str:
        """Folder of a task's results."""
        return f"{self.results}/{task}"

    def unequal(self, task: str) -> dict[str, dict[str, float]]:
        """Maps of the rewards in each study that makes them unequal, by name."""
        runs = [r for r in self.runs if r.task == task and r.study and r.method == "ppo"]
        maps = {run.study: {key: run.spec["online"][key] for key in UNEQUAL} for run in runs}
        return {name: numbers for name, numbers in maps.items() if any(numbers.values())}

    def trials(self, task: str) -> list[Root]:
        """Studies of a task that compare budgets."""
        return [r for r in self.roots.values() if r.task == task and is_trial(r.study)]

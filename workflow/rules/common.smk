"""The only Python of the workflow: the checked configuration, the runs, and what triggers reruns."""

import json
import os

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from vbon.artifacts.fingerprint import code_fingerprint
from vbon.planning.config import evaluation_splits, resolve, uninstalled
from vbon.errors import VbonError
from vbon.planning.hub import hub_sources
from vbon.analysis.draws import POOL, SIZES
from vbon.planning.phases import language_of
from vbon.planning.runs import TRAIN_MODULES, advice, file_of, jobs, roots
from vbon.planning.runs import expand as expand_runs
from vbon.methods.registry import method_modules

try:
    config = resolve(config)
    PLANNED = expand_runs(config)
except VbonError as error:
    raise WorkflowError(f"configuration: {error}") from None

# Figures that are drawn alone take their tables as they are.
PARTIAL = config["partial"] and not globals().get("ALONE", False)
RUNS = [run for run in PLANNED if run.is_done()] if PARTIAL else PLANNED

if not globals().get("ALONE", False):
    for line in advice(RUNS) + uninstalled(config):
        logger.warning(line)

RESULTS = config["results_dir"]
GPUS = config["gpus_per_job"]  # of a job that trains; its processes have one each
GPU = min(GPUS, 1)  # of any other that runs models
HUB = hub_sources(config)  # what is fetched from the hub, by its place in the config
TASKS = [
    task
    for task in config["tasks"]
    if any(run.task == task and not run.study for run in RUNS)
]
if not TASKS:
    raise WorkflowError(
        "partial: true, and no run is finished yet; start them with partial: false"
    )
JOBS = jobs(RUNS, config["runs_per_job"])
ROOTS = {
    root.folder.removeprefix(f"{RESULTS}/"): root
    for task in TASKS
    for root in roots(config, task)
}
BUILT = [
    task for task in TASKS if task != "enumerable"
]  # whose models are built or loaded
SPLITS = ("train", "test")
DRAWN = {
    "train",
    *(split for root in ROOTS.values() for split in evaluation_splits(root.section)),
}  # sets of the reference's draws: test prompts may be answered at several temperatures
ROLES = ("reference", "reward_model", "evaluator")
EXAMPLES = {  # tables of one post's summaries, by temperature
    "table2": 0.5,
    "table4": 0.25,
    "table5": 0.5,
    "table6": 0.75,
    "table7": 1,
}
POSTS = [task for task in BUILT if "posts" in config[task]]
POOLED = [task for task in TASKS if task not in POSTS]  # whose points are one row a run
COMPARED = [task for task in BUILT if task in POOLED]  # at equal KL
OPTIMA = ["optimum", "pools", "exact_and_bound", "limits", "curves"]

INVARIANCE = ("identity", "invariance")  # studies of the same runs on other rewards

FEW_DRAWS = 100_000  # of a pool: read, joined and counted in about a second


wildcard_constraints:
    task="|".join(BUILT) or "none",
    root="|".join(ROOTS),
    split="|".join(DRAWN),
    role="|".join(ROLES),
    shard=r"\d+",
    m=r"\d+",


def missing(task):
    """Folders of a task's runs that are planned and not finished, where that is allowed."""
    finished = {run.folder for run in RUNS}
    folders = [run.folder for run in PLANNED if run.task == task]
    return [folder for folder in folders if folder not in finished]


for task in config["tasks"] if PARTIAL else []:
    if missing(task):
        logger.warning(f"partial: {len(missing(task))} runs of {task} are missing")


def damaged():
    """What `vbon workflow` set aside and something here makes: nothing else may ask for it."""
    found = json.loads(os.environ.get("VBON_REBUILD", "[]"))
    return [
        path for path in found if any(rule.is_producer(path) for rule in workflow.rules)
    ]


def section(wildcards, *keys):
    """A part of the task's configuration."""
    value = config[wildcards.task]
    for key in keys:
        value = value[key]
    return value


def named(paths):
    """Tables as words of a command line, each by its own name."""
    return [
        f"{os.path.basename(path).removesuffix('.parquet')}={path}" for path in paths
    ]


def fetched(*place):
    """What stands for a part of the config having been fetched, if it is taken from the hub."""
    found = any(name.startswith(".".join(place) + ".") for name in HUB)
    return [f"{RESULTS}/{place[0]}/hub.json"] if found else []


def given(wildcards):
    """Files of the user's that a model is: of its folder, or the source of a function."""
    model = section(wildcards, wildcards.role)
    if model.get("callable"):
        return [model["callable"].rsplit(":", 1)[0]]
    folder = os.path.expanduser(model["id"] or "")
    if not os.path.isdir(folder):
        return []
    return sorted(entry.path for entry in os.scandir(folder) if entry.is_file())


def as_json(value):
    """Settings as one word of a command line; the logged command alone repeats the job."""
    return json.dumps(value, sort_keys=True)


def code(*modules):
    """What makes a job run again when the code behind it changes, but not its comments.

    Snakemake decides that where it was started, not where a cluster starts it again for a job.
    """
    return code_fingerprint(*modules) if workflow.is_main_process else None


def prompts_of(split):
    """The prompts that a set of draws answers, ``train`` or ``test``."""
    return split.partition("-")[0]


def drawn_together(task):
    """Temperatures of the sets of draws that answer the same prompts, by these prompts."""
    training = {"train": config[task]["sampling"]["temperature"]}
    return {"train": training, "test": evaluation_splits(config[task])}


def drawing(task):
    """How draws are made, but for their number and temperature."""
    names = ["backend", "max_new_tokens", "prompts_per_shard", "prompts_per_batch"]
    if config[task]["sampling"]["backend"] == "vllm":
        names.append("vllm")
    return {name: config[task]["sampling"][name] for name in names}


def gpus_for_drawing(task):
    """GPUs of a job that draws: vLLM may hold a part of the model on each of several."""
    sampling = config[task]["sampling"]
    parts = 1
    if sampling["backend"] == "vllm":
        parts = sampling["vllm"]["tensor_parallel_size"]
    return parts * GPU


def shards(wildcards, kind):
    """The shards of one split's samples or rewards."""
    prompts = section(wildcards, "prompts", f"num_{prompts_of(wildcards.split)}")
    count = -(-prompts // section(wildcards, "sampling", "prompts_per_shard"))
    folder = f"{RESULTS}/{wildcards.task}/reference/shards"
    return [
        f"{folder}/{kind}-{wildcards.split}-{shard}.parquet" for shard in range(count)
    ]


def model_options(*roles):
    """Options that name the folders of models among a rule's inputs."""
    return lambda wildcards, input: [
        f"--{role.replace('_', '-')}={os.path.dirname(input[role])}" for role in roles
    ]


def seconds_of(root):
    """What drawing and scoring the training prompts' pool took."""
    task, shared = ROOTS[root].task, ROOTS[root].shared
    count = 1
    if task in BUILT:
        count = -(
            -config[task]["prompts"]["num_train"]
            // ROOTS[root].section["sampling"]["prompts_per_shard"]
        )
    return [
        f"{shared}/reference/seconds/{kind}-train-{shard}.json"
        for kind in ("samples", "rewards")
        for shard in range(count)
    ]


def draws(task, prompts):
    """Reference draws a prompt: test prompts also have the fresh ones that BoN chooses from."""
    sampling = config[task]["sampling"]
    if prompts == "train":
        return sampling["train_draws"]
    blocks = len(config[task]["evaluation"].get("sample_seeds") or [0])
    return sampling["test_draws"] + blocks * sampling["fresh_draws"]


def pool_draws(root):
    """Reference draws that a task or study has of its own, at all temperatures."""
    part = ROOTS[root].section
    if ROOTS[root].task not in BUILT:
        names = ("train_draws", "test_draws", "fresh_draws")
        return part["num_prompts"] * sum(part["sampling"][name] for name in names)
    task = ROOTS[root].task
    return sum(
        config[task]["prompts"][f"num_{prompts}"] * len(splits) * draws(task, prompts)
        for prompts, splits in drawn_together(task).items()
    )


def runs_of(root):
    """The runs of a task or study."""
    return [run for run in RUNS if run.root == f"{RESULTS}/{root}"]


def studied(task, name):
    """The runs of one study of a task."""
    return [run for run in RUNS if run.task == task and run.study == name]


def served(task):
    """The first run of each setting of a task's methods."""
    firsts = {}
    for run in runs_of(task):
        firsts.setdefault((run.method, run.setting), run)
    return list(firsts.values())


def measuring(root):
    """What shapes the measurement of a policy."""
    part = ROOTS[root.removeprefix(f"{RESULTS}/")].section
    limits = ("max_new_tokens", "test_draws", "fresh_draws")
    sampling = {name: part["sampling"][name] for name in limits}
    how = {k: v for k, v in part["evaluation"].items() if k != "temperatures"}
    return {**how, **part["rewards"], **sampling, "splits": evaluation_splits(part)}


def has_equivalence(task):
    """Whether vBoN and its L bound are trained at the same n and seed for that study."""
    places = {"vbon": ("", "equivalence"), "vbon_l": ("equivalence",)}
    exact, bound = (
        {
            (run.instance.n, run.seed)
            for run in RUNS
            if run.task == task and run.method == method and run.study in studies
        }
        for method, studies in places.items()
    )
    return any(n > 1 for n, _ in exact & bound)


def has_training(task):
    """Whether any run of the task itself is trained."""
    own = runs_of(task)
    return any(run.instance.trained and not run.instance.is_reference for run in own)


def equivalence_of(task):
    """The table of that study, if the configuration asks for it."""
    return [f"{RESULTS}/{task}/tables/equivalence.csv"] if has_equivalence(task) else []


def has_table1(task):
    """Whether there are draws enough for it: a pool and, outside of it, the largest sample."""
    return config[task]["sampling"]["train_draws"] >= POOL + max(SIZES)


def claimed_from(task):
    """The tables that a task's claims rest on, as far as this configuration makes them."""
    folder = f"{RESULTS}/{task}"
    points = {name: f"studies/{name}/points" for name in ("figure4", *INVARIANCE)}
    names = {
        "points": task in BUILT,
        "costs": task in BUILT,
        "tables/orderings": task in COMPARED,
        "tables/table1": task in COMPARED and has_table1(task),
        "tables/section6": task in POSTS,
    }
    found = {os.path.basename(name): name for name, made in names.items() if made}
    found |= {name: path for name, path in points.items() if studied(task, name)}
    return {
        name: f"{folder}/{path}.{'csv' if 'tables' in path else 'parquet'}"
        for name, path in found.items()
    }


def examples_of(task):
    """Tables of one post's summaries at the temperatures that are measured."""
    measured = evaluation_splits(config[task]).values()
    return [name for name, temperature in EXAMPLES.items() if temperature in measured]


# What only joins or counts draws is a job of a cluster where pools are large: elsewhere starting
# the job would take many times as long.
LIGHT = all(pool_draws(root) <= FEW_DRAWS for root in ROOTS)

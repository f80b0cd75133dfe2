"""What the stages of dvc.yaml ask for: a target for each phase of each task.

A target also makes the folder that its stage records, which is empty where a task has nothing of
that kind: no studies, or a method that it does not run.
"""

import base64


def runs_and_marks(runs):
    """The records of runs, and what stands for their being measured."""
    own = {run.folder for run in runs}
    marks = [
        f"{RESULTS}/{group[0].task}/evaluated/{name}"
        for name, group in JOBS.items()
        if own & {run.folder for run in group}
    ]
    return [f"{run.folder}/run.json" for run in runs] + marks


def pool_of(task):
    """Everything below the `reference` folders that some run or table reads."""
    pools = {
        file_of(path)
        for run in RUNS
        if run.task == task
        for paths in (
            run.inputs(),
            *(
                run.evaluation_inputs(split)
                for split in evaluation_splits(
                    ROOTS[run.root.removeprefix(f"{RESULTS}/")].section
                )
            ),
        )
        for path in paths.values()
        if "/reference/" in path
    }
    train = f"{RESULTS}/{task}/reference/{{}}/train.parquet"
    return sorted(pools | {train.format("samples"), train.format("rewards")})


def data_of(task):
    """Texts, models and prompts."""
    names = [f"models/{role}/card.json" for role in ROLES]
    names += [f"prompts/{split}.parquet" for split in SPLITS]
    kind = "strings" if task not in BUILT else "posts" if task in POSTS else "reviews"
    return [f"{RESULTS}/{task}/{name}" for name in [*names, f"data/{kind}.parquet"]]


def tables_and_metrics(task):
    """What is compared and counted; figures are a graph of their own."""
    drawn = [
        path
        for paths in (SOURCES[output] for output in SOURCES)
        for path in paths
        if path.startswith(f"{RESULTS}/{task}/")
    ]
    rendered = [f"{RESULTS}/{task}/tables/{name}.md" for name in tables_of(task)]
    own = [f"{RESULTS}/{task}/{name}" for name in ("points.parquet", "metrics.json")]
    excerpts = [f"{RESULTS}/{task}/tables/{name}.csv" for name in excerpts_of(task)]
    return sorted({*drawn, *rendered, *own, *excerpts})


def phases_of(task):
    """Inputs of each phase's target, and the folder that it makes."""
    folder = f"{RESULTS}/{task}"
    studies = [
        root
        for name, root in ROOTS.items()
        if root.task == task and root.study and runs_of(name)
    ]
    runs = [run for run in RUNS if run.task == task]
    phases = {
        "data": (data_of(task), f"{folder}/data"),
        "pool": (pool_of(task), f"{folder}/reference"),
        "studies": (
            runs_and_marks([run for run in runs if run.study])
            + [f"{root.folder}/points.parquet" for root in studies],
            f"{folder}/studies",
        ),
        "tables": (tables_and_metrics(task), f"{folder}/evaluated"),
    }
    for method in method_modules():
        own = [run for run in runs if run.method == method and not run.study]
        phases[f"sweep-{method}"] = (runs_and_marks(own), f"{folder}/runs/{method}")
    return phases


def remembered(path):
    """Whether Snakemake knows what it made a file with."""
    name = base64.urlsafe_b64encode(path.encode()).decode()
    return os.path.exists(f".snakemake/metadata/{name}")


if "DVC_STAGE" in os.environ and PARTIAL:
    raise WorkflowError(
        "partial: true is not accepted here, since what is recorded stands for all runs; "
        "set partial: false"
    )
if "DVC_STAGE" in os.environ and os.path.exists("dvc.lock"):
    for task in TASKS:
        path = f"{RESULTS}/{task}/points.parquet"
        if os.path.exists(path) and not remembered(path):
            # A stage would be recorded as made by today's code, whatever made it.
            raise WorkflowError(
                f"{path} was not made in this folder, so that changes of code or config would "
                "not be seen; run `make restore` first (with the config and code of dvc.lock: "
                "put yours aside with `git stash`)"
            )

for task in TASKS:
    for phase, (inputs, folder) in phases_of(task).items():

        rule:
            """One phase of one task."""
            name:
                f"{phase.partition('-')[0]}_{task}_{phase.partition('-')[2]}".rstrip(
                    "_"
                )
            input:
                inputs,
            localrule: True
            params:
                folder=folder,
            shell:
                "mkdir -p {params.folder:q}"

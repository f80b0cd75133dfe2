"""What the report shows of runs and models, as small tables."""

from vbon.artifacts.fingerprint import digest

UNSEEN = ("results_dir", "tasks", "partial", "runs_per_job", "gpus_per_job")


def asked_of(task):
    """Hash of all that the configuration says of a task, but not of others."""
    shared = {
        key: value
        for key, value in config.items()
        if key not in UNSEEN and key not in config["tasks"]
    }
    return digest({**shared, "task": config[task]})


def shown_split(task):
    """The set of responses that is shown: at the temperature nearest to that of table 2."""
    splits = evaluation_splits(config[task])
    return min(splits, key=lambda name: abs(splits[name] - EXAMPLES["table2"]))


def cards(task):
    """Where texts and models of a task say what they are, by role."""
    folder = f"{RESULTS}/{task}"
    if task not in BUILT:
        return {"language": f"{folder}/data/strings.parquet"}
    texts = "posts" if task in POSTS else "reviews"
    models = {role: f"{folder}/models/{role}/card.json" for role in ROLES}
    return {"texts": f"{folder}/data/{texts}.parquet", **models}


rule training:
    """Thinned histories of all runs of a task."""
    input:
        lambda wildcards: [f"{run.folder}/run.json" for run in runs_of(wildcards.task)],
    output:
        RESULTS + "/{task}/tables/training.csv",
    log:
        "logs/{task}/training.log",
    wildcard_constraints:
        task="|".join(TASKS),
    localrule: True
    threads: 1
    params:
        folders=lambda wildcards: [run.folder for run in runs_of(wildcards.task)],
        code=code("vbon.analysis.excerpts"),
    shell:
        "vbon training --folders {params.folders:q} --output {output:q} > {log:q} 2>&1"


rule samples:
    """Every run's response to a few test prompts."""
    input:
        evaluated=evaluated_runs,
        prompts=RESULTS + "/{task}/prompts/test.parquet",
    output:
        RESULTS + "/{task}/tables/samples.csv",
    log:
        "logs/{task}/samples.log",
    wildcard_constraints:
        task="|".join(TASKS),
    localrule: True
    threads: 1
    params:
        folders=lambda wildcards: [run.folder for run in runs_of(wildcards.task)],
        split=lambda wildcards: shown_split(wildcards.task),
        code=code("vbon.analysis.excerpts"),
    shell:
        "vbon samples --folders {params.folders:q} --prompts {input.prompts:q}"
        " --split {params.split:q} --output {output:q} > {log:q} 2>&1"


rule models:
    """What the texts and models of a task are."""
    input:
        lambda wildcards: cards(wildcards.task).values(),
    output:
        RESULTS + "/{task}/tables/models.csv",
    log:
        "logs/{task}/models.log",
    wildcard_constraints:
        task="|".join(TASKS),
    localrule: True
    threads: 1
    params:
        cards=lambda wildcards: [
            f"{role}={path}" for role, path in cards(wildcards.task).items()
        ],
        config=lambda wildcards: asked_of(wildcards.task),
        seed=config["seed"],
        code=code("vbon.analysis.excerpts"),
    shell:
        "vbon models --cards {params.cards:q} --config {params.config} --seed {params.seed}"
        " --output {output:q} > {log:q} 2>&1"

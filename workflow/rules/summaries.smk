"""What section 6 of the paper shows of summaries."""


def evaluated_runs(wildcards):
    """What stands for the task's runs being measured."""
    return [
        f"{RESULTS}/{wildcards.task}/evaluated/{name}"
        for name, group in JOBS.items()
        if any(run.root == f"{RESULTS}/{wildcards.task}" for run in group)
    ]


rule section6:
    """Which of section 6's claims are supported, with intervals."""
    input:
        evaluated=evaluated_runs,
        prompts=RESULTS + "/{task}/prompts/test.parquet",
        rewards=lambda wildcards: [
            f"{RESULTS}/{wildcards.task}/reference/rewards/{split}.parquet"
            for split in evaluation_splits(config[wildcards.task])
        ],
    output:
        RESULTS + "/{task}/tables/section6.csv",
    log:
        "logs/{task}/section6.log",
    wildcard_constraints:
        task="|".join(POSTS) or "none",
    threads: 1
    params:
        folders=lambda wildcards: [run.folder for run in runs_of(wildcards.task)],
        rewards=lambda wildcards, input: named(input.rewards),
        draws=lambda wildcards: section(wildcards, "sampling", "test_draws"),
        bootstrap=config["figures"]["bootstrap"],
        seed=config["seed"],
        code=code("vbon.analysis.temperatures"),
    shell:
        "vbon section6 --folders {params.folders:q} --prompts {input.prompts:q}"
        " --rewards {params.rewards:q} --draws {params.draws} --bootstrap {params.bootstrap}"
        " --seed {params.seed} --output {output:q} > {log:q} 2>&1"


rule example:
    """One post, and what every method says of it at one temperature."""
    input:
        evaluated=evaluated_runs,
        texts=texts_of,
        prompts=RESULTS + "/{task}/prompts/test.parquet",
    output:
        RESULTS + "/{task}/tables/{name}.csv",
    log:
        "logs/{task}/{name}.log",
    wildcard_constraints:
        task="|".join(POSTS) or "none",
        name="|".join(EXAMPLES),
    localrule: True
    threads: 1
    params:
        folders=lambda wildcards: [run.folder for run in runs_of(wildcards.task)],
        split=lambda wildcards: f"test-t{EXAMPLES[wildcards.name]:g}",
        subreddit=lambda wildcards: section(wildcards, "prompts", "example"),
        code=code("vbon.analysis.temperatures"),
    shell:
        "vbon example --folders {params.folders:q} --texts {input.texts:q}"
        " --prompts {input.prompts:q} --split {params.split:q} --subreddit {params.subreddit:q}"
        " --output {output:q} > {log:q} 2>&1"


rule monitored:
    """The evaluator's reward along every training."""
    input:
        lambda wildcards: [f"{run.folder}/run.json" for run in runs_of(wildcards.task)],
    output:
        RESULTS + "/{task}/tables/monitored.csv",
    log:
        "logs/{task}/monitored.log",
    wildcard_constraints:
        task="|".join(POSTS) or "none",
    localrule: True
    threads: 1
    params:
        folders=lambda wildcards: [run.folder for run in runs_of(wildcards.task)],
    shell:
        "vbon monitored --folders {params.folders:q} --output {output:q} > {log:q} 2>&1"

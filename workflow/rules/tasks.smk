"""Texts, the models that are trained on them, and prompts; or a whole language at once."""


localrules:
    fetch,
    prefetch,


rule fetch:
    """Models and datasets of a task from the hub; all other rules work without a network."""
    output:
        RESULTS + "/{task}/hub.json",
    log:
        "logs/{task}/fetch.log",
    params:
        sources=lambda wildcards: PLAN.sources(wildcards.task),
    shell:
        "vbon prefetch --sources {params.sources:q} --output {output:q} > {log:q} 2>&1"


rule prefetch:
    """Models and datasets of all tasks from the hub."""
    input:
        [path for task in PLAN.text_tasks for path in PLAN.fetched(task)],


rule texts:
    """The texts of a task, each assigned to one purpose."""
    input:
        lambda wildcards: PLAN.fetched(wildcards.task, PLAN.tasks[wildcards.task].texts_key),
    output:
        RESULTS + "/{task}/data/texts.parquet",
    log:
        "logs/{task}/texts.log",
    params:
        task=lambda wildcards: PLAN.text_settings(wildcards.task),
        inputs=lambda wildcards: PLAN.inputs_of(wildcards.task),
        seed=PLAN.seed,
        code=lambda wildcards: PLAN.code("texts", task=PLAN.tasks[wildcards.task]),
    shell:
        STEPS["texts"].shell()


rule build:
    """One model: trained on its part of the texts, a pointer to an id, or a function."""
    input:
        lambda wildcards: PLAN.fetched(wildcards.task, wildcards.role),
        texts=RESULTS + "/{task}/data/texts.parquet",
    output:
        card=RESULTS + "/{task}/models/{role}/card.json",
    log:
        "logs/{task}/build-{role}.log",
    params:
        role=lambda wildcards: wildcards.role,
        task=lambda wildcards: PLAN.text_settings(wildcards.task, wildcards.role, "tokenizer", "prompts"),
        inputs=lambda wildcards: PLAN.inputs_of(wildcards.task, wildcards.role),
        seed=PLAN.seed,
        code=lambda wildcards: PLAN.code("build", task=PLAN.tasks[wildcards.task]),
    shell:
        STEPS["build"].shell()


rule prompts:
    """Training and test prompts, which are disjoint."""
    input:
        texts=RESULTS + "/{task}/data/texts.parquet",
        reference=RESULTS + "/{task}/models/reference/card.json",
    output:
        train=RESULTS + "/{task}/prompts/train.parquet",
        test=RESULTS + "/{task}/prompts/test.parquet",
    log:
        "logs/{task}/prompts.log",
    params:
        task=lambda wildcards: PLAN.text_settings(wildcards.task, "prompts"),
        seed=PLAN.seed,
        code=lambda wildcards: PLAN.code("prompts", task=PLAN.tasks[wildcards.task]),
    shell:
        STEPS["prompts"].shell()


if PLAN.languages:

    rule languages:
        """The languages of tasks and studies, in one process."""
        output:
            expand("{root}/models/{role}/card.json", root=PLAN.languages, role=ROLES),
            expand("{root}/prompts/{split}.parquet", root=PLAN.languages, split=SPLITS),
            expand(
                "{root}/reference/{kind}/{split}.parquet",
                root=PLAN.languages,
                kind=["samples", "rewards", "logf"],
                split=SPLITS,
            ),
            expand(
                "{root}/reference/seconds/{kind}-{split}-0.json",
                root=PLAN.languages,
                kind=["samples", "rewards"],
                split=SPLITS,
            ),
            expand("{root}/data/strings.parquet", root=PLAN.languages),
        log:
            "logs/languages.log",
        params:
            roots=as_json(PLAN.languages),
            seed=PLAN.seed,
            code=PLAN.code_of_languages(),
        shell:
            STEPS["languages"].shell()

"""Tables from tables: fronts and headline numbers, and every table that a task has.

The names of parameters of a step of `vbon/analysis/steps.py` select its files and settings.
"""


rule pareto:
    """Shares of the fronts and hypervolumes, with intervals."""
    input:
        **VALUES.inputs(STEPS["pareto"]),
    output:
        front=RESULTS + "/{task}/pareto.parquet",
        csv=RESULTS + "/{task}/pareto.csv",
    log:
        "logs/{task}/pareto.log",
    wildcard_constraints:
        task="|".join(PLAN.tasks),
    params:
        **VALUES.params(STEPS["pareto"]),
    shell:
        STEPS["pareto"].shell()


rule headline:
    """A few numbers per method, for `dvc metrics`."""
    input:
        points=RESULTS + "/{task}/points.parquet",
        pareto=RESULTS + "/{task}/pareto.parquet",
    output:
        metrics=RESULTS + "/{task}/metrics.json",
    log:
        "logs/{task}/headline.log",
    wildcard_constraints:
        task="|".join(PLAN.tasks),
    localrule: True
    params:
        **VALUES.params(STEPS["headline"]),
    shell:
        STEPS["headline"].shell()


# A shell command is evaluated again when its job starts, where `rule` is the name of the job's rule.
for rule in PLAN.table_steps():

    rule:
        """Tables of one step."""
        name:
            rule
        input:
            **VALUES.inputs(STEPS[rule]),
        output:
            **PLAN.outputs(STEPS[rule]),
        log:
            f"logs/{{task}}/{rule}.log",
        wildcard_constraints:
            task=PLAN.having(rule),
        localrule: PLAN.is_local(STEPS[rule])
        resources:
            **({"gpu": PLAN.gpu} if STEPS[rule].needs_gpu else {}),
        params:
            **VALUES.params(STEPS[rule]),
        shell:
            STEPS[rule].shell()


rule example:
    """One post and its summaries by every method at one temperature."""
    input:
        **VALUES.inputs(STEPS["example"]),
    output:
        RESULTS + "/{task}/tables/{name}.csv",
    log:
        "logs/{task}/{name}.log",
    wildcard_constraints:
        task="|".join(task for task in PLAN.tasks if PLAN.examples(task)) or "none",
        name="|".join(EXAMPLES),
    localrule: True
    params:
        split=lambda wildcards: f"test-t{EXAMPLES[wildcards.name]:g}",
        subreddit=lambda wildcards: VALUES.value(wildcards.task, "subreddit"),
        code=PLAN.code("example"),
    shell:
        STEPS["example"].shell()

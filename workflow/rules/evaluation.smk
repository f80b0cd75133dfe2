"""Evaluation: responses of each job's runs to the test prompts, and points and costs of all runs."""

for name, group in PLAN.jobs.items():

    rule:
        """Responses of the runs of one job."""
        name:
            f"evaluate_{name}"
        input:
            runs=PLAN.records(group),
            files=PLAN.evaluation_inputs(group),
        output:
            touch(f"{RESULTS}/{group[0].task}/evaluated/{name}"),
        log:
            f"logs/{group[0].task}/evaluate-{name}.log",
        resources:
            gpu=PLAN.gpu if any(run.instance.trained for run in group) else 0,
        params:
            runs=as_json([run.to_json() for run in group]),
            measuring=as_json({run.root: PLAN.measuring(PLAN.root_of(run)) for run in group}),
            seed=PLAN.seed,
            code=PLAN.code_of_group("evaluate", group),
        shell:
            STEPS["evaluate"].shell()


rule aggregate:
    """One row per run of a task, or of one of its studies."""
    input:
        runs=lambda wildcards: PLAN.measured(wildcards.root),
        samples=lambda wildcards: f"{PLAN.roots[wildcards.root].shared}/reference/samples/train.parquet",
        prompts=lambda wildcards: f"{PLAN.roots[wildcards.root].shared}/prompts/test.parquet",
        rewards=lambda wildcards: PLAN.test_rewards(PLAN.roots[wildcards.root]).values(),
        seconds=lambda wildcards: PLAN.seconds(PLAN.roots[wildcards.root]),
    output:
        points=RESULTS + "/{root}/points.parquet",
        points_csv=RESULTS + "/{root}/points.csv",
        costs=RESULTS + "/{root}/costs.parquet",
        costs_csv=RESULTS + "/{root}/costs.csv",
    log:
        "logs/{root}/aggregate.log",
    localrule: LIGHT
    params:
        specs=lambda wildcards: [run.spec_hash for run in PLAN.runs_of(wildcards.root)],
        rewards=lambda wildcards: PLAN.words(PLAN.test_rewards(PLAN.roots[wildcards.root])),
        measuring=lambda wildcards: PLAN.aggregating(PLAN.roots[wildcards.root]),
        code=PLAN.code("aggregate"),
    shell:
        STEPS["aggregate"].shell()

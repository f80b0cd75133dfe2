"""Points and costs of all runs, and the Pareto fronts."""


rule aggregate:
    """One row a run of a task, or of one of its studies."""
    input:
        runs=lambda wildcards: [f"{run.folder}/run.json" for run in runs_of(wildcards.root)],
        evaluated=lambda wildcards: [
            f"{RESULTS}/{group[0].task}/evaluated/{name}"
            for name, group in JOBS.items()
            if any(run.root == f"{RESULTS}/{wildcards.root}" for run in group)
        ],
        samples=expand(RESULTS + "/{{root}}/reference/samples/{split}.parquet", split=SPLITS),
        rewards=RESULTS + "/{root}/reference/rewards/test.parquet",
    output:
        points=RESULTS + "/{root}/points.parquet",
        points_csv=RESULTS + "/{root}/points.csv",
        costs=RESULTS + "/{root}/costs.parquet",
        costs_csv=RESULTS + "/{root}/costs.csv",
    log:
        "logs/{root}/aggregate.log",
    threads: 1
    params:
        folders=lambda wildcards: [run.folder for run in runs_of(wildcards.root)],
        settings=lambda wildcards: as_json(
            {
                "m": ROOTS[wildcards.root].section["logf"]["m"],
                "test_draws": ROOTS[wildcards.root].section["sampling"]["test_draws"],
                "temperature": ROOTS[wildcards.root].section["sampling"]["temperature"],
                "seed": config["seed"],
            }
        ),
        code=code("vbon.evaluation.points"),
    shell:
        "vbon aggregate --folders {params.folders:q} --samples {input.samples:q}"
        " --rewards {input.rewards:q} --settings {params.settings:q}"
        " --points {output.points:q} --costs {output.costs:q} > {log:q} 2>&1"


rule pareto:
    """Shares of the fronts and hypervolumes, with intervals."""
    input:
        RESULTS + "/{task}/points.parquet",
    output:
        table=RESULTS + "/{task}/pareto.parquet",
        csv=RESULTS + "/{task}/pareto.csv",
    log:
        "logs/{task}/pareto.log",
    wildcard_constraints:
        task="|".join(TASKS),
    threads: 1
    params:
        bootstrap=config["figures"]["bootstrap"],
        seed=config["seed"],
        code=code("vbon.pareto"),
    shell:
        "vbon pareto --points {input:q} --bootstrap {params.bootstrap} --seed {params.seed}"
        " --output {output.table:q} > {log:q} 2>&1"

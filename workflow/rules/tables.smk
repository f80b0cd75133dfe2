"""Points and costs of all runs, and the Pareto fronts."""


rule aggregate:
    """One row a run."""
    input:
        runs=lambda wildcards: [f"{r.folder}/run.json" for r in RUNS if r.task == wildcards.task],
        evaluated=lambda wildcards: [
            f"{RESULTS}/{wildcards.task}/runs/.evaluated/{name}"
            for name, group in jobs(RUNS, config["runs_per_job"]).items()
            if group[0].task == wildcards.task
        ],
        samples=expand(RESULTS + "/{{task}}/reference/samples/{split}.parquet", split=SPLITS),
        rewards=RESULTS + "/{task}/reference/rewards/test.parquet",
    output:
        points=RESULTS + "/{task}/points.parquet",
        points_csv=RESULTS + "/{task}/points.csv",
        costs=RESULTS + "/{task}/costs.parquet",
        costs_csv=RESULTS + "/{task}/costs.csv",
    log:
        "logs/{task}/aggregate.log",
    threads: 1
    params:
        folders=lambda wildcards, input: [os.path.dirname(path) for path in input.runs],
        settings=lambda wildcards: as_json(
            {
                "m": section(wildcards, "logf", "m"),
                "test_draws": section(wildcards, "sampling", "test_draws"),
                "temperature": section(wildcards, "sampling", "temperature"),
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
    threads: 1
    params:
        bootstrap=config["figures"]["bootstrap"],
        seed=config["seed"],
        code=code("vbon.pareto"),
    shell:
        "vbon pareto --points {input:q} --bootstrap {params.bootstrap} --seed {params.seed}"
        " --output {output.table:q} > {log:q} 2>&1"

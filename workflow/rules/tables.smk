"""Points and costs of all runs, Pareto fronts, and what compares the methods."""


rule aggregate:
    """One row a run of a task, or of one of its studies."""
    input:
        runs=lambda wildcards: [
            f"{run.folder}/run.json" for run in runs_of(wildcards.root)
        ],
        evaluated=lambda wildcards: [
            f"{RESULTS}/{group[0].task}/evaluated/{name}"
            for name, group in JOBS.items()
            if any(run.root == f"{RESULTS}/{wildcards.root}" for run in group)
        ],
        samples=lambda wildcards: (
            f"{ROOTS[wildcards.root].shared}/reference/samples/train.parquet"
        ),
        prompts=lambda wildcards: (
            f"{ROOTS[wildcards.root].shared}/prompts/test.parquet"
        ),
        rewards=lambda wildcards: [
            f"{ROOTS[wildcards.root].shared}/reference/rewards/{split}.parquet"
            for split in evaluation_splits(ROOTS[wildcards.root].section)
        ],
        seconds=lambda wildcards: seconds_of(wildcards.root),
    output:
        points=RESULTS + "/{root}/points.parquet",
        points_csv=RESULTS + "/{root}/points.csv",
        costs=RESULTS + "/{root}/costs.parquet",
        costs_csv=RESULTS + "/{root}/costs.csv",
    log:
        "logs/{root}/aggregate.log",
    localrule: LIGHT
    threads: 1
    params:
        runs=lambda wildcards: [
            f"{run.folder}={run.spec_hash}" for run in runs_of(wildcards.root)
        ],
        rewards=lambda wildcards, input: named(input.rewards),
        settings=lambda wildcards: as_json(
            {
                **measuring(wildcards.root),
                "temperature": ROOTS[wildcards.root].section["sampling"][
                    "temperature"
                ],
                "by_domain": ROOTS[wildcards.root].task in POSTS,
                "seed": config["seed"],
            }
        ),
        code=code("vbon.evaluation.points"),
    shell:
        "vbon aggregate --runs {params.runs:q} --samples {input.samples:q}"
        " --prompts {input.prompts:q} --rewards {params.rewards:q} --seconds {input.seconds:q} --settings {params.settings:q}"
        " --points {output.points:q} --costs {output.costs:q} > {log:q} 2>&1"


rule missing:
    """Runs that the configuration asks for and that partial tables lack."""
    output:
        RESULTS + "/{task}/tables/missing.csv",
    log:
        "logs/{task}/missing.log",
    wildcard_constraints:
        task="|".join(TASKS),
    localrule: True
    threads: 1
    params:
        planned=lambda wildcards: sum(run.task == wildcards.task for run in PLANNED),
        folders=lambda wildcards: missing(wildcards.task),
        code=code("vbon.artifacts.tables"),
    shell:
        "vbon missing --planned {params.planned} --folders {params.folders:q}"
        " --output {output:q} > {log:q} 2>&1"


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
        code=code("vbon.analysis.pareto"),
    shell:
        "vbon pareto --points {input:q} --bootstrap {params.bootstrap} --seed {params.seed}"
        " --output {output.table:q} > {log:q} 2>&1"


rule metrics:
    """A few numbers a method, for `dvc metrics`."""
    input:
        points=RESULTS + "/{task}/points.parquet",
        pareto=RESULTS + "/{task}/pareto.parquet",
    output:
        RESULTS + "/{task}/metrics.json",
    log:
        "logs/{task}/metrics.log",
    wildcard_constraints:
        task="|".join(TASKS),
    localrule: True
    threads: 1
    params:
        code=code("vbon.analysis.headline"),
    shell:
        "vbon metrics --points {input.points:q} --pareto {input.pareto:q} --output {output:q}"
        " > {log:q} 2>&1"


rule matched:
    """Each method at equal KL: values at given budgets, and the bands that figures draw."""
    input:
        RESULTS + "/{task}/points.parquet",
    output:
        table=RESULTS + "/{task}/tables/matched_kl.csv",
        bands=RESULTS + "/{task}/tables/attainment.csv",
    log:
        "logs/{task}/matched.log",
    wildcard_constraints:
        task="|".join(COMPARED) or "none",
    threads: 1
    params:
        bootstrap=config["figures"]["bootstrap"],
        seed=config["seed"],
        code=code("vbon.analysis.attainment"),
    shell:
        "vbon matched --points {input:q} --bootstrap {params.bootstrap} --seed {params.seed}"
        " --output {output.table:q} --bands {output.bands:q} > {log:q} 2>&1"


rule equivalence:
    """vBoN's exact reward against its L bound, at equal n and seeds."""
    input:
        points=RESULTS + "/{task}/points.parquet",
        study=RESULTS + "/{task}/studies/equivalence/points.parquet",
    output:
        RESULTS + "/{task}/tables/equivalence.csv",
    log:
        "logs/{task}/equivalence.log",
    wildcard_constraints:
        task="|".join(filter(has_equivalence, COMPARED)) or "none",
    localrule: True
    threads: 1
    params:
        code=code("vbon.analysis.equivalence"),
    shell:
        "vbon equivalence --points {input.points:q} --study {input.study:q}"
        " --output {output:q} > {log:q} 2>&1"


rule orderings:
    """Which of the paper's orderings are supported, with intervals."""
    input:
        points=RESULTS + "/{task}/points.parquet",
        equivalence=lambda wildcards: equivalence_of(wildcards.task),
    output:
        RESULTS + "/{task}/tables/orderings.csv",
    log:
        "logs/{task}/orderings.log",
    wildcard_constraints:
        task="|".join(COMPARED) or "none",
    threads: 1
    params:
        study=lambda wildcards, input: (
            ["--equivalence", *input.equivalence] if input.equivalence else []
        ),
        bootstrap=config["figures"]["bootstrap"],
        seed=config["seed"],
        code=code("vbon.analysis.orderings"),
    shell:
        "vbon orderings --points {input.points:q} {params.study:q} --bootstrap {params.bootstrap}"
        " --seed {params.seed} --output {output:q} > {log:q} 2>&1"


rule claims:
    """The paper's claims, each with a statistic, an interval and a verdict."""
    input:
        lambda wildcards: claimed_from(wildcards.task).values(),
    output:
        RESULTS + "/{task}/tables/claims.csv",
    log:
        "logs/{task}/claims.log",
    wildcard_constraints:
        task="|".join(TASKS),
    localrule: True
    threads: 1
    params:
        tables=lambda wildcards: [
            f"{name}={path}" for name, path in claimed_from(wildcards.task).items()
        ],
        code=code("vbon.analysis.claims"),
    shell:
        "vbon claims --task {wildcards.task} --tables {params.tables:q} --output {output:q}"
        " > {log:q} 2>&1"


rule convergence:
    """What the last quarter of each training still moved."""
    input:
        lambda wildcards: [f"{run.folder}/run.json" for run in runs_of(wildcards.task)],
    output:
        RESULTS + "/{task}/tables/convergence.csv",
    log:
        "logs/{task}/convergence.log",
    wildcard_constraints:
        task="|".join(COMPARED) or "none",
    localrule: True
    threads: 1
    params:
        folders=lambda wildcards: [run.folder for run in runs_of(wildcards.task)],
        code=code("vbon.analysis.convergence"),
    shell:
        "vbon convergence --folders {params.folders:q} --output {output:q} > {log:q} 2>&1"


rule table1:
    """Samples of each size against 600 draws: what nested tests hide, and the error of log F."""
    input:
        RESULTS + "/{task}/reference/rewards/train.parquet",
    output:
        RESULTS + "/{task}/tables/table1.csv",
    log:
        "logs/{task}/table1.log",
    threads: 1
    params:
        code=code("vbon.analysis.draws"),
    shell:
        "vbon table1 --rewards {input:q} --output {output:q} > {log:q} 2>&1"


rule figure3:
    """The pools of three prompts, whose estimates of log F are drawn."""
    input:
        rewards=RESULTS + "/{task}/reference/rewards/train.parquet",
        prompts=RESULTS + "/{task}/prompts/train.parquet",
    output:
        RESULTS + "/{task}/tables/figure3.csv",
    log:
        "logs/{task}/figure3-pools.log",
    localrule: LIGHT
    threads: 1
    params:
        code=code("vbon.analysis.excerpts"),
    shell:
        "vbon figure3 --rewards {input.rewards:q} --prompts {input.prompts:q} --output {output:q}"
        " > {log:q} 2>&1"


rule estimators:
    """Errors of the estimators of log F, and what policies attain with them."""
    input:
        rewards=RESULTS + "/{task}/reference/rewards/train.parquet",
        prompts=RESULTS + "/{task}/prompts/train.parquet",
        reference=RESULTS + "/{task}/models/reference/card.json",
        reward_model=RESULTS + "/{task}/models/reward_model/card.json",
        points=RESULTS + "/{task}/studies/estimators/points.parquet",
    output:
        RESULTS + "/{task}/tables/estimators.csv",
    log:
        "logs/{task}/estimators.log",
    threads: 1
    resources:
        gpu=GPU,
    params:
        models=model_options("reference", "reward_model"),
        settings=lambda wildcards: as_json(section(wildcards, "rewards")),
        n=lambda wildcards: studied(wildcards.task, "estimators")[0].instance.n,
        code=code("vbon.analysis.estimators", "vbon.pool.features"),
    shell:
        "vbon estimators --rewards {input.rewards:q} --prompts {input.prompts:q} {params.models:q}"
        " --settings {params.settings:q} --n {params.n} --points {input.points:q}"
        " --output {output:q} > {log:q} 2>&1"


rule inference:
    """Tokens and seconds of one returned response, by best-of-n and by each method's policies."""
    input:
        runs=lambda wildcards: [
            f"{run.folder}/run.json" for run in served(wildcards.task)
        ],
        points=RESULTS + "/{task}/points.parquet",
    output:
        RESULTS + "/{task}/tables/inference.csv",
    log:
        "logs/{task}/inference.log",
    wildcard_constraints:
        task="|".join(COMPARED) or "none",
    threads: 1
    resources:
        gpu=GPU,
    params:
        runs=lambda wildcards: as_json(
            [run.to_json() for run in served(wildcards.task)]
        ),
        settings=lambda wildcards: as_json(
            {
                **section(wildcards, "rewards"),
                **section(wildcards, "inference"),
                **{
                    name: section(wildcards, "sampling", name)
                    for name in ("max_new_tokens", "temperature")
                },
            }
        ),
        seed=config["seed"],
        code=code("vbon.analysis.inference"),
    shell:
        "vbon inference --runs {params.runs:q} --points {input.points:q}"
        " --settings {params.settings:q} --seed {params.seed} --output {output:q}"
        " > {log:q} 2>&1"

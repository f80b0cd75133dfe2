"""Training and evaluation: one job carries several runs of a method in a warm process.

A run is skipped where its key (spec, code, content of all inputs) is on disk already, so a job
that is started again does only what is missing. `update` keeps Snakemake from deleting the others.
"""

for name, group in JOBS.items():
    task = group[0].task
    methods = sorted({run.method for run in group})
    folders = [run.folder for run in group]
    runs_json = as_json([run.to_json() for run in group])
    trained = [run for run in group if run.instance.trained]
    # Data outside their bounds stop the workflow before anything is trained on them.
    checked = (
        {f"{RESULTS}/{task}/tables/data.csv"} if trained and task in BUILT else set()
    )
    needed = checked.union(*(map(file_of, run.inputs().values()) for run in group))
    evaluated = set().union(
        *(
            map(file_of, run.evaluation_inputs(split).values())
            for run in group
            for split in evaluation_splits(
                ROOTS[run.root.removeprefix(f"{RESULTS}/")].section
            )
        )
    )

    rule:
        name:
            f"train_{name}"
        input:
            sorted(needed),
        output:
            update([f"{folder}/run.json" for folder in folders]),
        log:
            f"logs/{task}/train-{name}.log",
        threads: max(1, GPUS) if trained else 1
        resources:
            gpu=GPUS if trained else 0,
            nodes=1,  # processes of a run are on one machine
        params:
            runs=runs_json,
            total=sum(run.task == task for run in RUNS),
            code=code(*TRAIN_MODULES, *(method_modules()[method] for method in methods)),
        shell:
            "vbon train --runs {params.runs:q} --total {params.total}"
            " --processes {resources.gpu} 2> {log:q} | tee -a {log:q}"

    rule:
        name:
            f"evaluate_{name}"
        input:
            runs=[f"{folder}/run.json" for folder in folders],
            inputs=sorted(evaluated),
        output:
            touch(f"{RESULTS}/{task}/evaluated/{name}"),
        log:
            f"logs/{task}/evaluate-{name}.log",
        threads: 1
        resources:
            gpu=GPU if trained else 0,
        params:
            runs=runs_json,
            settings=as_json(
                {root: measuring(root) for root in {run.root for run in group}}
            ),
            seed=config["seed"],
            code=code(
                "vbon.evaluation.policy",
                *(method_modules()[method] for method in methods),
            ),
        shell:
            "vbon evaluate --runs {params.runs:q} --settings {params.settings:q}"
            " --seed {params.seed} > {log:q} 2>&1"

"""Training and evaluation: one job carries several runs of a method in a warm process.

A run is skipped where its key (spec, code, content of all inputs) is on disk already, so a job
that is started again does only what is missing. `update` keeps Snakemake from deleting the others.
"""

for name, group in jobs(RUNS, config["runs_per_job"]).items():
    task, method = group[0].task, group[0].method
    folders = [run.folder for run in group]
    root = f"{RESULTS}/{task}"
    runs_json = as_json([run.to_json() for run in group])
    trained = [run for run in group if run.instance.trained]
    needed = {f"{root}/tables/data.csv"} if trained else set()
    for run in group:
        for kind, path in run.inputs().items():
            needed.add(path if path.endswith(".parquet") else f"{path}/card.json")

    rule:
        name:
            f"train_{name}"
        input:
            sorted(needed),
        output:
            update([f"{folder}/run.json" for folder in folders]),
        log:
            f"logs/{task}/train-{name}.log",
        threads: 1
        resources:
            gpu=1 if trained else 0,
        params:
            runs=runs_json,
            total=sum(run.task == task for run in RUNS),
            code=code(*TRAIN_MODULES, method_modules()[method]),
        shell:
            "vbon train --runs {params.runs:q} --total {params.total} 2> {log:q} | tee -a {log:q}"

    rule:
        name:
            f"evaluate_{name}"
        input:
            runs=[f"{folder}/run.json" for folder in folders],
            prompts=f"{root}/prompts/test.parquet",
            samples=f"{root}/reference/samples/test.parquet",
            rewards=f"{root}/reference/rewards/test.parquet",
            logf=f"{root}/reference/logf/test.parquet",
            reference=f"{root}/models/reference/card.json",
            reward_model=f"{root}/models/reward_model/card.json",
            evaluator=f"{root}/models/evaluator/card.json",
        output:
            touch(f"{root}/runs/.evaluated/{name}"),
        log:
            f"logs/{task}/evaluate-{name}.log",
        threads: 1
        params:
            runs=runs_json,
            settings=as_json(
                {
                    **config[task]["evaluation"],
                    **config[task]["rewards"],
                    **{
                        key: config[task]["sampling"][key]
                        for key in ("max_new_tokens", "temperature", "test_draws")
                    },
                }
            ),
            seed=config["seed"],
            inputs=lambda wildcards, input: [
                f"{key}={path if path.endswith('.parquet') else os.path.dirname(path)}"
                for key, path in input.items()
                if key != "runs"
            ],
            code=code("vbon.evaluation.policy"),
        shell:
            "vbon evaluate --runs {params.runs:q} --settings {params.settings:q}"
            " --seed {params.seed} --inputs {params.inputs:q} > {log:q} 2>&1"

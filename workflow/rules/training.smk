"""Training: an informed start, and jobs of several runs of a method in a warm process.

A run is skipped if its key (spec, code, content of all inputs) is on disk, so a job that is started
again trains the missing runs only. `update` keeps Snakemake from deleting the others.
"""


rule inform:
    """The informed start of policies, trained on the reference's draws for the training prompts."""
    input:
        **{
            kind: RESULTS + f"/{{task}}/reference/{kind}/train.parquet"
            for kind in ("samples", "rewards")
        },
        prompts=RESULTS + "/{task}/prompts/train.parquet",
        reference=RESULTS + "/{task}/models/reference/card.json",
    output:
        card=RESULTS + "/{task}/models/informed/card.json",
    log:
        "logs/{task}/inform.log",
    resources:
        gpu=PLAN.gpu,
    params:
        drawing=lambda wildcards: as_json(VALUES.value(wildcards.task, "drawing")),
        informed=lambda wildcards: as_json(config[wildcards.task]["informed"]),
        seed=PLAN.seed,
        code=PLAN.code("inform"),
    shell:
        STEPS["inform"].shell()


for name, group in PLAN.jobs.items():
    is_trained = any(run.instance.trained for run in group)

    rule:
        """The runs of one job."""
        name:
            f"train_{name}"
        input:
            PLAN.training_inputs(group),
        output:
            update(PLAN.records(group)),
        log:
            f"logs/{group[0].task}/train-{name}.log",
        threads: max(1, PLAN.gpus) if is_trained else 1
        resources:
            gpu=PLAN.gpus if is_trained else 0,
            nodes=1,  # processes of a run are on one machine
        params:
            runs=as_json([run.to_json() for run in group]),
            total=sum(run.task == group[0].task for run in PLAN.runs),
            code=PLAN.code_of_group("train", group),
        shell:
            STEPS["train"].shell("2> {log:q} | tee -a {log:q}", processes="{resources.gpu}")

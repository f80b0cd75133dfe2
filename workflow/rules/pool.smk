"""The reference's draws, their rewards, what log F is estimated from, and pairs of draws."""

from vbon.planning.runs import pair_files

for task in BUILT:
    for prompts, splits in drawn_together(task).items():
        # Loading the models takes longer than a shard of a small task.
        folder = f"{RESULTS}/{task}/reference"
        samples, rewards = (
            [f"{folder}/shards/{kind}-{split}-{{shard}}.parquet" for split in splits]
            for kind in ("samples", "rewards")
        )
        sampled, scored = (
            [f"{folder}/seconds/{kind}-{split}-{{shard}}.json" for split in splits]
            for kind in ("samples", "rewards")
        )

        rule:
            """Draws for one shard of the prompts, at every temperature."""
            name:
                f"sample_{task}_{prompts}"
            input:
                prompts=f"{RESULTS}/{task}/prompts/{prompts}.parquet",
                reference=f"{RESULTS}/{task}/models/reference/card.json",
            output:
                samples=samples,
                seconds=sampled,
            log:
                f"logs/{task}/sample-{prompts}-{{shard}}.log",
            threads: 1
            resources:
                gpu=gpus_for_drawing(task),
            params:
                reference=f"{RESULTS}/{task}/models/reference",
                settings=as_json(drawing(task)),
                temperatures=list(splits.values()),
                draws=draws(task, prompts),
                seed=config["seed"],
                code=code("vbon.sampling.backends"),
            shell:
                "vbon sample --prompts {input.prompts:q} --reference {params.reference:q}"
                " --settings {params.settings:q} --draws {params.draws} --shard {wildcards.shard}"
                " --seed {params.seed} --temperatures {params.temperatures}"
                " --output {output.samples:q} --seconds {output.seconds:q} > {log:q} 2>&1"

        rule:
            """Rewards of one shard's draws, by reward model and evaluator."""
            name:
                f"score_{task}_{prompts}"
            input:
                **{role: f"{RESULTS}/{task}/models/{role}/card.json" for role in ROLES},
                samples=samples,
                prompts=f"{RESULTS}/{task}/prompts/{prompts}.parquet",
            output:
                rewards=rewards,
                seconds=scored,
            log:
                f"logs/{task}/score-{prompts}-{{shard}}.log",
            threads: 1
            resources:
                gpu=GPU,
            params:
                models=model_options(*ROLES),
                settings=as_json(config[task]["rewards"]),
                code=code("vbon.rewards"),
            shell:
                "vbon score --samples {input.samples:q} --prompts {input.prompts:q}"
                " {params.models:q} --settings {params.settings:q} --output {output.rewards:q}"
                " --seconds {output.seconds:q} > {log:q} 2>&1"


rule merge_samples:
    """All draws of one split."""
    input:
        lambda wildcards: shards(wildcards, "samples"),
    output:
        RESULTS + "/{task}/reference/samples/{split}.parquet",
    log:
        "logs/{task}/merge-samples-{split}.log",
    localrule: LIGHT
    threads: 1
    shell:
        "vbon merge --schema samples --shards {input:q} --output {output:q} > {log:q} 2>&1"


rule merge_rewards:
    """All rewards of one split."""
    input:
        lambda wildcards: shards(wildcards, "rewards"),
    output:
        RESULTS + "/{task}/reference/rewards/{split}.parquet",
    log:
        "logs/{task}/merge-rewards-{split}.log",
    localrule: LIGHT
    threads: 1
    shell:
        "vbon merge --schema rewards --shards {input:q} --output {output:q} > {log:q} 2>&1"


rule logf:
    """Each prompt's rewards in order, and the curve that is fitted to them."""
    input:
        RESULTS + "/{task}/reference/rewards/{split}.parquet",
    output:
        RESULTS + "/{task}/reference/logf/{split}.parquet",
    log:
        "logs/{task}/logf-{split}.log",
    localrule: LIGHT
    threads: 1
    params:
        draws=lambda wildcards: (
            section(wildcards, "logf", "m")
            if wildcards.split == "train"
            else section(wildcards, "sampling", "test_draws")
        ),
        code=code("vbon.pool.logf"),
    shell:
        "vbon logf --rewards {input:q} --draws {params.draws} --output {output:q} > {log:q} 2>&1"


rule logf_of:
    """The same of another number of draws, for methods that set `m` themselves."""
    input:
        RESULTS + "/{root}/reference/rewards/train.parquet",
    output:
        RESULTS + "/{root}/reference/logf/train-m{m}.parquet",
    log:
        "logs/{root}/logf-train-m{m}.log",
    localrule: LIGHT
    threads: 1
    params:
        code=code("vbon.pool.logf"),
    shell:
        "vbon logf --rewards {input:q} --draws {wildcards.m} --output {output:q} > {log:q} 2>&1"


rule prior:
    """What the first draws of all prompts have in common, for estimator `shared`."""
    input:
        rewards=RESULTS + "/{root}/reference/rewards/train.parquet",
        prompts=RESULTS + "/{root}/prompts/train.parquet",
        reference=RESULTS + "/{root}/models/reference/card.json",
        reward_model=RESULTS + "/{root}/models/reward_model/card.json",
    output:
        RESULTS + "/{root}/reference/logf/prior-m{m}.parquet",
    log:
        "logs/{root}/prior-m{m}.log",
    threads: 1
    resources:
        gpu=GPU,
    params:
        models=model_options("reference", "reward_model"),
        settings=lambda wildcards: as_json(ROOTS[wildcards.root].section["rewards"]),
        code=code("vbon.pool.shared", "vbon.pool.features"),
    shell:
        "vbon prior --rewards {input.rewards:q} --prompts {input.prompts:q} {params.models:q}"
        " --settings {params.settings:q} --draws {wildcards.m} --output {output:q}"
        " > {log:q} 2>&1"


for number, (folder, pairings) in enumerate(pair_files(RUNS).items()):

    rule:
        """Pairs of stored draws for offline methods; the reward model is not asked again."""
        name:
            f"pairs_{number}"
        input:
            os.path.join(os.path.dirname(folder), "rewards/train.parquet"),
        output:
            [f"{folder}/{slug}.parquet" for slug in pairings],
        log:
            f"logs/{folder.removeprefix(RESULTS + '/')}.log",
        localrule: LIGHT
        threads: 1
        params:
            pairings=as_json(pairings),
            folder=folder,
            seed=config["seed"],
            code=code("vbon.pool.pairs"),
        shell:
            "vbon pairs --rewards {input:q} --pairings {params.pairings:q} --seed {params.seed}"
            " --output {params.folder:q} > {log:q} 2>&1"

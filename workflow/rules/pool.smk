"""The reference's draws, their rewards, tables for estimates of log F, and pairs of draws."""

for task in PLAN.text_tasks:
    for prompts, splits in PLAN.drawn_together(task).items():
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
            resources:
                gpu=PLAN.gpus_for_drawing(task),
            params:
                drawing=PLAN.drawing(task),
                draws=PLAN.draws(task, prompts),
                temperatures=list(splits.values()),
                seed=PLAN.seed,
                code=PLAN.code("sample"),
            shell:
                STEPS["sample"].shell(shard="{wildcards.shard}", temperatures="{params.temperatures}")

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
            resources:
                gpu=PLAN.gpu,
            params:
                scoring=as_json(config[task]["rewards"]),
                code=PLAN.code("score"),
            shell:
                STEPS["score"].shell()


rule merge:
    """All samples or rewards of one set of draws."""
    input:
        shards=lambda wildcards: PLAN.shards(wildcards.task, wildcards.kind, wildcards.split),
    output:
        RESULTS + "/{task}/reference/{kind}/{split}.parquet",
    log:
        "logs/{task}/merge-{kind}-{split}.log",
    wildcard_constraints:
        kind="samples|rewards",
    localrule: LIGHT
    params:
        schema=lambda wildcards: wildcards.kind,
        code=PLAN.code("merge"),
    shell:
        STEPS["merge"].shell()


rule logf:
    """Sorted rewards of each prompt, and the curve that is fitted to them."""
    input:
        rewards=RESULTS + "/{task}/reference/rewards/{split}.parquet",
    output:
        RESULTS + "/{task}/reference/logf/{split}.parquet",
    log:
        "logs/{task}/logf-{split}.log",
    localrule: LIGHT
    params:
        draws=lambda wildcards: PLAN.used_draws(wildcards.task, wildcards.split),
        code=PLAN.code("logf"),
    shell:
        STEPS["logf"].shell()


rule logf_of:
    """The same from another number of draws, for methods that set `m` themselves."""
    input:
        rewards=RESULTS + "/{root}/reference/rewards/train.parquet",
    output:
        RESULTS + "/{root}/reference/logf/train-m{m}.parquet",
    log:
        "logs/{root}/logf-train-m{m}.log",
    localrule: LIGHT
    params:
        code=PLAN.code("logf"),
    shell:
        STEPS["logf"].shell(draws="{wildcards.m}")


rule prior:
    """Common distribution of the first draws of all prompts, for estimator `shared`."""
    input:
        rewards=RESULTS + "/{root}/reference/rewards/train.parquet",
        prompts=RESULTS + "/{root}/prompts/train.parquet",
        reference=RESULTS + "/{root}/models/reference/card.json",
        reward_model=RESULTS + "/{root}/models/reward_model/card.json",
    output:
        RESULTS + "/{root}/reference/logf/prior-m{m}.parquet",
    log:
        "logs/{root}/prior-m{m}.log",
    resources:
        gpu=PLAN.gpu,
    params:
        scoring=lambda wildcards: as_json(PLAN.roots[wildcards.root].section["rewards"]),
        code=PLAN.code("prior"),
    shell:
        STEPS["prior"].shell(draws="{wildcards.m}")


for number, (folder, pairings) in enumerate(pair_files(PLAN.runs).items()):

    rule:
        """Pairs of stored draws for offline methods; the reward model is not used again."""
        name:
            f"pairs_{number}"
        input:
            rewards=f"{folder.rpartition('/')[0]}/rewards/train.parquet",
        output:
            [f"{folder}/{slug}.parquet" for slug in pairings],
        log:
            f"logs/{folder.removeprefix(RESULTS + '/')}.log",
        localrule: LIGHT
        params:
            pairings=as_json(pairings),
            folder=folder,
            seed=PLAN.seed,
            code=PLAN.code("pairs"),
        shell:
            STEPS["pairs"].shell()

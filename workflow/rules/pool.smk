"""The reference's draws, their rewards, what log F is estimated from, and pairs of draws."""

from vbon.plan import pair_files


rule sample:
    """Draws for one shard of the prompts."""
    input:
        prompts=lambda wildcards: (
            f"{RESULTS}/{wildcards.task}/prompts/{prompts_of(wildcards.split)}.parquet"
        ),
        reference=RESULTS + "/{task}/models/reference/card.json",
    output:
        samples=RESULTS + "/{task}/reference/shards/samples-{split}-{shard}.parquet",
        seconds=RESULTS + "/{task}/reference/seconds/samples-{split}-{shard}.json",
    log:
        "logs/{task}/sample-{split}-{shard}.log",
    threads: 1
    params:
        reference=lambda wildcards, input: os.path.dirname(input.reference),
        settings=lambda wildcards: as_json(
            {
                "temperature": temperature_of(wildcards),
                **{
                    name: section(wildcards, "sampling", name)
                    for name in (
                        "max_new_tokens",
                        "prompts_per_shard",
                        "prompts_per_batch",
                    )
                },
            }
        ),
        draws=draws,
        seed=config["seed"],
        code=code("vbon.sampling"),
    shell:
        "vbon sample --prompts {input.prompts:q} --reference {params.reference:q}"
        " --settings {params.settings:q} --draws {params.draws} --shard {wildcards.shard}"
        " --seed {params.seed} --output {output.samples:q} --seconds {output.seconds:q}"
        " > {log:q} 2>&1"


rule score:
    """Rewards of one shard's draws, by reward model and evaluator."""
    input:
        samples=RESULTS + "/{task}/reference/shards/samples-{split}-{shard}.parquet",
        prompts=lambda wildcards: (
            f"{RESULTS}/{wildcards.task}/prompts/{prompts_of(wildcards.split)}.parquet"
        ),
        reference=RESULTS + "/{task}/models/reference/card.json",
        reward_model=RESULTS + "/{task}/models/reward_model/card.json",
        evaluator=RESULTS + "/{task}/models/evaluator/card.json",
    output:
        rewards=RESULTS + "/{task}/reference/shards/rewards-{split}-{shard}.parquet",
        seconds=RESULTS + "/{task}/reference/seconds/rewards-{split}-{shard}.json",
    log:
        "logs/{task}/score-{split}-{shard}.log",
    threads: 1
    params:
        models=model_options(*ROLES),
        settings=lambda wildcards: as_json(section(wildcards, "rewards")),
        code=code("vbon.rewards"),
    shell:
        "vbon score --samples {input.samples:q} --prompts {input.prompts:q} {params.models:q}"
        " --settings {params.settings:q} --output {output.rewards:q}"
        " --seconds {output.seconds:q} > {log:q} 2>&1"


rule merge_samples:
    """All draws of one split."""
    input:
        lambda wildcards: shards(wildcards, "samples"),
    output:
        RESULTS + "/{task}/reference/samples/{split}.parquet",
    log:
        "logs/{task}/merge-samples-{split}.log",
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
    threads: 1
    params:
        draws=lambda wildcards: (
            section(wildcards, "logf", "m")
            if wildcards.split == "train"
            else section(wildcards, "sampling", "test_draws")
        ),
        code=code("vbon.logf"),
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
    threads: 1
    params:
        code=code("vbon.logf"),
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
    params:
        models=model_options("reference", "reward_model"),
        settings=lambda wildcards: as_json(ROOTS[wildcards.root].section["rewards"]),
        code=code("vbon.shared_cdf", "vbon.tasks.features"),
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
        threads: 1
        params:
            pairings=as_json(pairings),
            folder=folder,
            seed=config["seed"],
            code=code("vbon.pairs"),
        shell:
            "vbon pairs --rewards {input:q} --pairings {params.pairings:q} --seed {params.seed}"
            " --output {params.folder:q} > {log:q} 2>&1"

"""The reference's draws, their rewards, and each prompt's sorted rewards."""


rule sample:
    """Draws for one shard of the prompts."""
    input:
        prompts=RESULTS + "/{task}/prompts/{split}.parquet",
        reference=RESULTS + "/{task}/models/reference/card.json",
    output:
        RESULTS + "/{task}/reference/shards/samples-{split}-{shard}.parquet",
    log:
        "logs/{task}/sample-{split}-{shard}.log",
    threads: 1
    params:
        reference=lambda wildcards, input: os.path.dirname(input.reference),
        settings=lambda wildcards: as_json(
            {
                name: section(wildcards, "sampling", name)
                for name in (
                    "max_new_tokens",
                    "temperature",
                    "prompts_per_shard",
                    "prompts_per_batch",
                )
            }
        ),
        draws=draws,
        seed=config["seed"],
        code=code("vbon.sampling"),
    shell:
        "vbon sample --prompts {input.prompts:q} --reference {params.reference:q}"
        " --settings {params.settings:q} --draws {params.draws} --shard {wildcards.shard}"
        " --seed {params.seed} --output {output:q} > {log:q} 2>&1"


rule score:
    """Rewards of one shard's draws, by reward model and evaluator."""
    input:
        samples=RESULTS + "/{task}/reference/shards/samples-{split}-{shard}.parquet",
        prompts=RESULTS + "/{task}/prompts/{split}.parquet",
        reference=RESULTS + "/{task}/models/reference/card.json",
        reward_model=RESULTS + "/{task}/models/reward_model/card.json",
        evaluator=RESULTS + "/{task}/models/evaluator/card.json",
    output:
        RESULTS + "/{task}/reference/shards/rewards-{split}-{shard}.parquet",
    log:
        "logs/{task}/score-{split}-{shard}.log",
    threads: 1
    params:
        models=lambda wildcards, input: [
            f"--{name.replace('_', '-')}={os.path.dirname(input[name])}"
            for name in ("reference", "reward_model", "evaluator")
        ],
        settings=lambda wildcards: as_json(section(wildcards, "rewards")),
        code=code("vbon.rewards"),
    shell:
        "vbon score --samples {input.samples:q} --prompts {input.prompts:q} {params.models:q}"
        " --settings {params.settings:q} --output {output:q} > {log:q} 2>&1"


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
    """Each prompt's rewards in order, as the estimates of log F need them."""
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
        fit=lambda wildcards: (
            "--fit" if section(wildcards, "logf", "estimator") == "exponential" else ""
        ),
        code=code("vbon.logf"),
    shell:
        "vbon logf --rewards {input:q} --draws {params.draws} {params.fit} --output {output:q}"
        " > {log:q} 2>&1"

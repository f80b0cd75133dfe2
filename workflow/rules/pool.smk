"""The reference's draws, their rewards, each prompt's sorted rewards, and pairs of draws."""

from vbon.plan import pair_files


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
        lambda wildcards: f"{ROOTS[wildcards.root].shared}/reference/rewards/{wildcards.split}.parquet",
    output:
        RESULTS + "/{root}/reference/logf/{split}.parquet",
    log:
        "logs/{root}/logf-{split}.log",
    wildcard_constraints:
        root="|".join(name for name, root in ROOTS.items() if root.task in BUILT) or "none",
    threads: 1
    params:
        draws=lambda wildcards: (
            ROOTS[wildcards.root].section["logf"]["m"]
            if wildcards.split == "train"
            else ROOTS[wildcards.root].section["sampling"]["test_draws"]
        ),
        fit=lambda wildcards: (
            "--fit"
            if ROOTS[wildcards.root].section["logf"]["estimator"] == "exponential"
            else ""
        ),
        code=code("vbon.logf"),
    shell:
        "vbon logf --rewards {input:q} --draws {params.draws} {params.fit} --output {output:q}"
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

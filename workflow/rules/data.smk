"""Texts, the models that are built on them, and prompts."""


def texts_of(wildcards):
    """The texts that a task is made of."""
    kind = "posts" if wildcards.task in POSTS else "reviews"
    return f"{RESULTS}/{wildcards.task}/data/{kind}.parquet"


rule fetch:
    """What a task takes from the hub, once; every other rule works without a network."""
    output:
        RESULTS + "/{task}/hub.json",
    log:
        "logs/{task}/fetch.log",
    localrule: True
    threads: 1
    params:
        sources=lambda wildcards: as_json(
            {
                place: found
                for place, found in HUB.items()
                if place.startswith(f"{wildcards.task}.")
            }
        ),
    shell:
        "vbon prefetch --sources {params.sources:q} --output {output:q} > {log:q} 2>&1"


rule prefetch:
    """All that the configuration takes from the hub."""
    input:
        [path for task in BUILT for path in fetched(task)],
    localrule: True


rule texts:
    """Reviews or posts, each assigned to one purpose."""
    input:
        lambda wildcards: fetched(wildcards.task, wildcards.kind),
    output:
        RESULTS + "/{task}/data/{kind}.parquet",
    log:
        "logs/{task}/{kind}.log",
    wildcard_constraints:
        kind="reviews|posts",
    threads: 1
    params:
        settings=lambda wildcards: as_json(section(wildcards, wildcards.kind)),
        seed=config["seed"],
        code=code("vbon.tasks.reviews", "vbon.tasks.posts"),
    shell:
        "vbon {wildcards.kind} --settings {params.settings:q} --seed {params.seed}"
        " --output {output:q} > {log:q} 2>&1"


rule build:
    """One model: trained on its own texts, a pointer to an id, or a function."""
    input:
        given,
        lambda wildcards: fetched(wildcards.task, wildcards.role),
        texts=texts_of,
    output:
        card=RESULTS + "/{task}/models/{role}/card.json",
    log:
        "logs/{task}/build-{role}.log",
    threads: 1
    params:
        settings=lambda wildcards: as_json(
            {
                k: v
                for k, v in section(wildcards, wildcards.role).items()
                if k != "size"
            }
        ),
        tokenizer=lambda wildcards: as_json(section(wildcards, "tokenizer")),
        prompt_tokens=lambda wildcards: section(wildcards, "prompts", "max_tokens"),
        seed=config["seed"],
        code=code("vbon.models.build"),
    shell:
        "vbon build --role {wildcards.role} --texts {input.texts:q}"
        " --settings {params.settings:q} --tokenizer {params.tokenizer:q}"
        " --prompt-tokens {params.prompt_tokens} --seed {params.seed}"
        " --card {output.card:q} > {log:q} 2>&1"


rule prompts:
    """What is to be continued, none of the test prompts also a training prompt."""
    input:
        texts=texts_of,
        reference=RESULTS + "/{task}/models/reference/card.json",
    output:
        train=RESULTS + "/{task}/prompts/train.parquet",
        test=RESULTS + "/{task}/prompts/test.parquet",
    log:
        "logs/{task}/prompts.log",
    threads: 1
    params:
        reference=lambda wildcards, input: os.path.dirname(input.reference),
        settings=lambda wildcards: as_json(section(wildcards, "prompts")),
        seed=config["seed"],
        code=code("vbon.tasks.prompts", "vbon.tasks.posts"),
    shell:
        "vbon prompts --texts {input.texts:q} --reference {params.reference:q}"
        " --settings {params.settings:q} --seed {params.seed}"
        " --train {output.train:q} --test {output.test:q} > {log:q} 2>&1"


rule baselines:
    """The reference's summaries against the beginnings of the posts."""
    input:
        texts=texts_of,
        prompts=RESULTS + "/{task}/prompts/train.parquet",
        samples=RESULTS + "/{task}/reference/samples/train.parquet",
        reference=RESULTS + "/{task}/models/reference/card.json",
        evaluator=RESULTS + "/{task}/models/evaluator/card.json",
    output:
        RESULTS + "/{task}/tables/baselines.csv",
    log:
        "logs/{task}/baselines.log",
    wildcard_constraints:
        task="|".join(POSTS) or "none",
    threads: 1
    resources:
        gpu=GPU,
    params:
        models=model_options("reference", "evaluator"),
        settings=lambda wildcards: as_json(section(wildcards, "rewards")),
        code=code("vbon.tasks.lead", "vbon.rewards"),
    shell:
        "vbon baselines --texts {input.texts:q} --prompts {input.prompts:q}"
        " --samples {input.samples:q} {params.models:q} --settings {params.settings:q}"
        " --output {output:q} > {log:q} 2>&1"


rule data_report:
    """What the data are like; outside their bounds nothing is trained on them."""
    input:
        texts=texts_of,
        train=RESULTS + "/{task}/prompts/train.parquet",
        test=RESULTS + "/{task}/prompts/test.parquet",
        samples=RESULTS + "/{task}/reference/samples/train.parquet",
        rewards=RESULTS + "/{task}/reference/rewards/train.parquet",
        baselines=lambda wildcards: (
            [f"{RESULTS}/{wildcards.task}/tables/baselines.csv"]
            if wildcards.task in POSTS
            else []
        ),
        cards=expand(
            RESULTS + "/{{task}}/models/{role}/card.json",
            role=["reference", "reward_model", "evaluator"],
        ),
    output:
        RESULTS + "/{task}/tables/data.csv",
    log:
        "logs/{task}/data_report.log",
    localrule: LIGHT
    threads: 1
    params:
        cards=lambda wildcards, input: [
            f"{os.path.basename(os.path.dirname(card))}={card}" for card in input.cards
        ],
        baselines=lambda wildcards, input: (
            ["--baselines", *input.baselines] if input.baselines else []
        ),
        checks=lambda wildcards: as_json(section(wildcards, "checks")),
        code=code("vbon.tasks.bounds"),
    shell:
        "vbon data-report --texts {input.texts:q} --train {input.train:q}"
        " --test {input.test:q} --samples {input.samples:q} --rewards {input.rewards:q}"
        " --cards {params.cards:q} --checks {params.checks:q} {params.baselines:q}"
        " --output {output:q} > {log:q} 2>&1"

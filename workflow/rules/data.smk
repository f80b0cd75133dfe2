"""Reviews, the models that are built on them, and prompts."""


rule reviews:
    """Labelled texts, each assigned to one purpose."""
    output:
        RESULTS + "/{task}/data/reviews.parquet",
    log:
        "logs/{task}/reviews.log",
    threads: 1
    params:
        settings=lambda wildcards: as_json(section(wildcards, "reviews")),
        seed=config["seed"],
        code=code("vbon.tasks.corpus"),
    shell:
        "vbon reviews --settings {params.settings:q} --seed {params.seed} --output {output:q}"
        " > {log:q} 2>&1"


rule build:
    """One model: trained on its own reviews, or a pointer to an id."""
    input:
        reviews=RESULTS + "/{task}/data/reviews.parquet",
    output:
        card=RESULTS + "/{task}/models/{role}/card.json",
    log:
        "logs/{task}/build-{role}.log",
    threads: 1
    params:
        settings=lambda wildcards: as_json(section(wildcards, wildcards.role)),
        tokenizer=lambda wildcards: as_json(section(wildcards, "tokenizer")),
        seed=config["seed"],
        code=code("vbon.models.build"),
    shell:
        "vbon build --role {wildcards.role} --reviews {input.reviews:q}"
        " --settings {params.settings:q} --tokenizer {params.tokenizer:q} --seed {params.seed}"
        " --card {output.card:q} > {log:q} 2>&1"


rule prompts:
    """Beginnings of reviews, none of the test prompts also a training prompt."""
    input:
        reviews=RESULTS + "/{task}/data/reviews.parquet",
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
        code=code("vbon.tasks.prompts"),
    shell:
        "vbon prompts --reviews {input.reviews:q} --reference {params.reference:q}"
        " --settings {params.settings:q} --seed {params.seed}"
        " --train {output.train:q} --test {output.test:q} > {log:q} 2>&1"


rule data_report:
    """What the data are like; outside their bounds nothing is trained on them."""
    input:
        reviews=RESULTS + "/{task}/data/reviews.parquet",
        train=RESULTS + "/{task}/prompts/train.parquet",
        test=RESULTS + "/{task}/prompts/test.parquet",
        samples=RESULTS + "/{task}/reference/samples/train.parquet",
        rewards=RESULTS + "/{task}/reference/rewards/train.parquet",
        cards=expand(
            RESULTS + "/{{task}}/models/{role}/card.json",
            role=["reference", "reward_model", "evaluator"],
        ),
    output:
        csv=RESULTS + "/{task}/tables/data.csv",
        markdown=RESULTS + "/{task}/tables/data.md",
    log:
        "logs/{task}/data_report.log",
    threads: 1
    params:
        cards=lambda wildcards, input: [
            f"{os.path.basename(os.path.dirname(card))}={card}" for card in input.cards
        ],
        checks=lambda wildcards: as_json(section(wildcards, "checks")),
        code=code("vbon.tasks.report"),
    shell:
        "vbon data-report --reviews {input.reviews:q} --train {input.train:q}"
        " --test {input.test:q} --samples {input.samples:q} --rewards {input.rewards:q}"
        " --cards {params.cards:q} --checks {params.checks:q} --csv {output.csv:q}"
        " --markdown {output.markdown:q} > {log:q} 2>&1"

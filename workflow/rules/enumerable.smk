"""The enumerable task: its languages, and every policy against its exact optimum."""

LANGUAGES = {
    f"{RESULTS}/{name}": root.section
    for name, root in ROOTS.items()
    if root.task == "enumerable"
}

# Runs of transformed rewards, and those that they are held against, are too short for an optimum.
OPTIMISED = [
    run for run in RUNS if run.task == "enumerable" and run.study not in INVARIANCE
]
OPTIMISED_ROOTS = {
    root: section
    for root, section in LANGUAGES.items()
    if os.path.basename(root) not in INVARIANCE
}

ENUMERATE_MODULES = (
    "vbon.tasks.enumerable",
    "vbon.sampling",
    "vbon.rewards",
    "vbon.pool.logf",
    "vbon.objectives.oracle",
)

if LANGUAGES:

    rule enumerate:
        """The languages of the task and its studies, in one process."""
        output:
            expand("{root}/models/{role}/card.json", root=LANGUAGES, role=ROLES),
            expand("{root}/prompts/{split}.parquet", root=LANGUAGES, split=SPLITS),
            expand(
                "{root}/reference/{kind}/{split}.parquet",
                root=LANGUAGES,
                kind=["samples", "rewards", "logf"],
                split=SPLITS,
            ),
            expand(
                "{root}/reference/seconds/{kind}-{split}-0.json",
                root=LANGUAGES,
                kind=["samples", "rewards"],
                split=SPLITS,
            ),
            expand("{root}/data/strings.parquet", root=LANGUAGES),
        log:
            "logs/enumerable/enumerate.log",
        threads: 1
        params:
            roots=as_json(
                {root: language_of(section) for root, section in LANGUAGES.items()}
            ),
            seed=config["seed"],
            code=code(*ENUMERATE_MODULES),
        shell:
            "vbon enumerate --roots {params.roots:q} --seed {params.seed} > {log:q} 2>&1"

    rule optimum:
        """Exact distances of all trained policies, and what an estimated F costs by itself."""
        input:
            runs=[f"{run.folder}/run.json" for run in OPTIMISED],
            strings=expand("{root}/data/strings.parquet", root=OPTIMISED_ROOTS),
        output:
            expand(RESULTS + "/enumerable/tables/{name}.csv", name=OPTIMA),
        log:
            "logs/enumerable/optimum.log",
        threads: 1
        params:
            runs=as_json([run.to_json() for run in OPTIMISED]),
            sections=as_json(
                {root: language_of(part) for root, part in OPTIMISED_ROOTS.items()}
            ),
            seed=config["seed"],
            folder=f"{RESULTS}/enumerable/tables",
            code=code("vbon.analysis.optimum"),
        shell:
            "vbon optimum --runs {params.runs:q} --sections {params.sections:q}"
            " --seed {params.seed} --output {params.folder:q} > {log:q} 2>&1"

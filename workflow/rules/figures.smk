"""Every figure, and every table as Markdown, from tables alone: a graph of its own as well.

`snakemake -s workflow/rules/figures.smk -F --cores 2` redraws them all from the tables that are
there. No rule upstream of a table exists in that graph, so nothing can be computed again.
"""

from vbon.report.captions import CAPTIONS

ALONE = "RUNS" not in globals()

if ALONE:

    configfile: "config.yaml"

    include: "common.smk"


FIGURES = {
    "sentiment": ["figure2a", "figure2b", "figure3", "figure6", "figure7a", "figure7b"],
    "summarization": ["figure5a", "figure5b", "overoptimisation"],
    "enumerable": ["optimum"],
}
STUDIED = ("figure4", "estimators")  # studies that have a figure of their own
SUFFIXES = ("pdf", "svg", "png", "csv")


def figures_of(task):
    """Names of a task's figures."""
    return [*FIGURES[task], *(name for name in STUDIED if studied(task, name))]


def tables_of(task):
    """Names of the tables that are there for reading."""
    names = {
        "claims": True,
        "data": task in BUILT,
        "matched_kl": task in COMPARED,
        "orderings": task in COMPARED,
        "convergence": task in COMPARED and has_training(task),
        "equivalence": task in COMPARED and has_equivalence(task),
        "table1": task in COMPARED and has_table1(task),
        "estimators": studied(task, "estimators"),
        "inference": task in COMPARED,
        "section6": task in POSTS,
        "baselines": task in POSTS,
        **dict.fromkeys(examples_of(task) if task in POSTS else [], True),
        **dict.fromkeys(OPTIMA, task == "enumerable"),
        "missing": PARTIAL,
    }
    return [name for name, wanted in names.items() if wanted]


def drawn_from(task, name):
    """The tables that a figure is drawn from, by the names it knows them by."""
    folder = f"{RESULTS}/{task}"
    own = {
        "optimum": ["tables/optimum.csv", "tables/curves.csv"],
        "estimators": ["tables/estimators.csv"],
        "figure3": ["tables/figure3.csv"],
        "figure4": [
            f"studies/figure4/{table}.parquet" for table in ("points", "costs")
        ],
        "figure5a": ["points.parquet"],
        "figure5b": ["points.parquet"],
        "overoptimisation": ["tables/monitored.csv"],
    }
    compared = ["points.parquet", "tables/attainment.csv"]
    if name == "figure6":
        compared += ["tables/equivalence.csv"] * has_equivalence(task)
    else:
        compared += ["pareto.parquet"]
    paths = [f"{folder}/{path}" for path in own.get(name, compared)]
    incomplete = f"{folder}/tables/missing.csv"
    paths += [incomplete] if not ALONE or os.path.exists(incomplete) else []
    return {os.path.splitext(os.path.basename(path))[0]: path for path in paths}


def sources():
    """What is drawn and rendered, and the tables that each is made from."""
    found = {}
    for task in TASKS:
        folder = f"{RESULTS}/{task}"
        for name in figures_of(task):
            tables = list(drawn_from(task, name).values())
            found |= {
                f"{folder}/figures/{name}.{suffix}": tables for suffix in SUFFIXES
            }
        for name in tables_of(task):
            found[f"{folder}/tables/{name}.md"] = [f"{folder}/tables/{name}.csv"]
    return found


SOURCES = sources()
# Copies are of `results`, and never stand beside figures of other tables of the task.
COPIED = [
    task
    for task in TASKS
    if RESULTS == "results"
    and not any(
        os.path.exists(path)
        for paths in SOURCES.values()
        for path in paths
        if path.startswith(f"{RESULTS}/{task}/")
    )
]


def stored(path):
    """Where a table is: itself or, if this graph stands alone, the copy of it that is there."""
    task = path.removeprefix(f"{RESULTS}/").partition("/")[0]
    as_csv = path.replace(".parquet", ".csv")
    copies = [as_csv, *[as_csv.replace(RESULTS, "published", 1)] * (task in COPIED)]
    there = [copy for copy in copies if ALONE and os.path.exists(copy)]
    return path if os.path.exists(path) else [*there, path][0]


rule figure:
    """One figure, with what it draws as CSV."""
    input:
        lambda wildcards: map(stored, drawn_from(*wildcards).values()),
    output:
        report(
            RESULTS + "/{task}/figures/{name}.svg",
            caption="../report/figure.rst",
            category="{task}",
            subcategory="Figures",
            labels={"figure": "{name}"},
        ),
        multiext(RESULTS + "/{task}/figures/{name}", ".pdf", ".png", ".csv"),
    log:
        "logs/{task}/{name}.log",
    wildcard_constraints:
        task="|".join(TASKS),
        name="figure[0-9]+[ab]?|optimum|overoptimisation|estimators",
    localrule: True
    threads: 1
    params:
        tables=lambda wildcards: [
            f"{name}={stored(path)}" for name, path in drawn_from(*wildcards).items()
        ],
        stem=lambda wildcards, output: os.path.splitext(output[0])[0],
        caption=lambda wildcards: CAPTIONS[wildcards.name],
        code=code("vbon.figures.catalogue"),
    shell:
        "vbon figure --name {wildcards.name} --tables {params.tables:q} --output {params.stem:q}"
        " > {log:q} 2>&1"


rule table:
    """A table for reading."""
    input:
        lambda wildcards: stored(
            f"{RESULTS}/{wildcards.task}/tables/{wildcards.name}.csv"
        ),
    output:
        report(
            RESULTS + "/{task}/tables/{name}.md",
            caption="../report/table.rst",
            category="{task}",
            subcategory="Tables",
            labels={"table": "{name}"},
        ),
    log:
        "logs/{task}/{name}-table.log",
    wildcard_constraints:
        task="|".join(TASKS),
        name="[a-z0-9_]+",
    localrule: True
    threads: 1
    params:
        code=code("vbon.artifacts.markdown"),
    shell:
        "vbon table --csv {input:q} --output {output:q} > {log:q} 2>&1"


if ALONE:

    MISSING = {
        output: [path for path in paths if not os.path.exists(stored(path))]
        for output, paths in SOURCES.items()
    }
    for task in COPIED:
        logger.info(f"{task}: {RESULTS}/{task} has no tables; using published/{task}")
    for output, paths in MISSING.items():
        if paths and output.endswith((".md", ".png")):
            logger.warning(
                f"left out: {os.path.splitext(output)[0]}, since {' and '.join(paths)} is missing;"
                " get it with `dvc pull`, or compute it with `make benchmark`"
            )
    if all(MISSING.values()):
        raise WorkflowError("there is no table to draw or render anything from")

    for task in TASKS:

        rule:
            """One task's figures."""
            name:
                f"figures_{task}"
            input:
                [
                    output
                    for output, paths in MISSING.items()
                    if output.startswith(f"{RESULTS}/{task}/figures/") and not paths
                ],
            localrule: True

    localrules:
        redraw,

    rule redraw:
        """All figures and tables whose sources are there."""
        default_target: True
        input:
            [output for output, paths in MISSING.items() if not paths],
            f"{RESULTS}/report/index.html",


include: "report.smk"

"""Every figure, and every table as Markdown, from tables alone."""

from vbon.report.captions import CAPTIONS


localrules:
    figure,
    table,


rule figure:
    """One figure, with its data as CSV."""
    input:
        lambda wildcards: map(DRAWING.stored, DRAWING.tables(*wildcards).values()),
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
        task="|".join(PLAN.tasks),
        name="|".join({name for task in PLAN.tasks for name in DRAWING.figures(task)}),
    params:
        name=lambda wildcards: wildcards.name,
        tables=lambda wildcards: DRAWING.words(DRAWING.tables(*wildcards)),
        stem=RESULTS + "/{task}/figures/{name}",
        caption=lambda wildcards: CAPTIONS[wildcards.name],
        code=PLAN.code("figure"),
    shell:
        STEPS["figure"].shell()


rule table:
    """A table as Markdown."""
    input:
        csv=lambda wildcards: DRAWING.stored(
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
        task="|".join(PLAN.tasks),
        name="[a-z0-9_]+",
    params:
        code=PLAN.code("render"),
    shell:
        STEPS["render"].shell()

"""Every figure, and every table as Markdown, from tables alone."""


rule figure:
    """One figure, with what it draws as CSV."""
    input:
        lambda wildcards: tables_of(wildcards).values(),
    output:
        expand(RESULTS + "/{{task}}/figures/{{name}}.{suffix}", suffix=SUFFIXES),
    log:
        "logs/{task}/{name}.log",
    wildcard_constraints:
        task="|".join(TASKS),
        name="figure[0-9]+[ab]?|optimum|overoptimisation|estimators",
    threads: 1
    params:
        tables=lambda wildcards: [
            f"{k}={path}" for k, path in tables_of(wildcards).items()
        ],
        stem=lambda wildcards, output: os.path.splitext(output[0])[0],
        code=code("vbon.figures.catalogue"),
    shell:
        "vbon figure --name {wildcards.name} --tables {params.tables:q} --output {params.stem:q}"
        " > {log:q} 2>&1"


rule table:
    """A table for reading."""
    input:
        RESULTS + "/{task}/tables/{name}.csv",
    output:
        RESULTS + "/{task}/tables/{name}.md",
    log:
        "logs/{task}/{name}-table.log",
    wildcard_constraints:
        task="|".join(TASKS),
        name="[a-z0-9_]+",
    threads: 1
    params:
        code=code("vbon.markdown"),
    shell:
        "vbon table --csv {input:q} --output {output:q} > {log:q} 2>&1"

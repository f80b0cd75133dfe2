"""Every figure, from tables alone."""


rule figure:
    """One figure of the paper, with what it draws as CSV."""
    input:
        RESULTS + "/{task}/points.parquet",
    output:
        expand(RESULTS + "/{{task}}/figures/{{name}}.{suffix}", suffix=SUFFIXES),
    log:
        "logs/{task}/{name}.log",
    wildcard_constraints:
        name="figure[0-9]+[ab]?",
    threads: 1
    params:
        stem=lambda wildcards, output: os.path.splitext(output[0])[0],
        code=code("vbon.figures.catalogue"),
    shell:
        "vbon figure --name {wildcards.name} --points {input:q} --output {params.stem:q}"
        " > {log:q} 2>&1"

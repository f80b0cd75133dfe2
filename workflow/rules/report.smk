"""The page that shows all results, from tables and drawn figures alone."""

from vbon.artifacts.fingerprint import PACKAGE, content_hash

REPORT = f"{RESULTS}/report/index.html"
PAGE = [PACKAGE / "report" / f"page.{suffix}" for suffix in ("html", "css", "js")]


def excerpts_of(task):
    """Tables that are there for the report alone."""
    return ["samples", "models"] + ["training"] * has_training(task)


def reported(task):
    """Files that the report shows of a task, by the names it knows them by."""
    tables = [*tables_of(task), *excerpts_of(task), "missing"]
    named = {name: f"{name}.parquet" for name in ("points", "costs")}
    named |= {f"tables/{name}": f"tables/{name}.csv" for name in tables}
    named |= {f"figures/{name}": f"figures/{name}.csv" for name in figures_of(task)}
    return {
        f"{task}/{name}": f"{RESULTS}/{task}/{path}" for name, path in named.items()
    }


def is_there(path):
    """Whether the report can have a file: where figures stand alone, nothing else is made."""
    if not ALONE:
        return True
    if "/figures/" in path:
        return not MISSING[path]
    return os.path.exists(stored(path))


SHOWN = {
    name: path
    for task in TASKS
    for name, path in reported(task).items()
    if is_there(path)
}
NOT_SHOWN = [
    path
    for task in TASKS
    for path in reported(task).values()
    if not is_there(path) and not path.endswith("/missing.csv")  # then none is missing
]


rule page:
    """Everything on one page that needs nothing else."""
    input:
        [stored(path) for path in SHOWN.values()],
        [path.replace(".csv", ".svg") for path in SHOWN.values() if "/figures/" in path],
    output:
        report(REPORT, caption="../report/page.rst", category="Report"),
    log:
        "logs/report.log",
    localrule: True
    threads: 1
    params:
        tables=[f"{name}={stored(path)}" for name, path in SHOWN.items()],
        missing=NOT_SHOWN,
        files=[content_hash(path) for path in PAGE],
        code=code("vbon.report.page"),
    shell:
        "vbon report --tables {params.tables:q} --missing {params.missing:q} --output {output:q}"
        " > {log:q} 2>&1"

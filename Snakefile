"""The benchmark: prompts, reference samples, log F, every run, scoring, fronts, figures."""

from snakemake.utils import min_version

min_version("9.0")


configfile: "config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/pool.smk"
include: "workflow/rules/enumerable.smk"
include: "workflow/rules/runs.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/summaries.smk"
include: "workflow/rules/excerpts.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/targets.smk"


onstart:
    # With its limit of jobs a second, Snakemake 9 looks for jobs each second anew, and once more each
    # second for every job that has ended: minutes of a core in a long sweep. Without one it looks
    # when a job ends.
    workflow.scheduler.job_rate_limiter = None


localrules:
    all,
    rebuild,


rule all:
    """Every figure and table of every task, and the page that shows them."""
    default_target: True
    input:
        lambda wildcards: damaged(),
        [f"{run.folder}/run.json" for run in RUNS],  # one that was deleted is missed
        sorted({*SOURCES, *(path for paths in SOURCES.values() for path in paths)}),
        REPORT,
        expand(f"{RESULTS}/{{task}}/metrics.json", task=TASKS),
        expand(f"{RESULTS}/{{root}}/points.parquet", root=filter(runs_of, ROOTS)),


rule rebuild:
    """What `vbon workflow` set aside; it asks for this beside targets that are named."""
    input:
        lambda wildcards: damaged(),

"""The benchmark: prompts, reference samples, log F, every run, scoring, fronts, figures."""

from snakemake.utils import min_version

min_version("9.0")


configfile: "config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/tasks.smk"
include: "workflow/rules/pool.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/analysis.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/targets.smk"


onstart:
    snakemake9.schedule_at_once(workflow)


localrules:
    all,
    rebuild,


rule all:
    """Every figure and table of every task, and the page that shows them."""
    default_target: True
    input:
        lambda wildcards: PLAN.damaged(workflow),
        PLAN.records(PLAN.runs),  # so that deleted ones are made again
        sorted({*DRAWING.sources, *(path for paths in DRAWING.sources.values() for path in paths)}),
        DRAWING.report,
        expand(f"{RESULTS}/{{task}}/metrics.json", task=PLAN.tasks),
        expand(f"{RESULTS}/{{root}}/points.parquet", root=filter(PLAN.runs_of, PLAN.roots)),


rule rebuild:
    """Files that `vbon workflow` set aside; requested beside named targets."""
    input:
        lambda wildcards: PLAN.damaged(workflow),

"""Figures, rendered tables and the report from the tables that exist.

`snakemake -s workflow/figures.smk -F --cores 2` redraws them all. This graph has no rule upstream of
a table, so nothing is computed again.
"""


configfile: "config.yaml"


FIGURES_ALONE = True


include: "rules/common.smk"
include: "rules/figures.smk"
include: "rules/report.smk"


localrules:
    redraw,


copies, left_out = DRAWING.notes()
for line in copies:
    logger.info(line)
for line in left_out:
    logger.warning(line)
if not DRAWING.drawable():
    raise WorkflowError("there is no table to draw or render anything from")


rule redraw:
    """All figures and tables whose sources exist."""
    default_target: True
    input:
        DRAWING.drawable(),
        DRAWING.report,


for task in PLAN.tasks:

    rule:
        """One task's figures."""
        name:
            f"figures_{task}"
        input:
            DRAWING.drawable(f"{RESULTS}/{task}/figures/"),
        localrule: True

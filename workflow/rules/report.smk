"""The page that shows all results, from tables and drawn figures alone."""

from vbon.artifacts.fingerprint import PACKAGE, content_hash

PAGE = [PACKAGE / "report" / f"page.{suffix}" for suffix in ("html", "css", "js")]


rule page:
    """All results on one page without external files."""
    input:
        DRAWING.page_inputs,
    output:
        report(DRAWING.report, caption="../report/page.rst", category="Report"),
    log:
        "logs/report.log",
    localrule: True
    params:
        tables=DRAWING.words(DRAWING.shown),
        missing=DRAWING.not_shown,
        files=[content_hash(path) for path in PAGE],
        code=PLAN.code("report"),
    shell:
        STEPS["report"].shell()

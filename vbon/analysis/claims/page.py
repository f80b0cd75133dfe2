"""The documentation of the claims, made of their definitions."""

from vbon.analysis.claims import CLAIMS

_HEAD = """# Claims

Each claim of the paper is a rule with a statistic and an interval. The tables
`results/{task}/tables/claims.md` have one row per claim, of the groups that are about the task. A
verdict is *supported* if the interval lies in the range that the rule names, *not supported* if it
lies beside that range, *undecided* if it reaches both or if there are no data; the note then says
what is missing. Verdicts are about the runs that the tables are made of, not about the paper's own
models. Where a claim rests on several statistics, the row shows the one that decides: the worst
verdict, and among equals the one closest to failing; the note counts the others. This page is made
of the docstrings in `vbon/analysis/claims/`.
"""


def claims_page() -> str:
    """Every claim with its source, group, key and definition, as Markdown.

    Example:
        >>> claims_page().startswith("# Claims")
        True
    """
    parts = [_HEAD]
    for group, claims in CLAIMS.items():
        for claim in claims:
            facts = f"*Paper: {claim.source}. Group: `{group}`. Key: `{claim.key}`.*"
            parts.append(f"## {claim.name}\n\n{facts}\n\n{claim.definition.rstrip()}\n")
    return "\n".join(parts)

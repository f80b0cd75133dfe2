"""What a finished workflow tells last: the claims in numbers, and where the report is."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

HEADLINES = (
    "BoN is on top",
    "vBoN is closest to BoN",
    "exact vBoN equals its bound L",
    "M = 32 is competitive",
    "vBoN is above PPO at t ≤ 0.5",
)
"""The claims whose numbers are told; all of them are in the report."""


def ending(results_dir: str | Path) -> Iterator[str]:
    """Lines about what a workflow left in a folder; none where it left neither claims nor report.

    Each number is the statistic that decides its claim, with its interval.
    """
    results = Path(results_dir)
    tables = sorted(results.glob("*/tables/claims.csv"))
    if tables:
        claims = pd.concat(map(pd.read_csv, tables))
        counts = Counter(claims["verdict"])
        told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in sorted(counts))
        yield f"the paper's claims on this run: {told} ({results}/*/tables/claims.md)"
        known = claims[claims["claim"].isin(HEADLINES) & claims["value"].notna()]
        for row in known.sort_values(
            "claim", key=lambda names: names.map(HEADLINES.index)
        ).itertuples():
            ends = f"({row.low:.3f} to {row.high:.3f})"
            yield f"  {row.claim}: {row.verdict}; {row.statistic} {row.value:.3f} {ends}"
    report = results / "report/index.html"
    if report.exists():
        yield f"report: {report} (open it in a browser)"

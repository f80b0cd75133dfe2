"""Last lines of a finished workflow: the claims in numbers, and the place of the report."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from vbon.artifacts.tables import read_small

HEADLINES = (
    "best_of_n_is_on_top",
    "vbon_is_closest",
    "exact_equals_bound",
    "few_draws_are_competitive",
    "vbon_is_above_ppo",
)
"""Keys of the claims whose numbers are printed; all of them are in the report."""


def ending(results_dir: str | Path) -> Iterator[str]:
    """Lines about the results in a folder; none where it has neither claims nor a report.

    Each number is the statistic that decides its claim, with its interval.
    """
    results = Path(results_dir)
    tables = sorted(results.glob("*/tables/claims.csv"))
    if tables:
        claims = pd.concat(read_small(path, "verdict") for path in tables)
        counts = Counter(claims["verdict"])
        summary = ", ".join(f"{counts[verdict]} {verdict}" for verdict in sorted(counts))
        yield f"the paper's claims on this run: {summary} ({results}/*/tables/claims.md)"
        # Tables of older results have no keys; their numbers are in the report alone.
        columns = ["key", "claim", "verdict", "statistic", "value", "low", "high"]
        numbers = claims.reindex(columns=columns).dropna(subset="value")
        for key in HEADLINES:
            for row in numbers[numbers["key"] == key].itertuples():
                ends = f"({row.low:.3f} to {row.high:.3f})"
                yield f"  {row.claim}: {row.verdict}; {row.statistic} {row.value:.3f} {ends}"
    report = results / "report/index.html"
    if report.exists():
        yield f"report: {report} (open it in a browser)"

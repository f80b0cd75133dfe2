"""Last lines of a finished workflow."""

import pandas as pd

from vbon.analysis.claims import CLAIMS
from vbon.analysis.ending import HEADLINES, ending


def claims(*rows):
    columns = ["key", "claim", "statistic", "value", "low", "high", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def test_headlines_are_printed_in_their_order_with_counts_of_all(tmp_path):
    last, first = HEADLINES[-1], HEADLINES[0]
    tables = {
        "summarization": claims((last, "the last one", "gap", 0.12, 0.02, 0.2, "supported")),
        "sentiment": claims(
            ("another", "another claim", "share", 0.5, 0.4, 0.6, "not supported"),
            (first, "the first one", "difference", 0.0471, 0.036, 0.056, "supported"),
            (HEADLINES[1], "the second one", None, None, None, None, "undecided"),  # lacks its data
        ),
    }
    for task, table in tables.items():
        (tmp_path / task / "tables").mkdir(parents=True)
        table.to_csv(tmp_path / task / "tables/claims.csv", index=False)
    (tmp_path / "report").mkdir()
    (tmp_path / "report/index.html").touch()
    counts, *numbers, report = ending(tmp_path)
    assert "1 not supported, 2 supported, 1 undecided" in counts
    assert numbers == [
        "  the first one: supported; difference 0.047 (0.036 to 0.056)",
        "  the last one: supported; gap 0.120 (0.020 to 0.200)",
    ]
    assert report == f"report: {tmp_path}/report/index.html (open it in a browser)"


def test_headlines_are_keys_of_claims():
    assert set(HEADLINES) <= {claim.key for group in CLAIMS.values() for claim in group}


def test_claims_of_older_results_are_counted(tmp_path):
    (tmp_path / "sentiment/tables").mkdir(parents=True)
    table = claims((HEADLINES[0], "first", "gap", 0.1, 0.0, 0.2, "supported"))
    table.drop(columns="key").to_csv(tmp_path / "sentiment/tables/claims.csv", index=False)
    (counts,) = ending(tmp_path)
    assert "1 supported" in counts


def test_an_empty_folder_has_no_lines(tmp_path):
    assert list(ending(tmp_path)) == []

"""What a finished workflow tells last."""

import pandas as pd

from vbon.cli.ending import HEADLINES, ending


def claims(*rows):
    columns = ["claim", "statistic", "value", "low", "high", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def test_headlines_are_told_in_their_order_with_counts_of_all(tmp_path):
    last, first = HEADLINES[-1], HEADLINES[0]
    tables = {
        "summarization": claims((last, "gap", 0.12, 0.02, 0.2, "supported")),
        "sentiment": claims(
            ("another claim", "share", 0.5, 0.4, 0.6, "not supported"),
            (first, "difference", 0.0471, 0.036, 0.056, "supported"),
            (HEADLINES[1], None, None, None, None, "undecided"),  # lacks its data
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
        f"  {first}: supported; difference 0.047 (0.036 to 0.056)",
        f"  {last}: supported; gap 0.120 (0.020 to 0.200)",
    ]
    assert report == f"report: {tmp_path}/report/index.html (open it in a browser)"


def test_nothing_is_told_where_nothing_is(tmp_path):
    assert list(ending(tmp_path)) == []

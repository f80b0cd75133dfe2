"""The sentences at the top of the page, each computed from the tables of the tasks.

A sentence whose table or row is missing is left out, so that the page of one task or of a partial
run reads well too.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from vbon.analysis.verdicts import NOT_SUPPORTED, SUPPORTED, UNDECIDED
from vbon.report.sources import Task
from vbon.report.style import labels

CLAIMS = {
    "vbon_is_closest": "vBoN is closest to BoN",
    "exact_equals_bound": "exact vBoN equals its bound L",
}
"""Claims with a sentence of their own: key, and name for tables without keys."""


def sentences(tasks: Sequence[Task]) -> list[str]:
    """Return at most five sentences: verdicts, methods at equal KL, two claims, and the data."""
    tables = [task.table("tables/claims") for task in tasks if task.has("tables/claims")]
    claims = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    matched = [task.table("tables/matched_kl") for task in tasks if task.has("tables/matched_kl")]
    parts = [
        verdicts(claims),
        *(highest_at_equal_kl(table) for table in matched[:1]),
        *(verdict_of(row) for row in featured(claims).to_dict("records")),
        data(tasks),
    ]
    return [part for part in parts if part]


def verdicts(claims: pd.DataFrame) -> str:
    """Number of claims per verdict.

    Example:
        >>> verdicts(pd.DataFrame({"verdict": ["supported", "undecided", "supported"]}))
        "These runs support 2 of the paper's claims, do not support 0 and leave 1 undecided."
    """
    if claims.empty:
        return ""
    counts = Counter(claims["verdict"])
    return (
        f"These runs support {counts[SUPPORTED]} of the paper's claims, do not support "
        f"{counts[NOT_SUPPORTED]} and leave {counts[UNDECIDED]} undecided."
    )


def highest_at_equal_kl(matched: pd.DataFrame) -> str:
    """The two methods with the highest win rates at the largest KL that most methods reach.

    Empty for fewer than two methods.

    Args:
        matched: The table ``matched_kl`` (:func:`vbon.analysis.attainment.matched`).
    """
    rows = matched[(matched["axes"] == "win_rate") & (matched["reaches"] >= matched["kl"])]
    rows = rows.dropna(subset="value")
    counts = rows["kl"].value_counts()
    kl = max(counts.index[counts == counts.max()].tolist(), default=0.0)
    ranked = rows[rows["kl"] == kl].sort_values("value", ascending=False, kind="stable")
    words = labels(ranked["method"])
    if len(ranked) < 2:
        return ""
    first, second, *others = ranked.to_dict("records")
    lead = first["value"] - second["value"]
    text = (
        f"At a KL of up to {kl:g} nat{'s' * (kl != 1)}, which {len(ranked)} methods reach, "
        f"{words[first['method']]} has the highest win rate, {_rate(first, '95 % interval ')}: "
        f"{lead:.3f} above {words[second['method']]}, {_rate(second)}"
    )
    overlapping = [row for row in others if row["high"] >= second["low"]]
    if second["high"] >= first["low"]:
        text += "; their intervals overlap"
    elif overlapping:
        names = _listed(words[row["method"]] for row in overlapping)
        text += f", whose interval overlaps with those of {names}"
    return f"{text}."


def featured(claims: pd.DataFrame) -> pd.DataFrame:
    """Rows of :data:`CLAIMS`, by key or by name; the first two claims if there are none."""
    if claims.empty:
        return claims
    named = claims["claim"].isin(CLAIMS.values())
    rows = claims[named | claims["key"].isin(CLAIMS) if "key" in claims else named]
    return (claims if rows.empty else rows).head(2)


def verdict_of(claim: Mapping[str, Any]) -> str:
    """Verdict, numbers and rule of a row of the table ``claims``."""
    text = f"The claim “{claim['claim']}” is {claim['verdict']}"
    if pd.isna(claim["value"]):
        return f"{text}: {claim['note']}." if isinstance(claim["note"], str) else f"{text}."
    numbers = interval(*(float(claim[name]) for name in ("value", "low", "high")))
    return f"{text}: {numbers} by the rule “{claim['rule']}” ({claim['statistic']})."


def data(tasks: Sequence[Task]) -> str:
    """Origin of the data of each task: synthetic, or the name of the texts."""
    named: dict[str, list[str]] = {}
    for task in tasks:
        named.setdefault(_origin(task), []).append(task.name.replace("_", " "))
    parts = [f"{_listed(names)} {origin}" for origin, names in named.items()]
    return f"Data: {'; '.join(parts)}." if parts else ""


def _origin(task: Task) -> str:
    if task.models.empty:
        return "(no table names its data)"
    source = task.setting("texts", "source")
    if source is None:
        return "(synthetic, a language small enough to list every string)"
    if source != "grammar":
        return f"(texts of {source})"
    parameters = task.setting("reference", "parameters")
    size = f", a reference model of {float(parameters):,.0f} parameters" if parameters else ""
    return f"(synthetic, texts of a seeded grammar{size})"


def interval(value: float, low: float, high: float) -> str:
    """A number with its interval, where it has one.

    Example:
        >>> interval(-0.00366, -0.00657, 0.1), interval(2.0, float("nan"), float("nan"))
        ('−0.00366 (−0.00657 to 0.1)', '2')
    """
    if pd.isna(value):
        return "–"
    ends = f" ({low:.3g} to {high:.3g})" if not (pd.isna(low) or pd.isna(high)) else ""
    return f"{value:.3g}{ends}".replace("-", "−")


def _rate(row: dict[str, Any], words: str = "") -> str:
    """A win rate with its interval, both to three decimals."""
    ends = "" if pd.isna(row["low"]) else f" ({words}{row['low']:.3f} to {row['high']:.3f})"
    return f"{row['value']:.3f}{ends}"


def _listed(words: Iterable[str]) -> str:
    """Words as an enumeration.

    Example:
        >>> _listed(["a"]), _listed(["a", "b"]), _listed(["a", "b", "c"])
        ('a', 'a and b', 'a, b and c')
    """
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last

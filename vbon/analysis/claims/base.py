"""What a claim is, and how the statistics that it rests on become one row with one verdict."""

import inspect
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from vbon.analysis.verdicts import UNDECIDED, VERDICTS, Rule
from vbon.errors import DataError

COLUMNS = ["claim", "source", "statistic", "value", "low", "high", "rule", "verdict", "note"]

Tables = Mapping[str, pd.DataFrame]
"""A task's tables by name: ``points``, ``costs``, ``orderings``, ``table1``, ``section6``, and
points of its studies by the study's name."""


class Missing(DataError):
    """What a claim rests on was not made, or says nothing; the message names it."""


@dataclass(frozen=True)
class Part:
    """One statistic that a claim rests on.

    Attributes:
        statistic: In words, with its unit where it has one.
        value: The estimate.
        low: Lower end of its interval.
        high: Upper end.
        rule: How the interval is read (:class:`vbon.analysis.verdicts.Rule`); empty if there is no
            number.
        verdict: What the rule says.
    """

    statistic: str
    value: float
    low: float
    high: float
    rule: str
    verdict: str

    @classmethod
    def by(
        cls,
        rule: Rule,
        statistic: str,
        value: float,
        ends: tuple[float, float],
        words: str | None = None,
    ) -> "Part":
        """A statistic read by a rule; ``words`` say more than the rule does."""
        low, high = ends
        return cls(statistic, value, low, high, words or rule.words, rule.read(low, high))

    @property
    def rank(self) -> tuple[int, float]:
        """Worst verdict first; among equals what is closest to failing, or has failed by most."""
        room = -math.inf
        if self.rule and not math.isnan(self.value):
            room = Rule.parse(self.rule).room(self.value, self.low, self.high)
        return VERDICTS.index(self.verdict), room

    def __str__(self) -> str:
        """The part in a line."""
        if math.isnan(self.value):
            return f"{self.statistic} (no number) {self.verdict}"
        known = not math.isnan(self.low)
        ends = f"{self.low:.3g} to {self.high:.3g}" if known else "no interval"
        return f"{self.statistic} {self.value:.3g} ({ends}; {self.rule}) {self.verdict}"


class Finding(NamedTuple):
    """What a claim rests on in one task's tables."""

    parts: Sequence[Part]
    table: str
    """Where the parts can be read."""
    remark: str = ""
    """What else a reader should know."""


def binding(parts: Sequence[Part]) -> Part:
    """The part that decides: the worst verdict, and among equals the closest to failing.

    Example:
        >>> sure = Part("a", 0.9, 0.8, 1.0, "interval above 0", "supported")
        >>> near = Part("b", 0.2, 0.1, 0.3, "interval above 0", "supported")
        >>> open_ = Part("c", 0.5, -0.5, 1.5, "interval above 0", "undecided")
        >>> [binding(parts).statistic for parts in ([sure, near], [sure, open_, near])]
        ['b', 'c']
    """
    return min(parts, key=lambda part: part.rank)


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper and how it is tested.

    Attributes:
        name: The sentence, short.
        source: Where the paper says it.
        tasks: Tasks that it is about.
        test: What it rests on in a task's tables; the function's docstring is its definition.
    """

    name: str
    source: str
    tasks: tuple[str, ...]
    test: Callable[[Tables], Finding]

    @property
    def definition(self) -> str:
        """Statistic, interval and rule, in words."""
        return inspect.getdoc(self.test) or ""

    def row(self, tables: Tables) -> dict[str, Any]:
        """The claim's row: its binding part, and a note on all of them.

        A claim that lacks its data is undecided, and the note says what is missing.
        """
        named = {"claim": self.name, "source": self.source}
        try:
            found = self.test(tables)
        except Missing as lack:
            return named | {"verdict": UNDECIDED, "note": str(lack)}
        part = binding(found.parts)
        return named | vars(part) | {"note": _note(found, part)}


def claim(name: str, source: str, *tasks: str) -> Callable[[Callable[[Tables], Finding]], Claim]:
    """Make a claim of the function that tests it."""
    return lambda test: Claim(name, source, tasks, test)


def _note(found: Finding, shown: Part) -> str:
    """How many parts read which way, the other one in full if there are two, and the remark."""
    counts = Counter(part.verdict for part in found.parts)
    total = f" of {len(found.parts)}"
    told = []
    if len(found.parts) > 1:
        kinds = (f"{counts[verdict]}{total} {verdict}" for verdict in VERDICTS[::-1])
        told.append(", ".join(text for text in kinds if not text.startswith("0 ")))
    if len(found.parts) == 2:
        told += [f"also {part}" for part in found.parts if part is not shown]
    return "; ".join([*told, *filter(None, [found.remark]), f"from {found.table}"])


def needed(tables: Tables, name: str, path: str, remedy: str) -> pd.DataFrame:
    """A table that a claim cannot do without.

    Raises:
        Missing: With its path and how to come by it.
    """
    if name not in tables or tables[name].empty:
        raise Missing(f"{path} is missing: {remedy}")
    words = set(tables[name].get("verdict", [])) - set(VERDICTS)
    if words:
        raise Missing(f"{path} has verdicts {sorted(words)}: it is of other code, make it again")
    return tables[name]

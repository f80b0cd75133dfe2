"""Claims, and how the statistics that one rests on become one row with one verdict."""

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from vbon.analysis.draws import POOL, SIZES
from vbon.analysis.verdicts import UNDECIDED, VERDICTS, Statistic
from vbon.errors import DataError

COLUMNS = ["claim", "source", "statistic", "value", "low", "high", "rule", "verdict", "note", "key"]

Tables = Mapping[str, pd.DataFrame]
"""Tables of a task by name, see :data:`SOURCES`."""

SOURCES = {
    "points": ("points.csv", "aggregate the runs"),
    "costs": ("costs.csv", "aggregate the runs"),
    "orderings": ("tables/orderings.csv", "it needs points of the task's runs"),
    "section6": ("tables/section6.csv", "it needs responses of the task's runs"),
    "table1": (
        "tables/table1.csv",
        f"it needs sampling.train_draws of {POOL + max(SIZES)} or more",
    ),
    **{
        study: (f"studies/{study}/points.csv", f"run the study {study}")
        for study in ("figure4", "identity", "invariance")
    },
}
"""Path of each table that claims rest on, and how to get it."""


class Missing(DataError):
    """A claim lacks its data; the message names them."""


class Finding(NamedTuple):
    """The statistics that a claim rests on."""

    statistics: Sequence[Statistic]
    sources: tuple[str, ...]
    """Names of the tables that hold them."""
    remark: str = ""
    """Anything else that bears on the claim."""

    @property
    def note(self) -> str:
        """Verdicts of several statistics, the other one of two in full, the remark, the sources."""
        parts = []
        if len(self.statistics) > 1:
            parts.append(tally(statistic.verdict for statistic in self.statistics))
        if len(self.statistics) == 2:
            decisive = binding(self.statistics)
            parts += [f"also {other}" for other in self.statistics if other is not decisive]
        paths = " and ".join(SOURCES[name][0] for name in self.sources)
        return "; ".join([*parts, *filter(None, [self.remark]), f"from {paths}"])


def binding(statistics: Sequence[Statistic]) -> Statistic:
    """The statistic that decides: the worst verdict, and among equals the closest to failing.

    Example:
        >>> from vbon.analysis.verdicts import Rule
        >>> sure = Statistic("a", 0.9, 0.8, 1.0, Rule(low=0))
        >>> near = Statistic("b", 0.2, 0.1, 0.3, Rule(low=0))
        >>> open_ = Statistic("c", 0.5, -0.5, 1.5, Rule(low=0))
        >>> [binding(several).statistic for several in ([sure, near], [sure, open_, near])]
        ['b', 'c']
    """
    return min(statistics, key=lambda statistic: statistic.rank)


def tally(verdicts: Iterable[str]) -> str:
    """Number of each verdict, best first.

    Example:
        >>> tally(["supported", "undecided", "supported"])
        '2 of 3 supported, 1 of 3 undecided'
    """
    counts = Counter(verdicts)
    return ", ".join(
        f"{counts[verdict]} of {counts.total()} {verdict}"
        for verdict in reversed(VERDICTS)
        if counts[verdict]
    )


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper and its test.

    Attributes:
        name: The sentence, short.
        source: Its place in the paper.
        test: Finds its statistics in a task's tables; the function's docstring is its definition.
    """

    name: str
    source: str
    test: Callable[[Tables], Finding]

    @property
    def key(self) -> str:
        """Identifier, which stays when the sentence is reworded."""
        return self.test.__name__

    @property
    def definition(self) -> str:
        """Statistic, interval and rule, in words."""
        return inspect.getdoc(self.test) or ""

    def row(self, tables: Tables) -> dict[str, Any]:
        """The claim's row, with columns :data:`COLUMNS`: its binding statistic, a note on the rest.

        A claim that lacks its data is undecided, and the note names what is missing.
        """
        row = {"claim": self.name, "source": self.source, "key": self.key}
        try:
            finding = self.test(tables)
        except Missing as error:
            return row | {"verdict": UNDECIDED, "note": str(error)}
        decisive = binding(finding.statistics)
        return decisive.row() | row | {"statistic": decisive.label, "note": finding.note}


def claim(name: str, source: str) -> Callable[[Callable[[Tables], Finding]], Claim]:
    """Make a claim of the function that tests it."""
    return lambda test: Claim(name, source, test)


def needed(tables: Tables, name: str) -> pd.DataFrame:
    """A table that a claim cannot do without.

    Raises:
        Missing: With its path and how to get it.
    """
    path, remedy = SOURCES[name]
    if name not in tables or tables[name].empty:
        raise Missing(f"{path} is missing: {remedy}")
    return tables[name]


def rows(tables: Tables, name: str, *keys: str) -> Finding:
    """Statistics of a table by key, each of which has to be there.

    Raises:
        Missing: If the table or a key is missing, or other code made the table.
    """
    table, path = needed(tables, name), SOURCES[name][0]
    verdicts = set(table["verdict"]) - set(VERDICTS)
    if verdicts:
        raise Missing(f"{path} has verdicts {sorted(verdicts)}: it is of other code, make it again")
    if "key" not in table:
        raise Missing(f"{path} has no column 'key': it is of other code, make it again")
    for key in keys:
        if key not in set(table["key"]):
            raise Missing(f"{path} has no row {key!r}: its methods or temperatures were not run")
    table = table[table["key"].isin(keys)].rename(columns={"axes": "metric"})
    notes = sorted(set(table.pop("note").dropna()) - {""}) if "note" in table else []
    statistics = [Statistic.of(row) for row in table.to_dict("records")]
    return Finding(statistics, (name,), "; ".join(notes))

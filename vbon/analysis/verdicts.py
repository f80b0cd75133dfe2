"""Statistics with intervals, the ranges in which claims put them, and three verdicts."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

SUPPORTED, NOT_SUPPORTED, UNDECIDED = "supported", "not supported", "undecided"
VERDICTS = (NOT_SUPPORTED, UNDECIDED, SUPPORTED)
"""From the worst to the best."""

METRICS = {
    "win_rate": "win rate",
    "reward_prob": "mean reward (probability)",
    "evaluator_win_rate": "evaluator win rate",
    "evaluator_reward": "evaluator reward",
    "kl": "KL",
}
"""Names of metrics as claims print them."""


class Rule(NamedTuple):
    """The open range in which a claim puts a statistic, or the one number that it gives.

    Attributes:
        low: Lower end of the range.
        high: Upper end; equal to ``low`` if the claim gives a number.
        text: The rule as tables print it, where it needs other words than its range.
    """

    low: float = -math.inf
    high: float = math.inf
    text: str = ""

    @classmethod
    def within(cls, margin: float, text: str = "") -> "Rule":
        """Less than a margin away from zero."""
        return cls(-margin, margin, text)

    def __str__(self) -> str:
        """The rule as tables print it.

        Example:
            >>> [str(Rule(low=0)), str(Rule(high=0.05)), str(Rule.within(0.02))]
            ['interval above 0', 'interval below 0.05', 'interval within ± 0.02']
            >>> str(Rule(0.8, 1.25))
            'interval between 0.8 and 1.25'
        """
        if self.text:
            return self.text
        if self.high == math.inf:
            return f"interval above {self.low:g}"
        if self.low == -math.inf:
            return f"interval below {self.high:g}"
        if self.low == -self.high:
            return f"interval within ± {self.high:g}"
        return f"interval between {self.low:g} and {self.high:g}"

    def read(self, low: float, high: float) -> str:
        """Verdict on an interval: supported inside the range, not supported beside it.

        A single number is supported by an interval that holds it.

        Example:
            >>> [Rule(low=0).read(*ends) for ends in ((0.1, 0.2), (-0.2, -0.1), (-0.1, 0.1))]
            ['supported', 'not supported', 'undecided']
            >>> [Rule(0.5, 0.5).read(*ends) for ends in ((0.4, 0.6), (0.6, 0.7))]
            ['supported', 'not supported']
        """
        if high < self.low or low > self.high:
            return NOT_SUPPORTED
        inside = low > self.low and high < self.high
        holds = low <= self.low == self.high <= high
        return SUPPORTED if inside or holds else UNDECIDED

    def room(self, value: float, low: float, high: float) -> float:
        """Distance of the value from the nearer end, in widths of its interval; negative outside.

        A value that is missing has no room at all.
        """
        if math.isnan(value):
            return -math.inf
        inside = min(value - self.low, self.high - value)
        width = high - low
        return inside / width if width else math.copysign(math.inf, inside)


@dataclass(frozen=True)
class Statistic:
    """A number that a claim rests on, its interval, and the verdict of a rule on it.

    Attributes:
        statistic: Description, with the unit where there is one.
        value: Estimate; NaN if there are no data.
        low: Lower end of its interval; NaN if there is none.
        high: Upper end.
        rule: Range in which the claim puts it.
        key: Identifier of the part of a table that it belongs to; tables are joined by it.
        metric: Name of the metric, where a table has several.
        temperature: Of sampling, where a table has several.
        verdict: By default that of the rule on the interval.
        note: Limits of the statistic.
    """

    statistic: str
    value: float
    low: float
    high: float
    rule: Rule
    key: str = ""
    metric: str = ""
    temperature: float = math.nan
    verdict: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        """Read the interval by the rule, unless a verdict is given."""
        if not self.verdict:
            object.__setattr__(self, "verdict", self.rule.read(self.low, self.high))

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Statistic":
        """The statistic of a table's row."""
        values = {field.name: row[field.name] for field in fields(cls) if field.name in row}
        return cls(**values | {"rule": Rule(row["rule_low"], row["rule_high"], row["rule"])})

    def row(self) -> dict[str, Any]:
        """All columns that a table may have of it."""
        rule = {"rule": str(self.rule), "rule_low": self.rule.low, "rule_high": self.rule.high}
        return vars(self) | rule

    @property
    def label(self) -> str:
        """Description with metric and temperature."""
        parts = [METRICS.get(self.metric, self.metric)] if self.metric else []
        parts += [] if math.isnan(self.temperature) else [f"at t = {self.temperature:g}"]
        return ": ".join([" ".join(parts), self.statistic]) if parts else self.statistic

    @property
    def rank(self) -> tuple[int, float]:
        """Sort key: the worst verdict first; among equals the least room."""
        return VERDICTS.index(self.verdict), self.rule.room(self.value, self.low, self.high)

    def __str__(self) -> str:
        """The statistic in a line."""
        if math.isnan(self.value):
            return f"{self.label} (no number) {self.verdict}"
        ends = "no interval" if math.isnan(self.low) else f"{self.low:.3g} to {self.high:.3g}"
        return f"{self.label} {self.value:.3g} ({ends}; {self.rule}) {self.verdict}"

"""How a statistic and its interval are read: the range that a claim gives, and three verdicts."""

import math
import re
from typing import NamedTuple

SUPPORTED, NOT_SUPPORTED, UNDECIDED = "supported", "not supported", "undecided"
VERDICTS = (NOT_SUPPORTED, UNDECIDED, SUPPORTED)
"""From the worst to the best."""

_NUMBER = r"(-?[\d.]+(?:e-?\d+)?)"


class Rule(NamedTuple):
    """The open range in which a claim puts a statistic."""

    low: float = -math.inf
    high: float = math.inf

    @classmethod
    def within(cls, margin: float) -> "Rule":
        """Less than a margin away from zero."""
        return cls(-margin, margin)

    @property
    def words(self) -> str:
        """The rule as tables print it.

        Example:
            >>> [Rule(low=0).words, Rule(high=0.05).words, Rule.within(0.02).words]
            ['interval above 0', 'interval below 0.05', 'interval within ± 0.02']
            >>> Rule(0.8, 1.25).words
            'interval between 0.8 and 1.25'
        """
        if self.high == math.inf:
            return f"interval above {self.low:g}"
        if self.low == -math.inf:
            return f"interval below {self.high:g}"
        if self.low == -self.high:
            return f"interval within ± {self.high:g}"
        return f"interval between {self.low:g} and {self.high:g}"

    @classmethod
    def parse(cls, words: str) -> "Rule":
        """The rule that words of a table give; a margin of an equivalence test is a range too.

        Raises:
            ValueError: If there is no rule in the words.

        Example:
            >>> Rule.parse("interval above -0.05") == Rule(low=-0.05)
            True
            >>> Rule.parse("two one-sided tests at 5 %, margin 0.02") == Rule.within(0.02)
            True
        """
        if found := re.search(rf"between {_NUMBER} and {_NUMBER}", words):
            return cls(float(found[1]), float(found[2]))
        if found := re.search(rf"(above|below|±|margin) {_NUMBER}", words):
            kind, edge = found[1], float(found[2])
            return {"above": cls(low=edge), "below": cls(high=edge)}.get(kind) or cls.within(edge)
        raise ValueError(f"{words!r} has no rule in it")

    def read(self, low: float, high: float) -> str:
        """Supported if the interval lies in the range, not supported if it lies beside it.

        Example:
            >>> [Rule(low=0).read(*ends) for ends in ((0.1, 0.2), (-0.2, -0.1), (-0.1, 0.1))]
            ['supported', 'not supported', 'undecided']
        """
        if low > self.low and high < self.high:
            return SUPPORTED
        return NOT_SUPPORTED if high < self.low or low > self.high else UNDECIDED

    def room(self, value: float, low: float, high: float) -> float:
        """How far inside the range the value is, in widths of its interval; negative outside."""
        inside = min(value - self.low, self.high - value)
        width = high - low
        return inside / width if width else math.copysign(math.inf, inside)

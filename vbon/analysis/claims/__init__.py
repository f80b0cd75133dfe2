"""The paper's claims (arXiv:2407.06057), each a rule with a statistic, an interval and a verdict.

A claim is one function whose docstring is its definition; ``docs/reference/claims.md`` is made of
them (:func:`vbon.analysis.claims.page.claims_page`). Tables are read, nothing is computed twice.
"""

from collections.abc import Iterable

import pandas as pd

from vbon.analysis.claims import cost, draws, invariance, summaries, tradeoff
from vbon.analysis.claims.base import COLUMNS, Claim, Tables

__all__ = ["CLAIMS", "COLUMNS", "Claim", "claims_table"]

CLAIMS: dict[str, tuple[Claim, ...]] = {
    module.__name__.rpartition(".")[2]: tuple(
        value for value in vars(module).values() if isinstance(value, Claim)
    )
    for module in (tradeoff, draws, cost, summaries, invariance)
}
"""Every claim by the module that defines it, in the order of the tables and the documentation."""


def claims_table(groups: Iterable[str], tables: Tables) -> pd.DataFrame:
    """Test every claim of some groups.

    Args:
        groups: Keys of :data:`CLAIMS`, those that are about the task.
        tables: The task's tables by name, as far as they exist
            (:data:`vbon.analysis.claims.base.SOURCES`).

    Returns:
        One row per claim, columns :data:`COLUMNS`: the statistic that decides with its 95 %
        interval (``rule`` says where it is another), the rule, the verdict (``supported``, ``not
        supported``, ``undecided``), a note on the other statistics, or on what is missing, and the
        claim's key.

    Example:
        >>> orderings = pd.DataFrame({
        ...     "key": "best_of_n_above_fine_tuned", "axes": ["win_rate", "reward_prob"],
        ...     "statistic": "smallest mean difference at matched KL", "value": [0.04, 0.01],
        ...     "low": [0.02, -0.01], "high": [0.06, 0.03], "rule": "interval above 0",
        ...     "rule_low": 0.0, "rule_high": float("inf"), "verdict": ["supported", "undecided"],
        ...     "note": ""})
        >>> table = claims_table(["tradeoff"], {"orderings": orderings}).set_index("key")
        >>> table.loc["best_of_n_is_on_top", "verdict"]
        'undecided'
    """
    claims = [claim for group in groups for claim in CLAIMS[group]]
    return pd.DataFrame([claim.row(tables) for claim in claims], columns=COLUMNS)

"""The paper's claims (arXiv:2407.06057), each a rule with a statistic, an interval and a verdict.

A claim is one function whose docstring is its definition; ``docs/reference/claims.md`` is made of
them (:func:`vbon.analysis.claims.page.claims_page`). Tables are read, nothing is computed twice.
"""

import pandas as pd

from vbon.analysis.claims import cost, draws, invariance, summaries, tradeoff
from vbon.analysis.claims.base import COLUMNS, Claim, Tables

__all__ = ["CLAIMS", "COLUMNS", "Claim", "claims_of", "claims_table"]

CLAIMS: tuple[Claim, ...] = (
    tradeoff.best_of_n_is_on_top,
    tradeoff.vbon_is_closest,
    tradeoff.vbon_has_the_largest_share,
    tradeoff.dpo_wins_more,
    tradeoff.dpo_has_less_reward,
    tradeoff.bon_sft_is_worst,
    tradeoff.exact_equals_bound,
    draws.nested_samples_pass,
    draws.log_f_settles,
    draws.few_draws_are_competitive,
    cost.training_takes_as_long,
    cost.the_pool_included,
    summaries.best_of_n_is_best,
    summaries.vbon_is_above_ppo,
    summaries.vbon_equals_ppo,
    summaries.offline_methods_keep_up_at_first,
    summaries.domains_agree,
    invariance.ranks_alone_count,
)
"""Every claim, in the order of the tables and of the documentation."""


def claims_of(task: str) -> list[Claim]:
    """The claims that a task can say something about."""
    return [claim for claim in CLAIMS if task in claim.tasks]


def claims_table(task: str, tables: Tables) -> pd.DataFrame:
    """Test every claim that is about a task.

    Args:
        task: Name of the task.
        tables: Its tables by name, as far as they were made.

    Returns:
        One row a claim, columns :data:`COLUMNS`: the statistic that decides with its 95 % interval
        (``rule`` says where it is another), the rule, the verdict (``supported``, ``not
        supported``, ``undecided``), and a note on the other statistics, or on what is missing.

    Example:
        >>> orderings = pd.DataFrame({
        ...     "claim": ["BoN > all fine-tuned"] * 2, "axes": ["win_rate", "reward_prob"],
        ...     "statistic": "smallest mean difference at matched KL", "value": [0.04, 0.01],
        ...     "low": [0.02, -0.01], "high": [0.06, 0.03], "rule": "interval above 0",
        ...     "verdict": ["supported", "undecided"], "note": ""})
        >>> table = claims_table("sentiment", {"orderings": orderings}).set_index("claim")
        >>> table.loc["BoN is on top", "verdict"]
        'undecided'
    """
    return pd.DataFrame([claim.row(tables) for claim in claims_of(task)], columns=COLUMNS)

"""Claims of section 6 (figure 5): what ``section6.csv`` found at each temperature.

That table holds the responses of all policies against each other, with intervals from resampled
test prompts (:mod:`vbon.analysis.temperatures`); a claim here takes its rows together.
"""

from collections import Counter

import pandas as pd

from vbon.analysis.claims.base import Finding, Missing, Part, Tables, claim, needed
from vbon.analysis.verdicts import VERDICTS

TABLE = "tables/section6.csv"
_METRICS = {"evaluator_win_rate": "evaluator win rate", "evaluator_reward": "evaluator reward"}
_SHOWN, _EQUAL = "the paper's settings", "equal coefficient"


@claim("BoN is best at all temperatures", "section 6, figure 5a", "summarization")
def best_of_n_is_best(tables: Tables) -> Finding:
    """Best-of-n has the best summaries at every temperature.

    Statistic: BoN minus the best other policy, in evaluator win rate against the reference and in
    mean evaluator reward. Interval: 95 %, over resampled test prompts. Rule: above 0 at every
    temperature.
    """
    return _rows(tables, "BoN is best")


@claim("vBoN is above PPO at t ≤ 0.5", "section 6, figure 5a", "summarization")
def vbon_is_above_ppo(tables: Tables) -> Finding:
    """Summaries by vBoN are better than those by PPO at low temperatures.

    Statistic: vBoN minus PPO at the settings that the paper shows (its largest n and kl_coef), in
    evaluator win rate and reward. Interval: 95 %, over resampled test prompts. Rule: above 0 at
    every temperature up to 0.5. The paper calls n = 100 and a coefficient of 0.05 equivalent, but
    n = 1 + 1 / 0.05 = 21; the note counts the comparisons at equal coefficients.
    """
    found = _rows(tables, f"vBoN above PPO ({_SHOWN})")
    return found._replace(remark=_equal(tables, f"vBoN above PPO ({_EQUAL})"))


@claim("vBoN equals PPO at t ≥ 0.75", "section 6, figure 5a", "summarization")
def vbon_equals_ppo(tables: Tables) -> Finding:
    """Summaries by vBoN and PPO are alike at high temperatures.

    Statistic: as for low temperatures. Interval: 95 %, over resampled test prompts. Rule: within
    0.05 in evaluator win rate and 0.25 in evaluator reward at every temperature above 0.5.
    """
    found = _rows(tables, f"vBoN equal to PPO ({_SHOWN})")
    return found._replace(remark=_equal(tables, f"vBoN equal to PPO ({_EQUAL})"))


@claim("DPO and BoNBoN are competitive only at t ≤ 0.5", "section 6, figure 5a", "summarization")
def offline_methods_keep_up_at_first(tables: Tables) -> Finding:
    """DPO and BoNBoN keep up with PPO and vBoN at low temperatures and fall behind at high ones.

    Statistic: the mean of DPO and BoNBoN minus the mean of PPO and vBoN, in evaluator win rate and
    reward. Interval: 95 %, over resampled test prompts. Rule: above -0.05 (win rate) and -0.25
    (reward) up to a temperature of 0.5, below 0 beyond it.
    """
    return _rows(tables, "DPO and BoNBoN competitive", "DPO and BoNBoN not competitive")


@claim("no gap between domains except at t = 1", "section 6, figure 5b", "summarization")
def domains_agree(tables: Tables) -> Finding:
    """Policies do as well on posts of other domains as on those of training, except at t = 1.

    Statistic: evaluator win rate in the domains of training minus that in others, mean over
    policies. Interval: 95 %, over resampled test prompts. Rule: within 0.05 below a temperature of
    1, above 0 at 1.
    """
    return _rows(tables, "no gap between domains", "a gap between domains")


def _rows(tables: Tables, *names: str) -> Finding:
    """The rows of some claims of the table, each of which has to be there."""
    table = needed(tables, "section6", TABLE, "it needs responses of the task's runs")
    for name in names:
        if name not in set(table["claim"]):
            raise Missing(f"{TABLE} has no row {name!r}: its methods or temperatures were not run")
    rows = table[table["claim"].isin(names)]
    return Finding([_part(row) for _, row in rows.iterrows()], TABLE)


def _part(row: pd.Series) -> Part:
    metric = _METRICS[row["metric"]]
    statistic = f"{metric} at t = {row['temperature']:g}: {row['statistic']}"
    numbers = (float(row[name]) for name in ("value", "low", "high"))
    return Part(statistic, *numbers, row["rule"], row["verdict"])


def _equal(tables: Tables, name: str) -> str:
    """How the comparisons at equal coefficients read."""
    table = tables["section6"]
    found = Counter(table.loc[table["claim"] == name, "verdict"])
    told = [f"{found[verdict]} of {found.total()} {verdict}" for verdict in VERDICTS[::-1]]
    shown = ", ".join(text for text in told if not text.startswith("0 "))
    return f"at equal coefficients {shown}" if shown else ""

"""Claims of section 6 (figure 5), from the rows of ``section6.csv``.

That table compares the responses of all policies, with intervals from resampled test prompts
(:mod:`vbon.analysis.temperatures`); a claim takes its rows at all temperatures together.
"""

from vbon.analysis.claims.base import Finding, Tables, claim, rows, tally


@claim("BoN is best at all temperatures", "section 6, figure 5a")
def best_of_n_is_best(tables: Tables) -> Finding:
    """Best-of-n has the best summaries at every temperature.

    Statistic: BoN minus the best other policy, in evaluator win rate against the reference and in
    mean evaluator reward. Interval: 95 %, over resampled test prompts. Rule: above 0 at every
    temperature.
    """
    return rows(tables, "section6", "best_of_n_best")


@claim("vBoN is above PPO at t ≤ 0.5", "section 6, figure 5a")
def vbon_is_above_ppo(tables: Tables) -> Finding:
    """Summaries by vBoN are better than those by PPO at low temperatures.

    Statistic: vBoN minus PPO at the settings that the paper shows (its largest n and kl_coef), in
    evaluator win rate and reward. Interval: 95 %, over resampled test prompts. Rule: above 0 at
    every temperature up to 0.5. The paper calls n = 100 and a coefficient of 0.05 equivalent, but
    n = 1 + 1 / 0.05 = 21; the note counts the comparisons at equal coefficients.
    """
    finding = rows(tables, "section6", "vbon_above_ppo")
    return finding._replace(remark=_equal(tables, "vbon_above_ppo_equal_coefficient"))


@claim("vBoN equals PPO at t ≥ 0.75", "section 6, figure 5a")
def vbon_equals_ppo(tables: Tables) -> Finding:
    """Summaries by vBoN and PPO are alike at high temperatures.

    Statistic: as for low temperatures. Interval: 95 %, over resampled test prompts. Rule: within
    0.05 in evaluator win rate and 0.25 in evaluator reward at every temperature above 0.5.
    """
    finding = rows(tables, "section6", "vbon_equals_ppo")
    return finding._replace(remark=_equal(tables, "vbon_equals_ppo_equal_coefficient"))


@claim("DPO and BoNBoN are competitive only at t ≤ 0.5", "section 6, figure 5a")
def offline_methods_keep_up_at_first(tables: Tables) -> Finding:
    """DPO and BoNBoN keep up with PPO and vBoN at low temperatures and fall behind at high ones.

    Statistic: the mean of DPO and BoNBoN minus the mean of PPO and vBoN, in evaluator win rate and
    reward. Interval: 95 %, over resampled test prompts. Rule: above -0.05 (win rate) and -0.25
    (reward) up to a temperature of 0.5, below 0 beyond it.
    """
    return rows(tables, "section6", "offline_competitive", "offline_not_competitive")


@claim("no gap between domains except at t = 1", "section 6, figure 5b")
def domains_agree(tables: Tables) -> Finding:
    """Policies do as well on posts of other domains as on those of training, except at t = 1.

    Statistic: evaluator win rate in the domains of training minus that in others, mean over
    policies. Interval: 95 %, over resampled test prompts. Rule: within 0.05 below a temperature of
    1, above 0 at 1.
    """
    return rows(tables, "section6", "domains_equal", "domains_differ")


def _equal(tables: Tables, key: str) -> str:
    """Verdicts of the comparisons at equal coefficients."""
    table = tables["section6"]
    counts = tally(table.loc[table["key"] == key, "verdict"])
    return f"at equal coefficients {counts}" if counts else ""

"""Claims of section 6 (figure 5), from the rows of ``section6.csv``.

That table compares the responses of all policies, with intervals from resampled test prompts and
training seeds (:mod:`vbon.analysis.temperatures`); a claim takes its rows at all temperatures
together. The paper shows one setting of each method, its largest n or kl_coef; a note names runs at
other settings that contradict the claim.
"""

from vbon.analysis.claims.base import Finding, Tables, claim, rows, tally
from vbon.analysis.verdicts import METRICS


@claim("BoN is best at all temperatures", "section 6, figure 5a")
def best_of_n_is_best(tables: Tables) -> Finding:
    """Best-of-n has the best summaries at every temperature.

    Statistic: BoN at its largest n minus the best of all settings of all other methods, in
    evaluator win rate against the reference and in mean evaluator reward. One half of the test
    prompts selects the best setting and the other half measures it, in both directions, averaged
    over random halvings. Interval: 95 %, over resampled test prompts and training seeds. Rule:
    above 0 at every temperature. The note gives the verdict at the paper's settings alone, and the
    settings above BoN.
    """
    finding = rows(tables, "section6", "best_of_n_best")
    paper = _counted(tables, "best_of_n_best_paper", "at the paper's settings")
    against = _contradicting(tables, "best_of_n_above_setting")
    return finding._replace(remark="; ".join(filter(None, [paper, against])))


@claim("vBoN is above PPO at t ≤ 0.5", "section 6, figure 5a")
def vbon_is_above_ppo(tables: Tables) -> Finding:
    """Summaries by vBoN are better than those by PPO at low temperatures.

    Statistic: vBoN minus PPO at the settings that the paper shows (its largest n and kl_coef), in
    evaluator win rate and reward. Interval: 95 %, over resampled test prompts and training seeds.
    Rule: above 0 at every temperature up to 0.5. The paper calls n = 100 and a coefficient of 0.05
    equivalent, but n = 1 + 1 / 0.05 = 21; the note counts the comparisons at equal coefficients,
    and names those that contradict the claim.
    """
    finding = rows(tables, "section6", "vbon_above_ppo")
    return finding._replace(remark=_equal(tables, "vbon_above_ppo_equal_coefficient"))


@claim("vBoN equals PPO at t ≥ 0.75", "section 6, figure 5a")
def vbon_equals_ppo(tables: Tables) -> Finding:
    """Summaries by vBoN and PPO are alike at high temperatures.

    Statistic: as for low temperatures. Interval: 95 %, over resampled test prompts and training
    seeds. Rule: within 0.05 in evaluator win rate and 0.25 in evaluator reward at every temperature
    above 0.5.
    """
    finding = rows(tables, "section6", "vbon_equals_ppo")
    return finding._replace(remark=_equal(tables, "vbon_equals_ppo_equal_coefficient"))


@claim("vBoN scores as PPO does with less KL", "not in the paper; section 6 at equal coefficients")
def vbon_needs_less_kl(tables: Tables) -> Finding:
    """VBoN reaches the evaluator's score of PPO at a smaller KL from the reference.

    Statistics: at every temperature, the evaluator win rate and reward of vBoN minus those of PPO,
    and vBoN's KL over PPO's; PPO at its largest kl_coef, vBoN at n = 1 + 1 / kl_coef. Interval: 95
    %, over resampled test prompts and training seeds. Rule: the differences above -0.05 and -0.25,
    the ratio below 1. Equal coefficients do not make objectives equally strong: the scores that PPO
    maximises and log F have other spreads.
    """
    finding = rows(tables, "section6", "vbon_as_good_as_ppo", "vbon_less_kl_than_ppo")
    ratios = [s for s in finding.statistics if s.key == "vbon_less_kl_than_ppo"]
    text = ", ".join(f"{ratio.value:.2f} at t = {ratio.temperature:g}" for ratio in ratios)
    return finding._replace(remark=f"{ratios[0].statistic}: {text}")


@claim("DPO and BoNBoN are competitive only at t ≤ 0.5", "section 6, figure 5a")
def offline_methods_keep_up_at_first(tables: Tables) -> Finding:
    """DPO and BoNBoN keep up with PPO and vBoN at low temperatures and fall behind at high ones.

    Statistic: the mean of DPO and BoNBoN minus the mean of PPO and vBoN, in evaluator win rate and
    reward. Interval: 95 %, over resampled test prompts and training seeds. Rule: above -0.05 (win
    rate) and -0.25 (reward) up to a temperature of 0.5, below 0 beyond it.
    """
    return rows(tables, "section6", "offline_competitive", "offline_not_competitive")


@claim("no gap between domains except at t = 1", "section 6, figure 5b")
def domains_agree(tables: Tables) -> Finding:
    """Policies do as well on posts of other domains as on those of training, except at t = 1.

    Statistic: evaluator win rate in the domains of training minus that in others, mean over
    policies. Interval: 95 %, over resampled test prompts and training seeds. Rule: within 0.05
    below a temperature of 1, above 0 at 1.
    """
    return rows(tables, "section6", "domains_equal", "domains_differ")


def _equal(tables: Tables, key: str) -> str:
    """Verdicts of the comparisons at equal coefficients, and those that contradict the claim."""
    parts = [_counted(tables, key, "at equal coefficients"), _contradicting(tables, key)]
    return "; ".join(filter(None, parts))


def _counted(tables: Tables, key: str, where: str) -> str:
    """Verdicts of the rows of a key."""
    table = tables["section6"]
    counts = tally(table.loc[table["key"] == key, "verdict"])
    return f"{where} {counts}" if counts else ""


def _contradicting(tables: Tables, key: str) -> str:
    """Rows of a key whose value is outside the range that their rule names."""
    table = tables["section6"]
    outside = ~table["value"].between(table["rule_low"], table["rule_high"])
    parts = []
    named = table[(table["key"] == key) & outside].groupby(["metric", "statistic"], sort=False)
    for (metric, statistic), group in named:
        numbers = zip(group["value"], group["temperature"], strict=True)
        places = ", ".join(f"{value:.3f} at t = {t:g}" for value, t in numbers)
        parts.append(f"{METRICS[metric]}: {statistic} is {places}")
    return "; ".join(parts)

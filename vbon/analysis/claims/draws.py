"""Claims about the draws that log F is estimated from (section 5, table 1, figure 4)."""

import math

import numpy as np
import pandas as pd
import scipy.stats

from vbon.analysis.claims.base import SOURCES, Finding, Missing, Tables, claim, needed
from vbon.analysis.draws import LEVEL
from vbon.analysis.equivalence import MARGIN
from vbon.analysis.verdicts import Rule, Statistic
from vbon.statistics import two_one_sided

SETTLED, FEW = 200, 32
"""Draws per prompt at which the paper says that F has settled, and that are competitive."""
N = 10
"""The n whose responses have a mean F of n / (n + 1), about the 0.9 at which table 1 has the error;
figure 4 trains at it."""
LOST = 0.05
"""Largest KL, in nats, that the error in log F may put between the optimum aimed at and the exact
one; to second order it is half the variance of (n - 1) log F."""

LIMIT = math.sqrt(2 * LOST)
"""The error of (n - 1) log F, in nats, at which that much is lost."""


@claim("samples of M = 200 pass the nested test", "section 5.1, table 1")
def nested_samples_pass(tables: Tables) -> Finding:
    """A two-sample Kolmogorov-Smirnov test does not distinguish 200 draws from all 600.

    Statistic: the share of prompts at which the test rejects at 5 %; this is the paper's evidence
    that F settles by M = 200. Interval: 95 %, exact binomial (Clopper and Pearson). Rule: below
    0.05, the level of the test. It shows nothing about F: nested samples of any distribution are
    rejected in 0.1 % of cases at M = 200, and in fewer than 5 % at every M.
    """
    nested = _table1(tables).loc["nested"]
    prompts, rate = int(nested["prompts"]), float(nested["rejection_rate"])
    test = scipy.stats.binomtest(round(rate * prompts), prompts)
    ends = map(float, test.proportion_ci(0.95, method="exact"))
    text = f"share of {prompts} prompts at which M = {SETTLED} is rejected"
    share = Statistic(text, rate, *ends, Rule(high=LEVEL))
    return Finding([share], ("table1",), "the rates of nested samples are the same for any F")


@claim("log F settles by M = 200", "section 5.1, table 1")
def log_f_settles(tables: Tables) -> Finding:
    """An estimate of log F from 200 draws of a prompt is close to what it aims at.

    Statistic: root mean squared error of (n - 1) log F, vBoN's reward, at n = 10, in nats, over
    prompts, from 200 draws where 600 other draws have F = 0.9, which is about the mean F of
    best-of-10. Interval: 95 %, chi-square, the prompts' errors taken as normal. Rule: below 0.316,
    the error e at which e² / 2, to second order the KL between the optimum that the estimate has
    and the exact one, is 0.05 nats. The note gives the n up to which the error of log F stays below
    that; the larger n, the more draws it takes.
    """
    independent = _table1(tables).loc["independent"]
    error, prompts = float(independent["rmse_90"]), int(independent["prompts"])
    ends = map(float, error * np.sqrt(prompts / scipy.stats.chi2.ppf([0.975, 0.025], prompts)))
    largest = math.floor(1 + LIMIT / error) if error else math.inf
    remark = f"error of log F {error:.3f} nats; below the limit up to n = {largest}"
    text = f"error of (n - 1) log F (nats), n = {N}, M = {SETTLED}, F = 0.9, {prompts} prompts"
    scaled = ((N - 1) * number for number in (error, *ends))
    return Finding([Statistic(text, *scaled, Rule(high=round(LIMIT, 3)))], ("table1",), remark)


def _table1(tables: Tables) -> pd.DataFrame:
    """The rows of table 1 at that M, by variant."""
    table = needed(tables, "table1")
    return table[table["m"] == SETTLED].set_index("variant")


@claim("M = 32 is competitive", "section 5.2, figure 4")
def few_draws_are_competitive(tables: Tables) -> Finding:
    """32 draws per prompt for log F end at the win rate that the largest M ends at.

    Statistic: win rate of vBoN (n = 10) with M = 32 minus that with the largest M of the study
    ``figure4``, paired by training seed. Interval: 90 %, Student's t over seeds. Rule: within
    0.02, that is, two one-sided tests at 5 %.
    """
    points, path = needed(tables, "figure4"), SOURCES["figure4"][0]
    by_seed = points[points["status"] == "ok"].pivot_table("win_rate", "seed", "m")
    sizes = [f"{m:g}" for m in by_seed.columns]
    if FEW not in by_seed or by_seed.columns[-1] <= FEW:
        raise Missing(f"{path} has M = {', '.join(sizes)}: it needs {FEW} and a larger one")
    gaps = (by_seed[FEW] - by_seed[by_seed.columns[-1]]).dropna()
    if len(gaps) < 2:
        raise Missing(f"{path} has {len(gaps)} seed with both M: a spread needs two")
    test = two_one_sided(gaps.mean(), gaps.sem(), len(gaps) - 1, MARGIN)
    text = f"win rate with M = {FEW} minus that with M = {sizes[-1]}, {len(gaps)} seeds"
    rule = Rule.within(MARGIN, f"two one-sided tests at 5 %: 90 % {Rule.within(MARGIN)}")
    return Finding([Statistic(text, gaps.mean(), test.low, test.high, rule)], ("figure4",))

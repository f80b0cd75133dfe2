"""Claims about reward, win rate and KL (figures 2, 6 and 7): what ``orderings.csv`` found.

That table tests each ordering with intervals from resampled sweeps
(:mod:`vbon.analysis.orderings`); a claim here takes its rows together.
"""

import pandas as pd

from vbon.analysis.claims.base import Finding, Missing, Part, Tables, claim, needed

TABLE = "tables/orderings.csv"
_AXES = {"win_rate": "win rate", "reward_prob": "mean reward (probability)"}


@claim("BoN is on top", "figure 2", "sentiment")
def best_of_n_is_on_top(tables: Tables) -> Finding:
    """Best-of-n is above every fine-tuned method at equal KL, in win rate and in mean reward.

    Statistic: what BoN attains with a KL of at most k minus what another method does, averaged over
    the k that both cover; the smallest of these differences over PPO, DPO, BoNBoN, vBoN, its bound
    L and BoN-SFT. Interval: 95 %, over resampled runs. Rule: above 0 in win rate and in mean reward
    (probability of the positive class).
    """
    return _ordering(tables, "BoN > all fine-tuned")


@claim("vBoN is closest to BoN", "figure 2", "sentiment")
def vbon_is_closest(tables: Tables) -> Finding:
    """Among fine-tuned methods vBoN's curve lies closest to best-of-n's.

    Statistic: a rival's mean distance to BoN's curve minus vBoN's, over the KLs that all three
    cover; the smallest over PPO, DPO and BoNBoN (the bound L is vBoN itself). Interval: 95 %, over
    resampled runs. Rule: above 0 in win rate and in mean reward.
    """
    return _ordering(tables, "vBoN closest to BoN")


@claim("vBoN has the largest share of the front", "figure 7", "sentiment")
def vbon_has_the_largest_share(tables: Tables) -> Finding:
    """On the Pareto front of PPO, DPO, BoNBoN and vBoN no method has as many runs as vBoN.

    Statistic: vBoN's share minus the largest other share. Interval: 95 %, over resampled runs.
    Rule: above 0 in win rate and in mean reward. A share grows with the number of a method's runs.
    """
    return _ordering(tables, "vBoN has the largest share")


@claim("DPO is above PPO in win rate", "figure 2", "sentiment")
def dpo_wins_more(tables: Tables) -> Finding:
    """DPO wins more often than PPO at equal KL.

    Statistics: DPO minus PPO at matched KL, and in the area that each method's settings dominate,
    per nat of KL. Interval: 95 %, over resampled runs. Rule: both above 0.
    """
    return _ordering(tables, "DPO better than PPO in win rate")


@claim("DPO is below PPO in mean reward", "figure 2", "sentiment")
def dpo_has_less_reward(tables: Tables) -> Finding:
    """DPO's mean reward is below PPO's at equal KL.

    Statistics: PPO minus DPO at matched KL, and in the area that each method's settings dominate,
    per nat of KL. Interval: 95 %, over resampled runs. Rule: both above 0.
    """
    return _ordering(tables, "DPO worse than PPO in mean reward")


@claim("BoN-SFT has the worst trade-off", "figure 7", "sentiment")
def bon_sft_is_worst(tables: Tables) -> Finding:
    """Every other fine-tuned method is above BoN-SFT.

    Statistics: a method minus BoN-SFT, the smallest over PPO, DPO, BoNBoN and vBoN, at matched KL
    and in dominated area per nat, in win rate and in mean reward. Interval: 95 %, over
    resampled runs. Rule: all four above 0.
    """
    return _ordering(tables, "BoN-SFT has the worst trade-off")


@claim("exact vBoN equals its bound L", "figure 6", "sentiment")
def exact_equals_bound(tables: Tables) -> Finding:
    """Training on the exact reward or on the bound L gives the same win rate.

    Statistics: vBoN minus L in win rate, at matched KL, and at equal n and seed (the study
    ``equivalence``; two one-sided tests at 5 % over seeds). Interval: 95 %. Rule:
    within a margin of 0.02.
    """
    return _ordering(tables, "exact vBoN = L bound")


def _ordering(tables: Tables, name: str) -> Finding:
    """The rows of one ordering."""
    remedy = "it needs points of the task's runs"
    table = needed(tables, "orderings", TABLE, remedy)
    rows = table[table["claim"] == name]
    if rows.empty:
        raise Missing(f"{TABLE} has no row {name!r}: it is of other code, make it again")
    lack = sorted({note for note in rows["note"].dropna() if note})
    return Finding([_part(row) for _, row in rows.iterrows()], TABLE, "; ".join(lack))


def _part(row: pd.Series) -> Part:
    axis = _AXES.get(row["axes"], row["axes"])
    rule = row["rule"] if isinstance(row["rule"], str) else ""
    numbers = (float(row[name]) for name in ("value", "low", "high"))
    return Part(f"{axis}: {row['statistic']}", *numbers, rule, row["verdict"])

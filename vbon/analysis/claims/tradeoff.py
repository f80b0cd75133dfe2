"""Claims about reward, win rate and KL (figures 2, 6 and 7), from the rows of ``orderings.csv``.

That table tests each ordering with intervals from resampled sweeps
(:mod:`vbon.analysis.orderings`); a claim takes the rows of one ordering together.
"""

from vbon.analysis.claims.base import Finding, Tables, claim, rows


@claim("BoN is on top", "figure 2")
def best_of_n_is_on_top(tables: Tables) -> Finding:
    """Best-of-n is above every fine-tuned method at equal KL, in win rate and in mean reward.

    Statistic: what BoN attains with a KL of at most k minus what another method does, averaged over
    the k that both cover; the smallest of these differences over PPO, DPO, BoNBoN, vBoN, its bound
    L, BoN-SFT and methods that are not the paper's. Interval: 95 %, over resampled
    seeds and prompts. Rule: above 0 in win rate and in mean reward (probability of the positive
    class).
    """
    return rows(tables, "orderings", "best_of_n_above_fine_tuned")


@claim("vBoN is closest to BoN", "figure 2")
def vbon_is_closest(tables: Tables) -> Finding:
    """Among fine-tuned methods vBoN's curve lies closest to best-of-n's.

    Statistic: a rival's mean distance to BoN's curve minus vBoN's, over the KLs that all three
    cover; the smallest over PPO, DPO and BoNBoN (the bound L is vBoN itself). Interval: 95 %, over
    resampled seeds and prompts. Rule: above 0 in win rate, which BoN maximises.
    """
    return rows(tables, "orderings", "vbon_closest_to_best_of_n")


@claim("vBoN has the largest share of the front", "figure 7")
def vbon_has_the_largest_share(tables: Tables) -> Finding:
    """On the Pareto front of PPO, DPO, BoNBoN and vBoN no method has as many runs as vBoN.

    Statistic: vBoN's share minus the largest other share. Interval: 95 %, over resampled runs and
    prompts. Rule: above 0 in win rate and in mean reward. A share grows with the number of a
    method's runs.
    """
    return rows(tables, "orderings", "vbon_largest_share")


@claim("DPO is above PPO in win rate", "figure 2")
def dpo_wins_more(tables: Tables) -> Finding:
    """DPO wins more often than PPO at equal KL.

    Statistics: DPO minus PPO at matched KL, and in the area that each method's settings dominate,
    per nat of KL. Interval: 95 %, over resampled seeds and prompts. Rule: both above 0.
    """
    return rows(tables, "orderings", "dpo_above_ppo")


@claim("DPO is below PPO in mean reward", "figure 2")
def dpo_has_less_reward(tables: Tables) -> Finding:
    """DPO's mean reward is below PPO's at equal KL.

    Statistics: PPO minus DPO at matched KL, and in the area that each method's settings dominate,
    per nat of KL. Interval: 95 %, over resampled seeds and prompts. Rule: both above 0.
    """
    return rows(tables, "orderings", "dpo_below_ppo")


@claim("BoN-SFT has the worst trade-off", "figure 7")
def bon_sft_is_worst(tables: Tables) -> Finding:
    """Every other fine-tuned method is above BoN-SFT.

    Statistics: a method minus BoN-SFT, the smallest over PPO, DPO, BoNBoN, vBoN and methods that
    are not the paper's, at matched KL and in dominated area per nat, in win rate and in mean
    reward. Interval: 95 %, over resampled seeds and prompts. Rule: all four above 0.
    """
    return rows(tables, "orderings", "bon_sft_worst")


@claim("exact vBoN equals its bound L", "figure 6")
def exact_equals_bound(tables: Tables) -> Finding:
    """Training on the exact reward or on the bound L gives the same win rate.

    Statistics: vBoN minus L in win rate, at matched KL, and at equal n and seed (the study
    ``equivalence``; two one-sided tests at 5 % over seeds). Interval: 95 %. Rule:
    within a margin of 0.02.
    """
    return rows(tables, "orderings", "exact_equals_bound")

"""The claim that methods of ranks do not see monotone maps of the reward."""

import numpy as np
import pandas as pd

from vbon.analysis.claims.base import SOURCES, Finding, Missing, Tables, binding, claim, needed
from vbon.analysis.verdicts import SUPPORTED, Rule, Statistic

RANK_BASED = ("best_of_n", "bon_sft", "bonbon", "vbon")
CONTROL = "ppo"
TOLERANCE = 1e-9
"""Largest difference that counts as rounding."""
_KEYS = ["method", "setting", "seed"]
_NUMBERS = {"win_rate": "win rate", "kl": "KL"}


@claim("rank-based methods are invariant to monotone rewards", "section 3")
def ranks_alone_count(tables: Tables) -> Finding:
    """BoN, BoN-SFT, BoNBoN and vBoN depend on the order of rewards alone; PPO does not.

    Statistic: the largest difference, over runs of these methods, between the studies
    ``invariance`` (trained and measured on exp(r)) and ``identity`` (on r), same prompts, draws and
    seeds; in win rate and in KL (nats). Interval: none, as nothing is sampled again. Rule: below
    1e-9. Control: PPO's win rate or KL differs by more than its standard error; if it does not,
    the test is void and the claim undecided.
    """
    studies = ("identity", "invariance")
    pairs = pd.merge(
        *(needed(tables, name) for name in studies), on=_KEYS, suffixes=("", "_mapped")
    )
    pairs = pairs[(pairs["status"] == "ok") & (pairs["status_mapped"] == "ok")]
    absent = {*RANK_BASED, CONTROL} - set(pairs["method"])
    if absent:
        paths = " and ".join(SOURCES[name][0] for name in studies)
        raise Missing(f"{paths} have no runs of {', '.join(sorted(absent))}")
    ranked = pairs[pairs["method"].isin(RANK_BASED)]
    statistics = []
    for name, words in _NUMBERS.items():
        gap = float((ranked[f"{name}_mapped"] - ranked[name]).abs().max())
        text = f"largest difference of {words}, {len(ranked)} pairs of runs"
        statistics.append(Statistic(text, gap, gap, gap, Rule(high=TOLERANCE)))
    control, moved = _control(pairs[pairs["method"] == CONTROL])
    if not moved and binding(statistics).verdict == SUPPORTED:
        raise Missing(f"the control is void: {control}; give the studies more updates")
    return Finding(statistics, studies, control)


def _control(pairs: pd.DataFrame) -> tuple[str, bool]:
    """Changes of a method of rewards, in words, and whether they are more than noise."""
    changes, moved = [], False
    for name, words in _NUMBERS.items():
        gaps = (pairs[f"{name}_mapped"] - pairs[name]).abs()
        errors = np.hypot(pairs[f"{name}_se"], pairs[f"{name}_se_mapped"])
        largest = gaps.idxmax()
        moved |= bool((gaps > errors).any())
        changes.append(f"{words} by {gaps[largest]:.3g} (se {errors[largest]:.2g})")
    return f"PPO changes its {' and its '.join(changes)}", moved

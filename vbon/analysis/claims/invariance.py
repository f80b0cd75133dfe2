"""The claim that methods of ranks do not see monotone maps of the reward."""

import numpy as np
import pandas as pd

from vbon.analysis.claims.base import Finding, Missing, Part, Tables, binding, claim, needed
from vbon.analysis.verdicts import SUPPORTED, Rule

RANK_BASED = ("best_of_n", "bon_sft", "bonbon", "vbon")
CONTROL = "ppo"
TOLERANCE = 1e-9
"""Largest difference that counts as rounding."""
_KEYS = ["method", "setting", "seed"]
_NUMBERS = {"win_rate": "win rate", "kl": "KL"}


@claim("rank-based methods are invariant to monotone rewards", "section 3", "enumerable")
def ranks_alone_count(tables: Tables) -> Finding:
    """BoN, BoN-SFT, BoNBoN and vBoN depend on the order of rewards alone; PPO does not.

    Statistic: the largest difference, over runs of these methods, between the studies
    ``invariance`` (trained and measured on exp(r)) and ``identity`` (on r), same prompts, draws and
    seeds; in win rate and in KL (nats). Interval: none, as nothing is sampled anew. Rule: below
    1e-9. Control: PPO's win rate or KL differs by more than its standard error; if it does not,
    the test is void and the claim undecided.
    """
    paths = {name: f"studies/{name}/points.csv" for name in ("identity", "invariance")}
    both = [needed(tables, name, path, f"run the study {name}") for name, path in paths.items()]
    pairs = both[0].merge(both[1], on=_KEYS, suffixes=("", "_mapped"))
    pairs = pairs[(pairs["status"] == "ok") & (pairs["status_mapped"] == "ok")]
    absent = {*RANK_BASED, CONTROL} - set(pairs["method"])
    if absent:
        raise Missing(f"{' and '.join(paths.values())} have no runs of {', '.join(sorted(absent))}")
    ranked = pairs[pairs["method"].isin(RANK_BASED)]
    parts = []
    for name, words in _NUMBERS.items():
        gap = float((ranked[f"{name}_mapped"] - ranked[name]).abs().max())
        statistic = f"largest difference of {words}, {len(ranked)} pairs of runs"
        parts.append(Part.by(Rule(high=TOLERANCE), statistic, gap, (gap, gap)))
    told, moved = _control(pairs[pairs["method"] == CONTROL])
    if not moved and binding(parts).verdict == SUPPORTED:
        raise Missing(f"the control is void: {told}; give the studies more updates")
    return Finding(parts, " and ".join(paths.values()), told)


def _control(pairs: pd.DataFrame) -> tuple[str, bool]:
    """What a method of rewards does, in words, and whether it noticed the map."""
    told, moved = [], False
    for name, words in _NUMBERS.items():
        gaps = (pairs[f"{name}_mapped"] - pairs[name]).abs()
        errors = np.hypot(pairs[f"{name}_se"], pairs[f"{name}_se_mapped"])
        most = gaps.idxmax()
        moved |= bool((gaps > errors).any())
        told.append(f"{words} by {gaps[most]:.3g} (se {errors[most]:.2g})")
    return f"PPO changes its {' and its '.join(told)}", moved

"""Claims about the cost of training. Seconds are measured: these rows differ from run to run."""

import numpy as np
import pandas as pd
import scipy.stats

from vbon.analysis.claims.base import Finding, Missing, Tables, claim, needed
from vbon.analysis.verdicts import Rule, Statistic

ALIKE = Rule(0.8, 1.25)
"""Ratios that count as equal: the usual bounds of bioequivalence."""
UNEVEN = 2.0
"""Slowest over fastest run of a method, beyond which the machine was not idle."""
_KEYS = ["method", "setting", "seed"]
_POOL = ["pool_sample_seconds", "pool_score_seconds"]


@claim("vBoN trains as long as PPO", "section 5.2")
def training_takes_as_long(tables: Tables) -> Finding:
    """A run of vBoN takes as many seconds of training as one of PPO.

    Statistic: geometric mean of vBoN's training seconds over PPO's (``costs.csv``,
    ``train_seconds``: rollouts, scores, updates), runs that trained and did not diverge. Interval:
    95 %, Welch's t on logarithms, over runs. Rule: between 0.8 and 1.25. Seconds are measured: this
    row is not the same when the benchmark is run again. Where the slowest run of a method took over
    twice its fastest, other work shared the machine, and perhaps more while one method was trained;
    both ends of the interval are then moved outward by that factor.
    """
    return _ratio(tables, "training seconds", ["train_seconds"], "")


@claim("vBoN costs what PPO costs, its draws for F included", "section 5.2")
def the_pool_included(tables: Tables) -> Finding:
    """A run of vBoN takes as many seconds as one of PPO, with the draws that log F needs.

    Statistic: as for training alone, with the seconds of drawing and scoring M draws of every
    training prompt (``pool_sample_seconds``, ``pool_score_seconds``) added to vBoN's runs. Every
    run is charged all of its draws, as if it were the only one, though one pool serves them all.
    Interval: as for training alone. Rule: between 0.8 and 1.25.
    """
    remark = "each run pays for its own draws, though all share one pool"
    return _ratio(tables, "training and pool seconds", ["train_seconds", *_POOL], remark)


def _ratio(tables: Tables, quantity: str, columns: list[str], remark: str) -> Finding:
    """Seconds of vBoN's runs over PPO's."""
    costs, points = needed(tables, "costs"), needed(tables, "points")
    finished = points.loc[points["status"] == "ok", _KEYS].drop_duplicates()
    trained = costs[costs["updates"] > 0].merge(finished, on=_KEYS)
    vbon, ppo = (_logs(trained, name, columns) for name in ("vbon", "ppo"))
    few = [f"{len(x)} of {name}" for name, x in (("vbon", vbon), ("ppo", ppo)) if len(x) < 2]
    if few:
        raise Missing(f"costs.csv has {' and '.join(few)} among trained runs: it takes two of each")
    interval = scipy.stats.ttest_ind(vbon, ppo, equal_var=False).confidence_interval(0.95)
    low, high = map(float, np.exp(interval))
    spreads = [np.ptp(_logs(trained, name, ["train_seconds"])) for name in ("vbon", "ppo")]
    uneven, remarks = float(np.exp(max(spreads))), [remark]
    if uneven > UNEVEN:
        low, high = low / uneven, high * uneven
        remarks.append(
            f"runs of one method differ by a factor of {uneven:.1f}: not an idle machine"
        )
    machines = trained["hardware"].nunique()
    if machines > 1:
        remarks.append(f"runs of {machines} machines")
    text = f"{quantity} of vBoN over PPO's, {len(vbon)} and {len(ppo)} runs"
    ratio = Statistic(text, float(np.exp(vbon.mean() - ppo.mean())), low, high, ALIKE)
    return Finding([ratio], ("costs",), "; ".join(filter(None, remarks)))


def _logs(trained: pd.DataFrame, method: str, columns: list[str]) -> np.ndarray:
    """Logarithms of a method's seconds, one per run."""
    return np.log(trained.loc[trained["method"] == method, columns].sum(axis=1).to_numpy())

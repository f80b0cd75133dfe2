"""A synthetic sweep of the paper's shape: all methods, full grids and seeds, some runs diverged."""

import numpy as np
import pandas as pd

from vbon.artifacts import SCHEMAS
from vbon.objectives.frontier import kl_upper_bound, win_rate, win_rate_frontier

BETAS = [0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 1, 2, 3, 4, 5]
DPO_BETAS = [0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 1, 2, 3, 4, 5]
NS = [1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 512]
SFT_NS = [10, *range(50, 571, 40), 600]
SWEEPS = {  # method: swept field, values, seeds, excess KL: per nat and per squared nat
    "bon_sft": ("n", SFT_NS, 2, 1.5, 0.2),
    "ppo": ("beta", BETAS, 2, 0.45, 0.62),
    "dpo": ("beta", DPO_BETAS, 3, 0.3, 0.55),
    "bonbon": ("n", NS, 3, 0.8, 0.7),
    "vbon": ("n", NS, 3, 0.16, 0.45),
    "vbon_l": ("beta", BETAS, 2, 0.16, 0.45),
}
LOST = {"win_rate": {}, "reward_prob": {"dpo": 0.03, "bonbon": 0.02}}
"""Share of the gain on a metric that a method loses in addition to its excess KL."""

NUMBERS = ["kl", "kl_se", "win_rate", "win_rate_se", "reward_prob", "reward_prob_se"]
NUMBERS += ["evaluator_reward", "evaluator_reward_se"]


def sweep(seed=0, methods=None, excess=None, lost=None, diverged=True, spread=0.03):
    """Table of 205 points: reference, best-of-n and six methods, KL up to about 15 nats.

    Args:
        seed: Seed of every draw.
        methods: Names of trained methods; all by default.
        excess: ``{method: (per nat, per squared nat)}``, replacing :data:`SWEEPS`.
        lost: ``{metric: {method: share}}``, replacing :data:`LOST`.
        diverged: If True, PPO's strongest and some of BoNBoN's strongest runs have diverged.
        spread: Relative spread of a run's KL around its setting's.
    """
    rng = np.random.default_rng(seed)
    lost = lost or LOST
    rows = [_row("reference", "default", 0, 1.0, np.nan, 0.0, 0.5)]
    for n in [2**k for k in range(1, 10)]:
        rows.append(_row("best_of_n", f"n{n}", 0, n, np.nan, kl_upper_bound(n), win_rate(n)))
    for method, (field, values, seeds, per_nat, per_square) in SWEEPS.items():
        per_nat, per_square = (excess or {}).get(method, (per_nat, per_square))
        for value, run_seed in ((v, s) for v in values for s in range(seeds)):
            n = float(value) if field == "n" else 1 + 1 / value
            cost = kl_upper_bound(n) * (1 if method != "bon_sft" else 0.35 + 0.02 * n**0.5)
            cost *= np.exp(spread * rng.normal())
            kl = cost * (1 + per_nat) + per_square * cost**2 / 1.6
            coefficient = 1 / (n - 1) if n > 1 else np.nan
            shown_n = np.nan if method in ("ppo", "dpo") else n
            row = _row(method, f"{field}{value:g}", run_seed, shown_n, coefficient, kl, 0.0)
            rows.append(row | {"win_rate": win_rate_frontier(cost)})
    points = pd.DataFrame(rows)
    if methods is not None:
        points = points[points["method"].isin(["reference", "best_of_n", *methods])]
    return _measured(points.reset_index(drop=True), rng, lost, diverged)


def _row(method, setting, seed, n, kl_coef, kl, rate):
    return {"method": method, "setting": setting, "seed": seed, "n": float(n)} | {
        "kl_coef": kl_coef, "kl": kl, "win_rate": rate
    }  # fmt: skip


def _measured(points, rng, lost, diverged):
    """Add the other metrics, noise in proportion to standard errors, and diverged runs."""
    points = points.assign(task="sentiment", status="ok", temperature=1.0, domain="all")
    gain = 2 * points["win_rate"] - 1
    for metric in ("win_rate", "reward_prob", "evaluator_reward"):
        share = 1 - points["method"].map(lost.get(metric, {})).fillna(0)
        exact = {"win_rate": 0.5 + 0.5 * gain * share, "reward_prob": 0.5 + 0.47 * gain * share}
        exact["evaluator_reward"] = 0.2 + 1.2 * gain * share
        se = 0.012 * np.sqrt((1 - gain**2).clip(0.004))
        points[f"{metric}_se"] = se * (3 if metric == "evaluator_reward" else 1)
        noise = 0.3 * points[f"{metric}_se"] * rng.normal(size=len(points))
        points[metric] = exact[metric] + noise
    points["win_rate"] = points["win_rate"].clip(upper=1 - 1e-4)
    points["reward_prob"] = points["reward_prob"].clip(0, 1)
    points["kl_se"] = np.where(points["method"] == "best_of_n", 0.0, 0.012 * points["kl"])
    if diverged:
        lost_runs = points.eval(
            "(method == 'ppo' and setting == 'beta0.005')"
            " or (method == 'bonbon' and setting == 'n512' and seed < 2)"
        )
        points.loc[lost_runs, "status"] = "diverged"
        points.loc[lost_runs, NUMBERS] = np.nan
    return points


def excess_kl(points):
    """KL of each run in excess of the smallest KL with its win rate, in nats."""
    kl = np.linspace(0, 20, 100_000)
    return points["kl"] - np.interp(points["win_rate"], win_rate_frontier(kl), kl)


def study(points, spread=0.003, shift=0.0, seed=0, n=(2, 4, 8, 16, 64)):
    """Pairs of vBoN and its L bound at the same n and seeds, made from a sweep's vBoN runs.

    Args:
        points: A sweep with vBoN's runs at these n.
        spread: Standard deviation of each run's win rate around its n's.
        shift: Win rate that the exact method gains on its bound.
        seed: Seed of the draws.
        n: Values of n.
    """
    rng = np.random.default_rng(seed)
    exact = points[(points["method"] == "vbon") & points["n"].isin(n)]
    runs = pd.concat([exact, exact.assign(method="vbon_l")], ignore_index=True)
    level = runs.groupby("n")["win_rate"].transform("mean") - 0.1 * (runs["n"] > 8)
    runs["win_rate"] = level + spread * rng.normal(size=len(runs))
    runs["win_rate"] += np.where(runs["method"] == "vbon", shift, 0.0)
    return runs


def complete(points):
    """Add the missing columns of the points table, filled with zeros."""
    rest = [name for name in SCHEMAS["points"].columns if name not in points]
    return points.assign(**dict.fromkeys(rest, 0))

"""KL that methods need for the same win rate where rewards are unequal: in theory and trained.

Best-of-n and vBoN depend on ranks within a prompt alone, so no strictly increasing map of a
prompt's rewards changes them. The optimum of KL-RL has one coefficient for all prompts and
depends on the scale and the tail of rewards.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.interpolate import PchipInterpolator
from scipy.special import logit

from vbon.analysis.tilts import Pools, curves
from vbon.rewards.unequal import Inequality

WIN_RATES = (0.65, 0.75, 0.85, 0.9)
COLUMNS = [
    *("rewards", "win_rate", "kl_best_of_n", "kl_rl", "theory"),
    *("kl_vbon", "kl_ppo", "trained", "trained_sd"),
]


def unequal_table(
    rewards: pd.DataFrame,
    points: pd.DataFrame,
    studies: Mapping[str, tuple[Inequality, pd.DataFrame]],
) -> pd.DataFrame:
    """Compare PPO with vBoN, and their optima, at equal win rates.

    Args:
        rewards: Reference draws of the test prompts (schema "rewards").
        points: Runs of PPO and vBoN on the rewards as they are.
        studies: Map of the rewards and runs of PPO of each study. Its vBoN is that of ``points``,
            which is the same.

    Returns:
        Columns :data:`COLUMNS`. KLs are in nats, read off curves of settings. ``theory`` is the
        optimum of KL-RL minus best-of-n, ``trained`` PPO minus vBoN; means over the seeds that both
        have, and ``trained_sd`` the standard deviation over these. NaN outside of a curve.
    """
    pools = Pools.of(rewards)
    exact = curves(pools, {})
    best = exact[exact["series"] == "best_of_n"]
    rows = []
    for name, (mapping, runs) in {"as they are": (Inequality(0, 0), points), **studies}.items():
        tilted = curves(mapped(pools, mapping), {})
        tilted = tilted[tilted["series"] == "kl_rl"]
        for rate in WIN_RATES:
            exact = [kl_at(rate, one["win_rate"], one["kl"]) for one in (best, tilted)]
            trained = {
                "vbon": _trained_kl(rate, points, "vbon"),
                "ppo": _trained_kl(rate, runs, "ppo"),
            }
            both = pd.DataFrame(trained).dropna()  # seeds that both have
            gaps = both["ppo"] - both["vbon"]
            rows.append(
                (name, rate, *exact, exact[1] - exact[0], *both.mean(), gaps.mean(), gaps.std())
            )
    return pd.DataFrame(rows, columns=COLUMNS)


def mapped(pools: Pools, mapping: Inequality) -> Pools:
    """Pools with other rewards of the same order."""
    index = np.arange(len(pools.prompts)).repeat(pools.draws)
    rewards = mapping(pools.rewards.ravel(), list(pools.prompts), index)
    return replace(pools, rewards=rewards.reshape(pools.rewards.shape))


def kl_at(rate: float, win_rates: ArrayLike, kl: ArrayLike) -> float:
    """KL at a win rate: the root of KL is interpolated over the log-odds of win rates.

    Example:
        >>> n = np.arange(1.0, 99)
        >>> round(kl_at(0.75, n / (n + 1), np.log(n) - 1 + 1 / n), 4)  # best-of-3
        0.4319
    """
    curve = pd.DataFrame({"win_rate": win_rates, "kl": kl}).dropna().sort_values("win_rate")
    curve = curve[curve["win_rate"].between(0, 1, inclusive="neither")].drop_duplicates("win_rate")
    if len(curve) < 2:
        return np.nan
    line = PchipInterpolator(
        logit(curve["win_rate"]), np.sqrt(curve["kl"].clip(0)), extrapolate=False
    )
    return float(line(logit(rate)) ** 2)


def _trained_kl(rate: float, runs: pd.DataFrame, method: str) -> pd.Series:
    """KL at a win rate along the settings of each seed."""
    done = runs[(runs["status"] == "ok") & (runs["method"] == method)]
    return pd.Series(
        {seed: kl_at(rate, one["win_rate"], one["kl"]) for seed, one in done.groupby("seed")},
        dtype=float,
    )

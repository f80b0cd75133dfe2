r"""Exact optima of best-of-n and KL-RL on a task of texts, and each policy's distance to its own.

An optimum is a tilt of the reference: best-of-n has the density :math:`((F + q)^n - F^n) / q`,
the bound L :math:`n F^{n-1}`, and KL-RL, with one :math:`\beta` for all prompts,
:math:`e^{r / \beta}` up to a factor; with win rates as rewards that is the frontier. A prompt's
stored reference draws with self-normalised weights represent it: expectations need no further
sample and no training.

A pool of :math:`M` draws resolves an optimum as long as little of its mass lies above all draws.
For best-of-n and L that share is :math:`n / (n + M)`; for the others the weight of the best draw
estimates it. Beyond :data:`UNSEEN` weights rest on a few draws, and distances are not estimated.
With log F from ranks of M draws the same holds in training: above the pool all responses have one
reward.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64
from scipy.interpolate import PchipInterpolator
from scipy.special import digamma, logit, logsumexp

from vbon.errors import DataError
from vbon.evaluation.metrics import win_rates
from vbon.objectives.best_of_n import cap_log_below, log_bon_ratio
from vbon.objectives.frontier import kl_frontier, kl_upper_bound
from vbon.statistics import clustered_mean

UNSEEN = 0.1
"""Largest share of an optimum above all draws of a pool that still resolves it."""
CURVES = ["series", "method", "parameter", "kl", "win_rate", "reward", "reward_prob"]
COLUMNS = [
    *("method", "setting", "n", "kl_coef", "runs", "kl", "win_rate"),
    *("excess", "excess_se", "excess_sd", "over_own_oracle"),
    *("kl_to_optimum", "kl_to_optimum_se", "kl_to_optimum_sd", "unseen"),
]
_POINTS = 80  # of each curve
_STEP = 1e-4  # of win rates, for a slope
_EXPONENTIAL = ("kl_rl", "win_rate")  # families with the tilt e^(reward / kl_coef)

Grid = Float64[np.ndarray, "prompts draws"]
Responses = Iterable[tuple[Mapping[str, Any], pd.DataFrame]]


def largest_resolved(draws: int) -> float:
    """Largest n of best-of-n that a pool resolves: a share n / (n + draws) is above it.

    Example:
        >>> round(largest_resolved(600), 6)
        66.666667
    """
    return draws * UNSEEN / (1 - UNSEEN)


@dataclass(frozen=True)
class Pools:
    """Reference draws of the test prompts, equally many of each, ascending by reward.

    Attributes:
        prompts: Prompt of each row.
        rewards: Training rewards.
        probs: Probabilities of the positive class of the same draws, NaN where there are none.
        below: Share of the prompt's draws with a lower reward.
        level: Share with an equal reward, the draw itself included.
    """

    prompts: pd.Index
    rewards: Grid
    probs: Grid
    below: Grid
    level: Grid

    @classmethod
    def of(cls, rewards: pd.DataFrame) -> "Pools":
        """Pools from a table of schema "rewards".

        Raises:
            DataError: If prompts differ in their number of draws.
        """
        grids = rewards.pivot(index="prompt_id", columns="draw", values=["reward", "reward_prob"])
        values, probs = (grids[name].to_numpy(np.float64) for name in ("reward", "reward_prob"))
        if np.isnan(values).any():
            raise DataError("rewards.draw: prompts have different numbers of draws")
        order = np.argsort(values, axis=1, kind="stable")
        values, probs = (np.take_along_axis(grid, order, 1) for grid in (values, probs))
        ends = [[np.searchsorted(row, row, side) for row in values] for side in ("left", "right")]
        below, upto = np.array(ends) / values.shape[1]
        return cls(grids.index, values, probs, below, upto - below)

    @property
    def draws(self) -> int:
        """Draws per prompt."""
        return self.rewards.shape[1]

    @property
    def win_rates(self) -> Grid:
        """Share of the prompt's draws that each draw beats, ties half."""
        return self.below + self.level / 2

    def exponents(self, family: str, parameter: float) -> Grid:
        """Log-tilts of an exponential family up to a constant per prompt."""
        return (self.rewards if family == "kl_rl" else self.win_rates) / parameter

    def log_ratio(self, family: str, parameter: float) -> Grid:
        """Log of an optimum's weights times the number of draws: its log-ratio to the reference.

        Args:
            family: ``best_of_n``, ``kl_rl`` or ``win_rate``.
            parameter: n, or the coefficient of the KL divergence.
        """
        if family in _EXPONENTIAL:
            scores = self.exponents(family, parameter)
            return scores - logsumexp(scores, axis=1, keepdims=True) + np.log(self.draws)
        upto = self.below + self.level
        with np.errstate(divide="ignore"):
            rest = np.log1p(-((self.below / upto) ** parameter))
        return parameter * np.log(upto) + rest - np.log(self.level)

    def means(self, family: str, parameter: float) -> dict[str, float]:
        """Metrics of an optimum: means over prompts.

        Returns:
            ``kl``, ``win_rate``, ``reward``, ``reward_prob``, and ``top``, the best draw's weight.
        """
        ratio = self.log_ratio(family, parameter)
        weights = np.exp(ratio) / self.draws
        metrics = {"win_rate": self.win_rates, "reward": self.rewards, "reward_prob": self.probs}
        means = {name: float((weights * grid).sum(1).mean()) for name, grid in metrics.items()}
        kl = float((weights * np.where(weights > 0, ratio, 0)).sum(1).mean())
        return {"kl": max(kl, 0.0), **means, "top": float(weights[:, -1].mean())}

    def unseen(self, family: str, parameter: float) -> float:
        """Share of an optimum above all draws of its prompt's pool."""
        if family in _EXPONENTIAL:
            return self.means(family, parameter)["top"]
        return parameter / (parameter + self.draws)


def curves(pools: Pools, rank_draws: Mapping[str, int]) -> pd.DataFrame:
    """Curves of the optima of best-of-n and KL-RL, as far as the pools resolve them.

    Args:
        pools: Reference draws of the test prompts.
        rank_draws: Draws per training prompt, for each method that is trained on ranks among them.

    Returns:
        Columns :data:`CURVES`. ``series`` is ``best_of_n`` or ``kl_rl``. A row ``resolved`` of a
        ``method`` is best-of-n at the largest n that its training draws resolve.
    """
    spread = float(pools.rewards.std(axis=1).mean()) or 1.0
    largest = largest_resolved(pools.draws)
    settings = {
        "best_of_n": np.geomspace(1, max(largest, 1), _POINTS),
        "kl_rl": spread * np.geomspace(100, 0.02, 2 * _POINTS),
    }
    rows = []
    for family, parameters in settings.items():
        for parameter in map(float, parameters):
            means = pools.means(family, parameter)
            if family == "kl_rl" and means["top"] > UNSEEN:
                break
            rows.append({"series": family, "parameter": parameter, **means})
    limits = {method: largest_resolved(draws) for method, draws in rank_draws.items()}
    for method, n in limits.items():
        if 1 < n <= largest:
            means = pools.means("best_of_n", n)
            rows.append({"series": "resolved", "method": method, "parameter": n, **means})
    return pd.DataFrame(rows, columns=CURVES)


def distances(
    responses: Responses,
    optima: Mapping[str, str],
    pools: Pools,
    ranked: Mapping[str, Float64[np.ndarray, " draws"]],
    exact: pd.DataFrame,
) -> pd.DataFrame:
    r"""Distance of trained policies to the frontier and to their own optimum, in nats.

    ``kl_to_optimum`` is KL(policy ‖ optimum), from the policy's responses: the mean of their KL to
    the reference minus the optimum's log-ratio. For best-of-n that ratio uses the `digamma`
    estimate of log F, whose bias does not matter above a few lower draws; for L it is
    :math:`\log n + (n - 1) \log F`, for a continuous reward. For KL-RL the normaliser is the pool's
    mean of :math:`e^{r / \beta}`, also with win rates as rewards. Where more than :data:`UNSEEN` of
    the optimum is above the pool (``unseen``), log F is flat or the normaliser too small, and the
    distance is NaN.

    ``excess`` is the KL beyond the least that any policy needs for its win rate,
    ``over_own_oracle`` that beyond the optimum of its own family at equal win rate (NaN above the
    family's curve). Standard errors are over prompts, ``*_sd`` are standard deviations over seeds.

    Args:
        responses: Record and responses of each trained run.
        optima: ``best_of_n``, ``lower_bound``, ``kl_rl`` or ``win_rate`` for each method.
        pools: All reference draws of the test prompts.
        ranked: Ascending rewards among which win rates are counted, by prompt.
        exact: The table of :func:`curves`.

    Returns:
        Columns :data:`COLUMNS`, a row per setting in the order of its first run.
    """
    line = exact[exact["series"] == "kl_rl"]
    inside = line[(line["win_rate"] > 0.5) & (line["win_rate"] < 1)].drop_duplicates("win_rate")
    kl_rl = PchipInterpolator(logit(inside["win_rate"]), inside["kl"], extrapolate=False)
    settings: dict[tuple[str, str], list[tuple[Mapping[str, Any], pd.DataFrame]]] = {}
    for record, frame in responses:
        wins, _ = win_rates(frame["prompt_id"], frame["reward"].to_numpy(), ranked)
        family, parameter = _optimum(record, optima)
        gap = _kl_to_optimum(frame, family, parameter, pools)
        values = frame[["prompt_id", "kl"]].assign(win_rate=wins, gap=gap)
        settings.setdefault((record["method"], record["setting"]), []).append((record, values))
    rows = []
    for (method, setting), runs in settings.items():
        record = runs[0][0]
        family, parameter = _optimum(record, optima)
        each = [values.groupby("prompt_id")[["kl", "win_rate", "gap"]].mean() for _, values in runs]
        means = pd.DataFrame([values.mean() for values in each])
        excess = means["kl"] - kl_frontier(means["win_rate"].to_numpy())
        if family == "kl_rl":
            own = kl_rl(logit(means["win_rate"]))
        elif family == "win_rate":
            own = kl_frontier(means["win_rate"].to_numpy())
        else:  # the win rate is n / (n + 1)
            odds = means["win_rate"] / (1 - means["win_rate"])
            own = kl_upper_bound(odds.clip(1, 1e12).to_numpy())
        everyone = pd.concat([values for _, values in runs])
        rate = np.clip(means["win_rate"].mean(), 0.5 + _STEP, 1 - 2 * _STEP)
        slope = (kl_frontier(rate + _STEP) - kl_frontier(rate - _STEP)) / (2 * _STEP)
        price = everyone["kl"] - slope * everyone["win_rate"]  # the excess to first order
        row = {"method": method, "setting": setting, "runs": len(runs)}
        row |= {name: record[name] for name in ("n", "kl_coef")}
        row |= means[["kl", "win_rate"]].mean().to_dict()
        row |= {"excess": excess.mean(), "excess_sd": excess.std()}
        row |= {"excess_se": clustered_mean(price, everyone["prompt_id"]).se}
        row |= {"over_own_oracle": (means["kl"] - own).mean(skipna=False)}
        row["unseen"] = pools.unseen(family, parameter)
        if row["unseen"] <= UNSEEN:
            gap = clustered_mean(everyone["gap"], everyone["prompt_id"])
            row |= {"kl_to_optimum": gap.mean, "kl_to_optimum_se": gap.se}
            row["kl_to_optimum_sd"] = means["gap"].std()
        rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def _optimum(record: Mapping[str, Any], optima: Mapping[str, str]) -> tuple[str, float]:
    """Family and parameter of a run's optimum."""
    family = optima[record["method"]]
    return family, float(record["kl_coef" if family in _EXPONENTIAL else "n"])


def _kl_to_optimum(
    responses: pd.DataFrame, family: str, parameter: float, pools: Pools
) -> Float64[np.ndarray, " responses"]:
    """Unbiased terms of KL(policy ‖ optimum), one per response."""
    row = pools.prompts.get_indexer(responses["prompt_id"])
    reward = responses["reward"].to_numpy()
    below, upto = np.empty((2, len(reward)))
    for prompt in np.unique(row):
        here, pool = row == prompt, pools.rewards[prompt]
        below[here], upto[here] = (
            np.searchsorted(pool, reward[here], s) for s in ("left", "right")
        )
    if family in _EXPONENTIAL:
        scores = reward if family == "kl_rl" else (below + upto) / (2 * pools.draws)
        normaliser = logsumexp(pools.exponents(family, parameter), axis=1) - np.log(pools.draws)
        return responses["kl"].to_numpy() - scores / parameter + normaliser[row]
    log_below = digamma(below + 1) - digamma(pools.draws + 1)
    if family == "lower_bound":
        ratio = np.log(parameter) + (parameter - 1) * log_below
    else:
        level = responses["log_prob_ref"].to_numpy()
        ratio = log_bon_ratio(cap_log_below(log_below, level), level, parameter)
    return responses["kl"].to_numpy() - ratio

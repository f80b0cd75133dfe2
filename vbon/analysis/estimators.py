r"""Error of estimates of log F from M draws per prompt, and the win rate attainable with them.

Estimates from a prompt's first draws are compared with the share of its remaining draws, unseen
by the estimator, that have a lower reward. An ideal optimiser of the bound L would reach
:math:`\pi_\mathrm{ref} \hat F^{n-1}` (arXiv:2407.06057, theorem 2); its win rate and KL are sums
over the remaining draws. Results of training are listed beside it.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64
from scipy.special import softmax

from vbon.analysis.draws import QUANTILES
from vbon.errors import ArtifactError
from vbon.pool import logf
from vbon.pool.shared import SharedCDF

SIZES = (4, 8, 16, 32, 64, 128, 250)
"""Draws per prompt to estimate from; a size is used if at least twice as many are left to test."""
MOST_BLOCKS = 6
"""Maximum number of disjoint blocks of draws over which errors are averaged."""

Rewards = Float64[np.ndarray, "prompts _"]
Fit = Callable[[Rewards], SharedCDF]
"""Function that fits a distribution shared by all prompts to a block of their draws."""


def estimators_table(
    rewards: Rewards, fit: Fit, n: float, points: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Compare the estimators of log F at each number of draws.

    Args:
        rewards: Rewards of each prompt's draws, in the order of drawing.
        fit: Fit of the estimator ``"shared"`` to a block of draws.
        n: n of the best-of-n that an ideal optimiser aims at.
        points: Points of runs with columns m and estimator, whose means over seeds are added.

    Returns:
        One row per estimator and m. ``bias_*`` and ``rmse_*``: error of log F in nats where the
        test draws have F = 0.5, 0.9, 0.99 (their own sampling error included). ``saturation``:
        share of best-of-n's responses above the whole pool, and ``saturation_expected`` its
        expectation n / (n + m). ``ideal_win_rate``, ``ideal_kl`` (nats): of the ideal optimiser.
        ``win_rate``, ``win_rate_se``, ``kl`` (nats), ``runs``: means over runs and their number,
        NaN if there are none.

    Raises:
        ArtifactError: If there are too few draws for the smallest size.

    Example:
        >>> from vbon.pool.shared import fit_shared
        >>> rng = np.random.default_rng(0)
        >>> hint = rng.normal(size=48)
        >>> table = estimators_table(
        ...     hint[:, None] + rng.normal(size=(48, 48)),
        ...     lambda pools: fit_shared(pools, hint, np.ones(48), np.zeros((48, 1))),
        ...     n=4,
        ... ).set_index(["estimator", "m"])
        >>> bool(table.rmse_90["shared", 4] < table.rmse_90["add1", 16])
        True
    """
    sizes = [m for m in SIZES if 3 * m <= rewards.shape[1]]
    if not sizes:
        raise ArtifactError(
            f"rewards: {rewards.shape[1]} draws per prompt are too few to compare estimators; "
            f"set sampling.train_draws to {3 * SIZES[0]} or more"
        )
    test_draws = np.sort(rewards[:, sizes[-1] :], axis=1)
    rows = []
    for m in sizes:
        blocks = [
            rewards[:, start : start + m]
            for start in range(0, min(sizes[-1] - m + 1, MOST_BLOCKS * m), m)
        ]
        for name in (*logf.POOL_ESTIMATORS, "shared"):
            parts = [_evaluated(name, block, test_draws, fit, n) for block in blocks]
            rows.append({"estimator": name, "m": m, "n": n, "prompts": len(rewards)})
            rows[-1] |= _combined(parts) | {"saturation_expected": n / (n + m)}
    return _with_runs(pd.DataFrame(rows), points)


def _evaluated(
    name: str, block: Rewards, test_draws: Rewards, fit: Fit, n: float
) -> dict[str, Any]:
    """Errors of one estimator on one block of draws, and metrics of its ideal optimiser."""
    pools = np.sort(block, axis=1)
    prior = None
    if name == "shared":
        shared, prompts = fit(block), np.arange(len(test_draws))[:, None]
        prior = shared.share_below(prompts, test_draws), shared.worth
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", logf.FitWarning)  # falls back to add1, as in training
        estimates = logf.estimate(test_draws, pools, name, prior=prior)
    size = test_draws.shape[1]
    errors = estimates[:, [int(u * size) for u in QUANTILES]] - np.log(QUANTILES)
    weights = softmax((n - 1) * estimates, axis=1)
    shares = (np.arange(size) + 0.5) / size
    below_best = (test_draws <= pools[:, -1:]).mean(1)  # share of draws not above the whole pool
    return {
        "errors": errors,
        "ideal_win_rate": float((weights @ shares).mean()),
        "ideal_kl": float((weights * np.log(np.maximum(weights * size, 1e-300))).sum(1).mean()),
        "saturation": 1 - float((below_best**n).mean()),
    }


def _combined(parts: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Bias and RMSE over blocks and prompts; means over blocks of the other numbers."""
    errors = np.concatenate([part["errors"] for part in parts])
    summary = {}
    for column, u in enumerate(QUANTILES):
        summary[f"bias_{round(100 * u)}"] = float(errors[:, column].mean())
        summary[f"rmse_{round(100 * u)}"] = float(np.sqrt((errors[:, column] ** 2).mean()))
    for name in ("saturation", "ideal_win_rate", "ideal_kl"):
        summary[name] = float(np.mean([part[name] for part in parts]))
    return summary


def _with_runs(table: pd.DataFrame, points: pd.DataFrame | None) -> pd.DataFrame:
    """Add means over the runs of each estimator and m."""
    columns = ["win_rate", "win_rate_se", "kl", "runs"]
    if points is None:
        return table.assign(**dict.fromkeys(columns, np.nan))
    groups = points.groupby(["estimator", "m"])
    attained = groups[["win_rate", "kl"]].mean()
    attained["runs"] = groups.size()
    # Seeds share prompts, so averaging over seeds does not reduce the standard error over prompts.
    attained["win_rate_se"] = groups["win_rate_se"].mean()
    return table.merge(attained[columns].reset_index(), on=["estimator", "m"], how="left")

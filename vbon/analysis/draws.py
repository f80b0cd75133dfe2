r"""Table 1 of arXiv:2407.06057: number of draws per prompt needed to estimate F.

The paper compares the first M draws of a prompt with all 600 by a two-sample Kolmogorov-Smirnov
test and counts rejections. The two samples share M draws, so the test is far too lenient, by an
amount that depends on M and 600 only: the rates show how much the samples overlap and nothing
about the prompts. Independent samples are rejected at the test's level for every M. For training,
the error of log F where a good policy's responses lie matters; the table gives it as well.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy  # loads `scipy.stats` only when used, since Snakefiles import this module
from jaxtyping import Float64

from vbon.errors import ArtifactError

Floats = npt.NDArray[np.float64]
SIZES = (5, 20, 100, 200, 250)
POOL = 600
LEVEL = 0.05
QUANTILES = (0.5, 0.9, 0.99)
"""Values of F where the error of log F is reported: the median, and those of best-of-n."""

COLUMNS = (
    *("variant", "m", "rejection_rate", "mean_statistic", "mean_p", "prompts"),
    *(f"rmse_{round(100 * u)}" for u in QUANTILES),
)


def ks_statistics(
    first: Float64[np.ndarray, "prompts m"], pool: Float64[np.ndarray, "prompts pool"]
) -> Float64[np.ndarray, " prompts"]:
    r"""Two-sample Kolmogorov-Smirnov statistic :math:`\sup_t |F_1(t) - F_2(t)|` of each prompt.

    Args:
        first: First sample of each prompt, in any order.
        pool: Second sample of each prompt, in any order.

    Example:
        >>> ks_statistics(np.array([[0.0, 1.0]]), np.array([[0.0, 1.0, 2.0, 3.0]])).tolist()
        [0.5]
    """
    first, pool = np.sort(first, 1), np.sort(pool, 1)
    statistics = np.empty(len(first))
    for row, (ours, theirs) in enumerate(zip(first, pool, strict=True)):
        at = np.concatenate((ours, theirs))
        gap = np.searchsorted(ours, at, "right") / len(ours)
        gap -= np.searchsorted(theirs, at, "right") / len(theirs)
        statistics[row] = np.abs(gap).max()
    return statistics


def nested_rate(m: int) -> float:
    r"""Rejection rate of the test if the smaller sample is part of the pool.

    The difference of the two distribution functions is then smaller than the test presumes, by
    :math:`\sqrt{(600 - m) / (600 + m)}`, whatever the distribution (Kolmogorov's asymptotic tail).

    Example:
        >>> [round(100 * nested_rate(m), 2) for m in SIZES]
        [4.7, 3.88, 1.14, 0.13, 0.03]
    """
    critical = scipy.stats.kstwobign.isf(LEVEL)
    return float(scipy.stats.kstwobign.sf(critical * np.sqrt((POOL + m) / (POOL - m))))


def log_f_rmse(m: int, u: float) -> float:
    r"""Root mean square error of the estimate :math:`\log \frac{K+1}{m+1}` where F is ``u``.

    An exact sum over :math:`K \sim \mathrm{Binomial}(m, u)`.

    Example:
        >>> round(log_f_rmse(200, 0.9), 3)
        0.024
    """
    k = np.arange(m + 1)
    error = np.log((k + 1) / (m + 1)) - np.log(u)
    return float(np.sqrt(scipy.stats.binom.pmf(k, m, u) @ error**2))


def table1(rewards: pd.DataFrame) -> pd.DataFrame:
    """Compare samples of each of :data:`SIZES` with the pool, nested and independent.

    Args:
        rewards: Columns prompt_id, draw, reward: for each prompt the pool, its first :data:`POOL`
            draws, and for the independent comparison as many more as the largest size.

    Returns:
        Columns :data:`COLUMNS`, a row for each variant (``nested``: the pool's first m draws, as in
        the paper; ``independent``: m draws outside the pool; ``predicted``: distribution-free, for
        nested samples) and size. Mean statistic and p are those of rejected prompts. ``rmse_*``:
        error of log F in nats where the pool has F = 0.5, 0.9, 0.99; exact for ``predicted``.

    Raises:
        ArtifactError: If a prompt has too few draws for either comparison.
    """
    table = rewards.pivot(index="prompt_id", columns="draw", values="reward").sort_index(axis=1)
    values, needed = table.to_numpy(), POOL + max(SIZES)
    if values.shape[1] < needed or np.isnan(values[:, :needed]).any():
        raise ArtifactError(
            f"rewards: table 1 needs {needed} draws per prompt ({POOL} and {max(SIZES)} others), "
            f"some prompts have fewer; raise sampling.train_draws to {needed}"
        )
    larger, outside = values[:, :POOL], values[:, POOL:]
    rows = []
    for m in SIZES:
        for variant, smaller in (("nested", larger[:, :m]), ("independent", outside[:, :m])):
            rows.append({"variant": variant, "m": m, **_rejected(smaller, larger)})
            rows[-1] |= {"prompts": len(values), **_errors(smaller, larger)}
        exact = {f"rmse_{round(100 * u)}": log_f_rmse(m, u) for u in QUANTILES}
        rate = {"rejection_rate": nested_rate(m), "prompts": len(values)}
        rows.append({"variant": "predicted", "m": m, **rate, **exact})
    return pd.DataFrame(rows).reindex(columns=COLUMNS).sort_values(
        "variant", key=lambda names: names.map({"nested": 0, "independent": 1, "predicted": 2}),
        kind="stable", ignore_index=True,
    )  # fmt: skip


def _rejected(smaller: Floats, larger: Floats) -> dict[str, float]:
    """Share of prompts for which the test rejects, and their mean statistic and p-value."""
    statistics = ks_statistics(smaller, larger)
    p = np.empty(len(statistics))
    # The p-value depends only on the statistic and the two sizes, and is slow to compute.
    for value in np.unique(statistics):
        rows = np.flatnonzero(statistics == value)
        p[rows] = scipy.stats.ks_2samp(smaller[rows[0]], larger[rows[0]]).pvalue
    rejected = p < LEVEL
    return {
        "rejection_rate": float(rejected.mean()),
        "mean_statistic": float(statistics[rejected].mean()) if rejected.any() else np.nan,
        "mean_p": float(p[rejected].mean()) if rejected.any() else np.nan,
    }


def _errors(smaller: Floats, larger: Floats) -> dict[str, float]:
    """RMSE over prompts of the smaller sample's log F at quantiles of the larger sample."""
    ordered, errors = np.sort(larger, 1), {}
    for u in QUANTILES:
        at = ordered[:, round(u * larger.shape[1])]
        estimate = ((smaller < at[:, None]).sum(1) + 1) / (smaller.shape[1] + 1)
        errors[f"rmse_{round(100 * u)}"] = float(np.sqrt((np.log(estimate / u) ** 2).mean()))
    return errors

"""Means with standard errors over prompts, bootstrap intervals and tests of equivalence.

The prompt is the unit of evaluation: responses to one prompt share its difficulty, so they are
averaged first, and standard errors are over prompts. The module imports only numpy, scipy and
pandas.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.stats
from scipy.special import stdtr, stdtrit

from vbon.errors import DataError


class Estimate(NamedTuple):
    """A mean with its standard error."""

    mean: float
    """Average of the prompts' means: all prompts have equal weight."""
    se: float
    """Standard error of ``mean`` over prompts; NaN with fewer than two of them."""
    num_prompts: int
    """Number of prompts, the sample size of ``se``."""


class Interval(NamedTuple):
    """Ends of a confidence interval: numbers, or arrays for several statistics."""

    low: Any
    high: Any


def prompt_means(values: npt.ArrayLike, prompt_ids: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Mean of each prompt's values, in order of first appearance of the prompt.

    Args:
        values: One finite number per response, in any unit.
        prompt_ids: Prompt of each response, in the same order.

    Returns:
        One mean per prompt, in the unit of ``values``, float64.

    Raises:
        DataError: If the lengths differ, there are no values, or a value is NaN or infinite.

    Example:
        >>> prompt_means([1.0, 3.0, 10.0], ["b", "b", "a"]).tolist()
        [2.0, 10.0]
    """
    numbers = np.asarray(values, dtype=np.float64)
    keys = np.asarray(prompt_ids)
    if numbers.ndim != 1 or numbers.shape != keys.shape or numbers.size == 0:
        raise DataError(
            f"values: an array of shape {numbers.shape} for {keys.size} prompt_ids; there must be "
            "one number per response and at least one response"
        )
    if not np.isfinite(numbers).all():
        at = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise DataError(
            f"values: row {at} (prompt {keys[at]}) is {numbers[at]}; values must be finite, so "
            "find the response that produced it"
        )
    return pd.Series(numbers).groupby(keys, sort=False).mean().to_numpy()


def clustered_mean(values: npt.ArrayLike, prompt_ids: npt.ArrayLike) -> Estimate:
    r"""Mean over prompts with its standard error, responses clustered by prompt.

    With prompt means :math:`\bar v_1, \dots, \bar v_P` the estimate is their average and
    :math:`\mathrm{se}^2 = \frac{1}{P (P - 1)} \sum_i (\bar v_i - \bar v)^2`, which is valid for
    any correlation of a prompt's responses. Every ``*_se`` of the points table is of this kind.

    Args:
        values: One finite number per response, in any unit.
        prompt_ids: Prompt of each response, in the same order.

    Returns:
        Mean and standard error in the unit of ``values``, and the number of prompts.

    Raises:
        DataError: If the lengths differ, there are no values, or a value is NaN or infinite.

    Example:
        >>> clustered_mean([0.0, 1.0, 1.0, 1.0], ["a", "a", "b", "b"])
        Estimate(mean=0.75, se=0.25, num_prompts=2)
    """
    means = prompt_means(values, prompt_ids)
    # The spread of a single prompt is unknown, not zero.
    se = float(scipy.stats.sem(means, ddof=1)) if means.size > 1 else float("nan")
    return Estimate(float(means.mean()), se, int(means.size))


def percentile_interval(replicates: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Central interval of bootstrap replicates along their first axis.

    Args:
        replicates: Values of a statistic, shape (replicates, ...); NaN marks a resample in which
            it is undefined, and is ignored.
        confidence: Probability between the ends, in [0, 1); 0 gives the median twice.

    Returns:
        Ends of the shape of one replicate, NaN where no replicate is defined.

    Example:
        >>> [round(float(end), 6) for end in percentile_interval(np.arange(101.0), 0.9)]
        [5.0, 95.0]
    """
    values = np.asarray(replicates, dtype=np.float64)
    ends = np.full((2, *values.shape[1:]), np.nan)
    defined = ~np.isnan(values).all(axis=0)
    tail = (1 - confidence) / 2
    ends[:, defined] = np.nanquantile(values[:, defined], [tail, 1 - tail], axis=0)
    return Interval(ends[0], ends[1])


class Equivalence(NamedTuple):
    """Result of two one-sided tests of a mean difference against a margin."""

    se: float
    """Standard error; NaN if a single difference leaves it unknown."""
    df: int
    """Degrees of freedom of ``se``."""
    low: float
    """Lower end of the interval of confidence 1 - 2 alpha, within the margins if equivalent."""
    high: float
    """Upper end of that interval."""
    p_equivalence: float
    """The larger p-value of the two one-sided tests."""
    p_difference: float
    """p-value of the two-sided test of no difference."""
    verdict: str
    """``equivalent``, ``different`` (neither equivalent nor zero) or ``undecided``."""


def two_one_sided(
    mean: float, se: float, df: int, margin: float, *, alpha: float = 0.05
) -> Equivalence:
    r"""Test whether a difference is within a margin of zero, by Student's t (Schuirmann, 1987).

    The hypotheses :math:`\delta \le -m` and :math:`\delta \ge m` are tested at ``alpha`` each;
    both are rejected exactly if the :math:`1 - 2\alpha` interval is within the margins.

    Args:
        mean: Mean difference.
        se: Its standard error; 0 for differences that are all equal.
        df: Degrees of freedom of ``se``.
        margin: Largest difference that counts as equivalent, positive, in the unit of ``mean``.
        alpha: Level of each test.

    Returns:
        Interval, p-values and verdict; ``undecided`` with NaN if ``df < 1``, or if ``mean`` or
        ``se`` is NaN.

    Example:
        >>> two_one_sided(0.001, 0.002, 2, margin=0.02).verdict
        'equivalent'
        >>> two_one_sided(0.03, 0.002, 2, margin=0.02).verdict
        'different'
        >>> two_one_sided(0.01, 0.02, 2, margin=0.02).verdict
        'undecided'
    """
    nan = float("nan")
    if df < 1 or np.isnan(mean) or np.isnan(se):
        return Equivalence(nan, max(df, 0), nan, nan, nan, nan, "undecided")
    scale = max(se, np.finfo(np.float64).tiny)  # avoids division by 0
    half = se * float(stdtrit(df, 1 - alpha))
    nearer = margin - abs(mean)  # distance to the closer margin, whose test has the larger p-value
    equal = float(stdtr(df, -nearer / scale))
    zero = float(2 * stdtr(df, -abs(mean) / scale))
    verdict = "equivalent" if equal < alpha else "different" if zero < alpha else "undecided"
    return Equivalence(se, df, mean - half, mean + half, equal, zero, verdict)

r"""Best-of-n in closed form: its distribution, KL, win rate, reward and the frontier above it.

Best-of-n draws :math:`n` responses from the reference and returns one of highest reward
(Amini et al., arXiv:2407.06057, section 3). All functions take numbers, NumPy arrays or float64
tensors and return the same kind; none imports PyTorch.
"""

import numpy as np

from vbon.errors import ConfigError, DataError
from vbon.objectives.arrays import Number, Numeric, as_arrays, check_draws
from vbon.objectives.frontier import kl_upper_bound, win_rate, win_rate_frontier

__all__ = [
    "cap_log_below",
    "expected_best",
    "floored",
    "kl_upper_bound",
    "kl_with_ties",
    "log_bon_ratio",
    "log_masses",
    "win_rate",
    "win_rate_frontier",
]


def log_bon_ratio(log_below: Numeric, log_level: Numeric, n: Numeric) -> Numeric:
    r"""Log-ratio :math:`S = \log \pi_\mathrm{bon}(y) - \log \pi_\mathrm{ref}(y)` of best-of-n.

    With :math:`F = P(r' < r)` and :math:`q = P(r' = r)` under the reference,

    .. math:: S = \log \frac{(F + q)^n - F^n}{q}
        = \log n + (n - 1) \log F + \log \frac{(1 + q/F)^n - 1}{n\, q/F}.

    This is proposition 1 of arXiv:2407.06057 with its binomial sum replaced by the difference that
    it expands, which is defined for real :math:`n`. Distinct rewards have :math:`q =
    \pi_\mathrm{ref}(y)`; for ties see :func:`log_masses`. The form with :math:`F` in front is
    used where :math:`q \le F` and its mirror image elsewhere, so that large logs never cancel.

    Args:
        log_below: :math:`\log F` in nats; ``-inf`` where no reward is lower.
        log_level: :math:`\log q` in nats. ``-inf`` gives the limit :math:`q \to 0`.
        n: Number of draws, real, at least 1. The three arguments broadcast.

    Returns:
        :math:`S` in nats, float64, without gradient. Exact at ``n = 1``, at :math:`F = 0` and at
        :math:`q = 1`; elsewhere within ``1e-12 * max(1, |S|)`` of the exact value for the given
        floats, at any size of :math:`F` and :math:`q`, up to ``n`` of 1e6. Intermediates are in
        extended precision; where the platform has none, the bound holds up to ``n`` of about
        4000, and beyond that unless :math:`F + q` nearly is 1.

    Raises:
        ConfigError: If ``n`` is below 1 or not finite.

    Example:
        >>> import numpy as np
        >>> below = np.log([1 / 3, 2 / 3])  # middle and best of three equally likely rewards
        >>> (np.exp(log_bon_ratio(below, np.log(1 / 3), n=2)) * 3).round(12)
        array([3., 5.])
        >>> log_bon_ratio(float("-inf"), -2.0, n=4)
        -6.0
    """
    check_draws(n)
    arrays, restore = as_arrays(log_below, log_level, n)
    below, level, draws = (array.astype(np.longdouble) for array in arrays)
    with np.errstate(all="ignore"):  # branches that np.where discards may overflow
        odds = np.where(np.isneginf(level), -np.inf, level - below)  # log q/F, +inf where F = 0
        minor = np.exp(-np.abs(odds))  # min(q/F, F/q)
        growth = np.log1p(minor)
        exponent = draws * growth
        curve = _log_of_mean_exp(exponent) + np.where(minor > 0, np.log(growth / minor), 0)
        rare = np.log(draws) + (draws - 1) * below + curve
        common = (draws - 1) * level + exponent + np.log1p(-np.exp(-draws * (odds + growth)))
        ratio = np.where(odds <= 0, rare, common)
    return restore(np.where(draws == 1, 0, ratio))


def log_masses(rewards: Numeric, log_probs: Numeric) -> tuple[Numeric, Numeric]:
    r"""Log-masses of lower and of equal rewards, the arguments of :func:`log_bon_ratio`.

    Equal rewards share one level, :math:`q = P(r' = r)`: best-of-n chooses among them in proportion
    to their probability, as an argmax over independent draws does. For a fixed order among equal
    rewards (arXiv:2407.06057, appendix C) give distinct ranks as rewards.

    Args:
        rewards: Rewards of all strings of a finite language, shape ``[strings]``.
        log_probs: Their reference log-probabilities in nats, shape ``[strings]``, sum 1 in all.

    Returns:
        ``log_below`` and ``log_level``, float64, shape ``[strings]``, nats.

    Raises:
        DataError: If shapes differ or a reward is NaN.

    Example:
        >>> import numpy as np
        >>> below, level = log_masses(np.array([0.0, 1.0, 1.0]), np.log([0.5, 0.25, 0.25]))
        >>> np.exp(below), np.exp(level)
        (array([0. , 0.5, 0.5]), array([0.5, 0.5, 0.5]))
    """
    (rewards, log_probs), restore = as_arrays(rewards, log_probs)
    if rewards.ndim != 1 or rewards.shape != log_probs.shape or not rewards.size:
        raise DataError(
            f"rewards: need one reward and one log-prob per string in two arrays [strings],"
            f" got shapes {rewards.shape} and {log_probs.shape}"
        )
    if np.isnan(rewards).any():
        raise DataError(f"rewards: NaN for {int(np.isnan(rewards).sum())} strings; drop or rescore")
    order = np.argsort(rewards, kind="stable")
    ranked = rewards[order]
    starts = np.append(True, ranked[1:] != ranked[:-1])
    edges = np.flatnonzero(starts)
    mass = log_probs[order].astype(np.longdouble)
    level = np.logaddexp.reduceat(mass, edges)
    below = np.concatenate([[-np.inf], np.logaddexp.accumulate(level)[:-1]])
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.cumsum(starts) - 1
    return restore(below[rank]), restore(level[rank])


def cap_log_below(log_below: Numeric, log_level: Numeric) -> Numeric:
    r"""Estimated :math:`\log F` capped at its largest possible value :math:`\log(1 - q)`.

    Estimates from draws may have :math:`F + q > 1`, which no distribution has, and hence
    :func:`log_bon_ratio` above its maximum. The cap matters for short strings alone.

    Args:
        log_below: Estimate of :math:`\log F` in nats.
        log_level: :math:`\log q` in nats; the two broadcast.

    Returns:
        :math:`\min(\log F, \log(1 - q))` in nats, float64, without gradient.

    Example:
        >>> import math
        >>> round(math.exp(cap_log_below(0.0, math.log(0.25))), 12)
        0.75
    """
    (below, level), restore = as_arrays(log_below, log_level)
    with np.errstate(divide="ignore"):
        return restore(np.minimum(below, np.log(-np.expm1(np.minimum(level, 0.0)))))


def floored(log_below: Numeric, num_draws: Number = 1e6) -> Numeric:
    r"""Exact :math:`\log F` with the floor of `add1` for many draws.

    Strings of lowest reward have :math:`F = 0`, so that the bounds L and L1 are ``-inf`` for every
    policy with full support. With :math:`M` ``num_draws`` this is
    :math:`\log \frac{M F + 1}{M + 1}`, finite and off by less than :math:`1 / (M F)`.

    Args:
        log_below: :math:`\log F` in nats, any shape.
        num_draws: The :math:`M` of the floor.

    Returns:
        Float64 of the same shape, without gradient.

    Example:
        >>> round(floored(float("-inf"), num_draws=99), 4)  # log 1/100
        -4.6052
    """
    (below,), restore = as_arrays(log_below)
    raised = np.logaddexp(below + np.log(num_draws), 0.0) - np.log(num_draws + 1)
    return restore(np.minimum(raised, 0.0))


def kl_with_ties(pool: Numeric, n: Number) -> Numeric:
    r"""KL divergence of best-of-n from the reference, where responses may share rewards.

    Rewards that a pool has once count as distinct, and the mass below a draw as uniform in the gap
    to the next: without ties this is the closed form :math:`\log n - (n - 1) / n`. A reward that
    :math:`k \ge 2` of :math:`M` draws share has the mass :math:`q = k / M`, on which the log-ratio
    is :math:`S` of :func:`log_bon_ratio`.

    Args:
        pool: Independent draws on the last axis, shape ``[..., M]``, in any order.
        n: Number of draws of best-of-n, real, at least 1.

    Returns:
        Estimates in nats of shape ``[...]``, float64; they are never above the closed form.

    Example:
        >>> round(kl_with_ties([0.0, 0.0, 1.0, 1.0], n=2).item(), 6)  # 1/4 and 3/4 against halves
        0.130812
        >>> abs(kl_with_ties([0.0, 1.0, 2.0, 3.0], n=4) - kl_upper_bound(4)).item() < 1e-12
        True
    """
    (pool,), restore = as_arrays(pool)
    check_draws(n)
    rows = pool.reshape(-1, pool.shape[-1])
    return restore(np.array([_kl_of(row, n) for row in rows]).reshape(pool.shape[:-1]))


def _kl_of(pool: np.ndarray, n: Number) -> float:
    counts = np.unique(pool, return_counts=True)[1]
    upto = np.cumsum(counts) / len(pool)
    below, level = upto - counts / len(pool), counts / len(pool)
    mass = upto**n - below**n
    with np.errstate(divide="ignore", invalid="ignore"):
        atoms = np.where(mass > 0, mass * (np.log(mass) - np.log(level)), 0.0)
        logs = [np.where(u > 0, u**n * np.log(u), 0.0) for u in (below, upto)]
    # The integral of f log f, where f = n u^(n - 1), from the mass below to the mass up to a level.
    gaps = mass * (np.log(n) - (n - 1) / n) + (n - 1) * (logs[1] - logs[0])
    return float(np.where(counts > 1, atoms, gaps).sum())


def expected_best(rewards: Numeric, n: Number) -> Numeric:
    r"""Mean reward of best-of-n, estimated without bias from a pool of :math:`M \ge n` draws.

    The mean of the maximum over all subsets of size :math:`n` is a weighted sum of the ascending
    rewards,

    .. math:: \sum_{i=n}^{M} \binom{i-1}{n-1} \binom{M}{n}^{-1} r_{(i)},

    with weights by their recurrence from :math:`n/M` at the top, which no :math:`M` overflows.

    Args:
        rewards: Independent draws on the last axis, shape ``[..., M]``, in any order.
        n: Number of draws of best-of-n, an integer from 1 to :math:`M`.

    Returns:
        Estimates of shape ``[...]``, float64, in the rewards' unit.

    Raises:
        ConfigError: If ``n`` is no integer from 1 to :math:`M`.
        DataError: If the pool is empty or a reward is NaN or infinite.

    Example:
        >>> round(expected_best([1.0, 2.0, 3.0], n=2).item(), 12)  # mean of max: 2, 3, 3
        2.666666666667
    """
    (rewards,), restore = as_arrays(rewards)
    size = rewards.shape[-1] if rewards.ndim else 0
    if not size:
        raise DataError("rewards: an empty pool has no best draw; sample at least n draws")
    if not np.isfinite(rewards).all():
        count = int((~np.isfinite(rewards)).sum())
        raise DataError(
            f"rewards: {count} NaN or infinite values in the pool; drop or rescore them"
        )
    if not 1 <= n <= size or int(n) != n:
        raise ConfigError(f"n: best-of-n from a pool needs an integer n in 1..{size}, got {n}")
    index = np.arange(size, 1, -1)
    weights = np.cumprod(np.concatenate([[n / size], np.maximum(index - n, 0) / (index - 1)]))
    return restore(np.sort(rewards, axis=-1) @ weights[::-1])


def _log_of_mean_exp(exponent: np.ndarray | np.generic) -> np.ndarray:
    r"""Log of :math:`(e^d - 1)/d`, the mean of :math:`e^t` over :math:`[0, d]`; 0 at 0."""
    small = np.log(np.expm1(exponent) / exponent)
    large = exponent + np.log1p(-np.exp(-exponent)) - np.log(exponent)
    return np.where(exponent == 0, 0, np.where(exponent < 1, small, large))

r"""Estimates of :math:`\log F`, the log-share of reference responses with a lower reward.

A response of reward :math:`r` is compared with a pool of :math:`M` reference draws for its prompt,
of which :math:`K` have a lower reward; :math:`K` is binomial with probability :math:`F`
(arXiv:2407.06057, equation 7). The estimators are different functions of :math:`K`:

============= ============================= ====================================================
name          estimate of log F             property
============= ============================= ====================================================
`add1`        log (K+1)/(M+1)               the paper's code; biased upwards where F < 1/M
`digamma`     psi(K+1) - psi(M+1)           bias :math:`\sum_{k>M} (1-F)^k / k`, least of a pool
`posterior`   psi(K+1) - psi(M+2)           mean under uniform F; averages -1 over the reference
`exponential` -a exp(-b r), at most 0       smooth; does not saturate above the pool's best
`shared`      psi(K+sP) - psi(M+s)          P: share below by a fit to all prompts, worth s draws
`ibs`         -H of (draws - 1)             unbiased; draws until one has a lower reward
============= ============================= ====================================================

The first three depend on ranks alone and are constant above the pool's best reward; `shared`
depends on ranks in the pools of all prompts together (:mod:`vbon.pool.shared`), `exponential` on
the rewards themselves: a monotone map of them changes it. Rewards and pools are numbers, NumPy
arrays or tensors; the result is of their kind, float64.
"""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float64, Int64
from scipy.optimize import OptimizeWarning, curve_fit
from torch import Tensor

from vbon.errors import ConfigError, DataError
from vbon.objectives.arrays import Number, Numeric, as_arrays, as_tensors

_BY_RANK: dict[str, Callable[[Tensor, int], Tensor]] = {
    "add1": lambda below, size: torch.log((below + 1) / (size + 1)),
    "digamma": lambda below, size: _digamma_gap(below + 1, size + 1),
    "posterior": lambda below, size: _digamma_gap(below + 1, size + 2),
}

ESTIMATORS = (*_BY_RANK, "exponential", "shared", "ibs")
"""Names accepted by :func:`estimate`."""

RANK_BASED = tuple(_BY_RANK)
"""Estimators of one pool that a strictly increasing map of all rewards leaves unchanged, bit for
bit."""

POOL_ESTIMATORS = (*_BY_RANK, "exponential")
"""Estimators that need only a prompt's pool."""


class FitWarning(UserWarning):
    """An exponential curve could not be fitted; `add1` replaces it."""


def estimate(
    rewards: Numeric,
    sorted_rewards: Numeric | Callable,
    estimator: str = "add1",
    coefficients: tuple[Numeric, Numeric] | None = None,
    prior: tuple[Numeric, Number] | None = None,
) -> Numeric:
    r"""Estimate of :math:`\log F` for each reward, in nats, at most 0.

    Args:
        rewards: Rewards, any shape against one pool; ``[batch]`` or ``[batch, draws]`` against a
            pool per row.
        sorted_rewards: Ascending rewards of the pool, ``[M]`` or ``[batch, M]``. For ``"ibs"`` the
            sampler that :func:`ibs` takes.
        estimator: One of :data:`ESTIMATORS`.
        coefficients: ``(a, b)`` of ``"exponential"`` as :func:`fit_exponential` gives them, one
            number or one per row; fitted here if None, with a :class:`FitWarning` where that fails.
            Where they are NaN, `add1` replaces the curve.
        prior: For ``"shared"``: the share of reference responses below each reward by the fit to
            all prompts, in the shape of ``rewards``, and the number of draws that it is worth.

    Returns:
        Estimates in the shape of ``rewards``.

    Raises:
        ConfigError: If the estimator is unknown, or does not fit the other arguments.
        DataError: If a reward is NaN, or a pool has fewer than two draws, is not ascending, or of
            another batch.

    Example:
        >>> import numpy as np
        >>> pool = np.array([0.0, 1.0, 2.0])
        >>> np.exp(estimate(np.array([-1.0, 1.0, 1.5, 9.0]), pool))
        array([0.25, 0.5 , 0.75, 1.  ])
        >>> round(estimate(1.5, pool.tolist(), "digamma").item(), 4)
        -0.3333
    """
    if estimator not in ESTIMATORS:
        known = ", ".join(ESTIMATORS)
        raise ConfigError(f"logf.estimator: unknown estimator {estimator!r}; known: {known}")
    if estimator == "ibs":
        return ibs(rewards, sorted_rewards)
    values, pool, restore = _checked(rewards, sorted_rewards)
    size = pool.shape[-1]
    if size < 2:
        raise DataError("sorted_rewards: one draw is no distribution; give pools of 2 or more")
    below = _search(values, pool, right=False).double()
    if estimator in _BY_RANK:
        return restore(_BY_RANK[estimator](below, size))
    if estimator == "shared":
        return restore(_shared(below, size, prior))
    if coefficients is None:
        coefficients = _fitted(pool)
    scale, rate = (
        torch.as_tensor(value, dtype=torch.float64, device=values.device) for value in coefficients
    )
    if scale.ndim and values.ndim > scale.ndim:
        scale, rate = scale.unsqueeze(-1), rate.unsqueeze(-1)
    smooth = (-scale * torch.exp(-rate * values)).clamp(max=0.0)
    return restore(torch.where(scale.isnan(), _BY_RANK["add1"](below, size), smooth))


def _shared(
    below: Float64[Tensor, "*batch"], size: int, prior: tuple[Numeric, Number] | None
) -> Float64[Tensor, "*batch"]:
    """Posterior mean of log F, with a Beta prior whose mean is the prior's share."""
    if prior is None:
        raise ConfigError("logf.estimator: shared needs the fit to all prompts; give prior")
    options = {"dtype": torch.float64, "device": below.device}
    share, worth = (torch.as_tensor(value, **options) for value in prior)
    if share.shape != below.shape or not ((share > 0) & (share < 1)).all() or not worth > 0:
        raise DataError(
            f"prior: expected shares between 0 and 1 of shape {tuple(below.shape)} and a positive "
            f"number of draws, got shape {tuple(share.shape)} and {worth.item()}"
        )
    return torch.digamma(below + worth * share) - torch.digamma(size + worth)


def _fitted(pool: Float64[Tensor, "*rows draws"]) -> np.ndarray:
    """Coefficients of each row's exponential curve, NaN where there is none."""
    fits = [fit_exponential(row)[:2] for row in pool.reshape(-1, pool.shape[-1]).cpu().numpy()]
    failed = int(np.isnan(fits).any(1).sum())
    if failed:
        warnings.warn(
            f"{failed} of {len(fits)} pools have no exponential fit; add1 replaces it",
            FitWarning,
            stacklevel=3,
        )
    return np.reshape(np.transpose(fits), (2, *pool.shape[:-1]))


def counts(rewards: Numeric, sorted_rewards: Numeric) -> tuple[Numeric, Numeric]:
    """Numbers of pool draws below and equal to each reward.

    Args:
        rewards: As in :func:`estimate`.
        sorted_rewards: As in :func:`estimate`.

    Returns:
        ``num_below`` and ``num_level``, int64, in the shape of ``rewards``. Against a pool of M,
        the response's win rate with ties half is ``(num_below + num_level / 2) / M``.

    Raises:
        DataError: As in :func:`estimate`.

    Example:
        >>> counts(1.0, [0.0, 1.0, 1.0, 2.0])
        (array(1), array(2))
    """
    values, pool, restore = _checked(rewards, sorted_rewards)
    below = _search(values, pool, right=False)
    return restore(below), restore(_search(values, pool, right=True) - below)


def fit_exponential(sorted_rewards: Numeric) -> tuple[float, float, float]:
    r"""Least-squares fit of :math:`\log F(r) = -a e^{-b r}` to one pool.

    The points are the ascending rewards with :math:`\log(i / (M+1))`, i = 1..M (arXiv:2407.06057,
    footnote 18). The curve is the log-CDF of a Gumbel distribution.

    Args:
        sorted_rewards: Ascending rewards of the pool, shape ``[M]``.

    Returns:
        ``a``, ``b`` and the root of the mean squared error in nats; three NaNs if the pool has
        fewer than three distinct rewards, the fit fails, or ``a`` overflows because the rewards
        lie hundreds of standard deviations from 0. :func:`estimate` then falls back on `add1`.

    Raises:
        DataError: As in :func:`estimate`.

    Example:
        >>> import numpy as np
        >>> target = np.log(np.arange(1, 100) / 100)
        >>> a, b, rmse = fit_exponential(-np.log(-target / 2) / 3)  # exactly -2 exp(-3 r)
        >>> round(a, 6), round(b, 6), round(rmse, 6)
        (2.0, 3.0, 0.0)
    """
    (pool,), _ = as_arrays(sorted_rewards)
    _checked(pool[:0], pool)
    failed = (float("nan"),) * 3
    if len(np.unique(pool)) < 3 or not np.isfinite(pool).all():
        return failed
    log_shares = np.log(np.arange(1, len(pool) + 1) / (len(pool) + 1))
    centre, spread = pool.mean(), pool.std()
    scores = (pool - centre) / spread  # the same problem on a scale where exp cannot overflow

    def curve(x: np.ndarray, a: float, b: float) -> np.ndarray:
        return -a * np.exp(-b * x)

    def jacobian(x: np.ndarray, a: float, b: float) -> np.ndarray:
        decay = np.exp(-b * x)
        return np.stack([-decay, a * x * decay], axis=1)

    start = (-log_shares.mean(), 0.5)
    try:
        with np.errstate(over="raise", invalid="raise"):
            (a, b), _ = curve_fit(curve, scores, log_shares, start, jac=jacobian, maxfev=5000)
            error = np.minimum(curve(scores, a, b), 0) - log_shares
            a, b = a * np.exp(b / spread * centre), b / spread
    except (RuntimeError, FloatingPointError, OptimizeWarning):
        return failed
    return float(a), float(b), float(np.sqrt(np.mean(error**2)))


def ibs(
    rewards: Numeric,
    draw_rewards: Callable[[np.ndarray], Numeric] | Numeric,
    max_draws: int = 100_000,
    truncated: bool = False,
) -> Numeric:
    r"""Unbiased estimate of :math:`\log F` by inverse binomial sampling.

    References are drawn until one has a lower reward, at draw :math:`T`; the estimate
    :math:`-\sum_{k=1}^{T-1} 1/k` has mean :math:`\log F` (van Opheusden et
    al., arXiv:2001.03985). It costs :math:`1/F` draws on average.

    Args:
        rewards: Rewards, any shape.
        draw_rewards: Called with the flat positions of the rewards still searching, int64
            ``[k]``; returns rewards of fresh reference draws for each one's prompt, ``[k]`` or,
            where it is cheaper to draw several at a time, ``[k, draws]``.
        max_draws: Draws after which the search for a lower reward stops.
        truncated: Estimate :math:`-\sum_{k=1}^{m} 1/k`, m ``max_draws``, for a reward without a
            lower one, instead of refusing it; the mean is that of `digamma` with a pool of size m.

    Returns:
        Estimates in nats, in the shape and kind of ``rewards``.

    Raises:
        ConfigError: If ``draw_rewards`` is not callable.
        DataError: If a reward is NaN, or has no lower draw among ``max_draws``.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> values = ibs(np.full(20_000, 0.4), lambda active: rng.uniform(size=len(active)))
        >>> bool(abs(values.mean() - np.log(0.4)) < 0.018)  # 3 standard errors
        True
    """
    if not callable(draw_rewards):
        raise ConfigError("logf.estimator: ibs takes a sampler of rewards, not a pool of them")
    (values,), restore = as_arrays(rewards)
    flat = values.reshape(-1)
    _refuse_nan(flat, "rewards")
    misses = np.zeros(len(flat), dtype=np.int64)  # draws before the first with a lower reward
    active, drawn_each = np.arange(len(flat)), 0
    while len(active) and drawn_each < max_draws:
        (drawn,), _ = as_arrays(draw_rewards(active))
        _refuse_nan(drawn, "draw_rewards")
        drawn = drawn.reshape(len(active), -1)[:, : max_draws - drawn_each]
        lower = drawn < flat[active, None]
        ended = lower.any(1)
        misses[active] += np.where(ended, lower.argmax(1), drawn.shape[1])
        drawn_each += drawn.shape[1]
        active = active[~ended]
    if truncated or not len(active):
        harmonic = np.append(0.0, np.cumsum(1 / np.arange(1, misses.max(initial=0) + 1)))
        return restore(-harmonic[misses].reshape(values.shape))
    raise DataError(
        f"rewards: {len(active)} of {len(flat)} have no lower reference reward in {max_draws}"
        " draws; raise max_draws or use a pool estimator"
    )


def _checked(
    rewards: Numeric, sorted_rewards: Numeric | Callable
) -> tuple[Tensor, Tensor, Callable]:
    """Float64 rewards and pool of matching shapes, and the function that restores their kind."""
    if callable(sorted_rewards):
        raise ConfigError("logf.estimator: only ibs takes a sampler; give a pool of rewards")
    (values, pool), restore = as_tensors(rewards, sorted_rewards)
    values, pool = values.detach().double(), pool.detach().double()
    if not pool.ndim or not pool.shape[-1]:
        raise DataError("sorted_rewards: the pool is empty; sample reference responses first")
    _refuse_nan(values, "rewards")
    _refuse_nan(pool, "sorted_rewards")
    if (pool[..., 1:] < pool[..., :-1]).any():
        raise DataError("sorted_rewards: not ascending; sort each pool on its last axis")
    rows = pool.shape[:-1]
    if rows and (values.shape[: len(rows)] != rows or values.ndim > len(rows) + 1):
        raise DataError(
            f"sorted_rewards: pools of shape {tuple(pool.shape)} serve rewards of shape"
            f" {tuple(rows)} or {(*rows, 'draws')}, got {tuple(values.shape)}"
        )
    return values, pool, restore


def _search(
    values: Float64[Tensor, "*batch"], pool: Float64[Tensor, "*rows draws"], right: bool
) -> Int64[Tensor, "*batch"]:
    """Number of pool entries below each value, or at most each value if ``right``."""
    if pool.ndim == 1:
        return torch.searchsorted(pool, values.contiguous(), right=right)
    single = values.ndim == pool.ndim - 1
    queries = (values.unsqueeze(-1) if single else values).contiguous()
    ranks = torch.searchsorted(pool.contiguous(), queries, right=right)
    return ranks.squeeze(-1) if single else ranks


def _digamma_gap(low: Tensor, high: int) -> Tensor:
    """Digamma of ``low`` minus digamma of ``high``."""
    return torch.digamma(low) - torch.digamma(low.new_tensor(float(high)))


def _refuse_nan(values: Tensor | np.ndarray, column: str) -> None:
    """Raise ``DataError`` if ``values`` has a NaN."""
    missing = int((values != values).sum())
    if missing:
        raise DataError(f"{column}: {missing} values are NaN; drop or rescore them")

r"""Closed forms of the trade-off plane: best-of-n and the model-free win-rate frontier.

With a continuous reward, the quantile :math:`U = F(r(Y))` of a reference response is uniform on
[0, 1], and a policy that depends on the response through its reward alone is a density :math:`g`
on that interval, with :math:`\mathrm{KL} = \int g \log g` and win rate :math:`\int u\, g(u)\, du`.
Best-of-n is :math:`g(u) = n u^{n-1}`; the largest win rate at a given KL belongs to the exponential
tilt :math:`g(u) = c\, e^{cu} / (e^c - 1)`. Functions take numbers, NumPy arrays or tensors and
return the same kind; PyTorch is not imported.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import zeta

from vbon.errors import ConfigError
from vbon.objectives.arrays import Numeric, as_arrays, check_draws

_SERIES_BELOW = 0.5  # half-tilt under which the power series replaces formulas that cancel there
_ORDERS = np.arange(1, 13)  # twelve terms: the next one is below 1e-19 of the first
_COTH = np.where(_ORDERS % 2 == 1, 2.0, -2.0) * zeta(2 * _ORDERS) / np.pi ** (2 * _ORDERS)
_MAX_KL = 300.0  # nats; the frontier is 1 in float64 from about 37 on, and exp(2 * 300) still fits
_NEWTON_STEPS = 40  # an upper limit; at most nine are taken anywhere on the tested range


def kl_upper_bound(n: Numeric) -> Numeric:
    r"""Upper bound on KL(best-of-n ‖ reference), in nats.

    .. math:: \mathrm{KL}(\pi_\mathrm{bon} \,\|\, \pi_\mathrm{ref}) \le \log n - \frac{n - 1}{n}

    with equality when rewards are continuous (Beirami et al., arXiv:2401.01879, theorem 1).
    It is the horizontal position of the best-of-n curve in the figures of arXiv:2407.06057,
    conservative for best-of-n where responses have sizeable probability.

    Args:
        n: Number of draws, any real numbers of at least 1.

    Raises:
        ConfigError: If any ``n`` is below 1 or not finite.

    Example:
        >>> round(kl_upper_bound(4), 4)
        0.6363
        >>> kl_upper_bound([1, 2]).round(4).tolist()
        [0.0, 0.1931]
    """
    check_draws(n)
    (draws,), restore = as_arrays(n)
    return restore(np.log(draws) - (draws - 1) / draws)


def is_closed_form(n: Numeric, kl: Numeric) -> bool:
    """Return True if measured KLs of best-of-n are the bound, as without ties, or there are none.

    Example:
        >>> is_closed_form([2, 4], [0.19314718, 0.63629436]), is_closed_form([4], [0.5])
        (True, False)
    """
    (draws, measured), _ = as_arrays(n, kl)
    finite = np.isfinite(draws) & np.isfinite(measured)
    return bool(np.allclose(measured[finite], kl_upper_bound(draws[finite]), atol=1e-6))


def win_rate(n: Numeric) -> Numeric:
    r"""Win rate of best-of-n against the reference, ties counted half.

    .. math:: P(r(Y_\mathrm{bon}) > r(Y_\mathrm{ref})) = \frac{n}{n + 1}

    exact when rewards are continuous, an upper bound when they are not (arXiv:2407.06057,
    section 5).

    Args:
        n: Number of draws, any real numbers of at least 1; ``n = 1`` is the reference, at 1/2.

    Raises:
        ConfigError: If any ``n`` is below 1 or not finite.

    Example:
        >>> win_rate(3)
        0.75
    """
    check_draws(n)
    (draws,), restore = as_arrays(n)
    return restore(draws / (draws + 1))


def win_rate_frontier(kl: Numeric) -> Numeric:
    r"""Largest win rate against the reference that any policy can have at a KL divergence.

    The maximiser of :math:`\int u\, g` under :math:`\int g \log g = \mathrm{KL}` is the density
    :math:`g(u) = c\, e^{cu} / (e^c - 1)` on the reward quantile, so that

    .. math::
        w = \frac{1}{1 - e^{-c}} - \frac{1}{c}, \qquad
        \mathrm{KL} = \log c - c - \log(1 - e^{-c}) + c\, w .

    The map is concave with slope :math:`1/c`, hence it also bounds averages over prompts. No
    property of a model enters: a measured point above it by more than its error reveals a biased
    estimator. Ties can only lower what is reachable.

    Args:
        kl: KL(policy ‖ reference) per response in nats, non-negative; NaN gives NaN.

    Returns:
        Win rate in [0.5, 1] with the shape of ``kl``, within 1e-14 of the exact value.

    Raises:
        ConfigError: If any ``kl < 0``.

    Example:
        >>> round(win_rate_frontier(kl_upper_bound(2)), 4)  # best-of-2 itself wins 0.6667
        0.6759
        >>> win_rate_frontier([0.0, 10.0]).round(5).tolist()
        [0.5, 0.99998]
    """
    (values,), restore = as_arrays(kl)
    flat = values.reshape(-1)  # numpy turns zero-dimensional results into scalars
    if np.any(flat < 0):
        raise ConfigError(f"kl: the frontier needs KL >= 0 nats, got {np.nanmin(flat):g}")
    capped = np.clip(flat, 1e-300, _MAX_KL)  # in float64 the win rates at both ends are 1/2 and 1
    target = np.log(capped)
    # log KL is concave in the log tilt, so Newton's steps rise to the root from the left.
    log_tilt = np.where(capped > 1, capped + 1 - np.log(2), 0.5 * (np.log(6) + target))
    for _ in range(_NEWTON_STEPS):
        tilt = np.exp(log_tilt)
        value = _tilt_kl(tilt)
        step = (np.log(value) - target) / (tilt**2 * _langevin_slope(tilt) / value)
        log_tilt = log_tilt - step
        if not np.any(np.abs(step) > 1e-15 * np.maximum(np.abs(log_tilt), 1)):  # NaN is done
            break
    return restore((0.5 + 0.5 * _langevin(np.exp(log_tilt))).reshape(values.shape))


def kl_frontier(win_rate: Numeric) -> Numeric:
    r"""Smallest KL divergence at which any policy can have a win rate, in nats.

    The inverse of :func:`win_rate_frontier`. A policy's *excess KL* is its KL minus this number at
    its own win rate.

    Args:
        win_rate: Win rate against the reference, ties counted half, in [0, 1]; NaN gives NaN.

    Returns:
        KL in nats with the shape of ``win_rate``: 0 up to 1/2, ``inf`` at 1.

    Raises:
        ConfigError: If any value is outside of [0, 1].

    Example:
        >>> round(kl_frontier(0.8), 4)  # best-of-4 has this win rate at 0.6363 nats
        0.6169
        >>> round(win_rate_frontier(kl_frontier(0.9)), 12)
        0.9
    """
    (values,), restore = as_arrays(win_rate)
    rate = values.reshape(-1)
    if np.any((rate < 0) | (rate > 1)):
        worst = rate[(rate < 0) | (rate > 1)][0]
        raise ConfigError(f"win_rate: the frontier needs a win rate from 0 to 1, got {worst:g}")
    inside = np.where((rate > 0.5) & (rate < 1), rate, 0.75)
    gain, left = 2 * inside - 1, 2 * (1 - inside)
    # Cohen's approximation of the inverse Langevin function is within 5 per cent of the root.
    log_tilt = np.log(gain * (3 - gain**2) / (left * (1 + gain)))
    for _ in range(_NEWTON_STEPS):
        tilt = np.exp(log_tilt)
        value = _langevin(tilt)
        step = (value - gain) / (tilt * _langevin_slope(tilt))
        log_tilt = log_tilt - np.clip(step, -1, 1)
        if not np.any(np.abs(step) > 1e-14):
            break
    kl = np.where(rate > 0.5, np.where(rate < 1, _tilt_kl(np.exp(log_tilt)), np.inf), 0.0)
    return restore(np.where(np.isnan(rate), np.nan, kl).reshape(values.shape))


# In x = c / 2 the frontier is w = 1/2 + L(x) / 2 and KL = x L(x) - log(sinh(x) / x), where
# L(x) = coth(x) - 1/x is the Langevin function. Its power series has the coefficients
# (-1)^(k+1) 2 zeta(2k) / pi^(2k) at x^(2k-1); those of KL follow term by term.


def _langevin(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """coth(x) - 1/x for x > 0, to full relative precision."""
    return _piecewise(x, _COTH, -1, lambda big: 1 / np.tanh(big) - 1 / big)


def _langevin_slope(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Derivative of the Langevin function, 1/x**2 - 1/sinh(x)**2, for x > 0."""
    return _piecewise(
        x,
        _COTH * (2 * _ORDERS - 1),
        -2,
        lambda big: 1 / big**2 - 4 * np.exp(-2 * big) / np.expm1(-2 * big) ** 2,
    )


def _tilt_kl(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """KL of the tilt c = 2 x from the uniform density, in nats, to full relative precision."""
    return _piecewise(
        x,
        _COTH * (1 - 1 / (2 * _ORDERS)),
        0,
        lambda big: (
            np.log(2 * big)
            - 1
            - 2 * big * np.exp(-2 * big) / np.expm1(-2 * big)
            - np.log(-np.expm1(-2 * big))
        ),
    )


def _piecewise(
    x: npt.NDArray[np.float64], coefficients: npt.NDArray[np.float64], shift: int, formula: Any
) -> npt.NDArray[np.float64]:
    """Sum of the coefficients times x**(2k + shift) for small x, the formula elsewhere."""
    small = x < _SERIES_BELOW
    near = np.where(small, x, 0.25)
    series = sum(a * near ** (2 * k + shift) for a, k in zip(coefficients, _ORDERS, strict=True))
    return np.where(small, series, formula(np.where(small, 1.0, x)))

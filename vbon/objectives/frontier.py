r"""Closed forms of the trade-off plane: best-of-n and the model-free win-rate frontier.

Everything here follows from one fact. With a continuous reward, the quantile
:math:`U = F(r(Y))` of a reference response is uniform on [0, 1], and a policy that depends on
the response through its reward alone is a density :math:`g` on that interval, with
:math:`\mathrm{KL} = \int g \log g` and win rate :math:`\int u\, g(u)\, du`. Best-of-n is
:math:`g(u) = n u^{n-1}`; the largest win rate at a given KL belongs to the exponential tilt
:math:`g(u) = c\, e^{cu} / (e^c - 1)`. Only numpy and scipy are imported, so that figures and
tables need no deep-learning library.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import zeta

Numbers = npt.ArrayLike | float | int | Sequence[float] | Sequence[int]
"""One number or many; spelt out because a runtime checker reads numpy's alias literally."""

Values = float | npt.NDArray[np.float64]
"""A number for a number, an array of the same shape for an array."""

_SERIES_BELOW = 0.5  # half-tilt under which the power series replaces formulas that cancel there
_ORDERS = np.arange(1, 13)  # twelve terms: the next one is below 1e-19 of the first
_COTH = np.where(_ORDERS % 2 == 1, 2.0, -2.0) * zeta(2 * _ORDERS) / np.pi ** (2 * _ORDERS)
_MAX_KL = 300.0  # nats; the frontier is 1 in float64 from about 37 on, and exp(2 * 300) still fits
_NEWTON_STEPS = 40  # an upper limit; at most nine are taken anywhere on the tested range


def kl_upper_bound(n: Numbers) -> Values:
    r"""Upper bound on KL(best-of-n ‖ reference), in nats.

    .. math:: \mathrm{KL}(\pi_\mathrm{bon} \,\|\, \pi_\mathrm{ref}) \le \log n - \frac{n - 1}{n}

    with equality when rewards are continuous (Beirami et al., arXiv:2401.01879, theorem 1).
    It is the horizontal position of the best-of-n curve in the figures of arXiv:2407.06057,
    conservative for best-of-n where responses have sizeable probability.

    Args:
        n: Number of draws, any real numbers of at least 1.

    Returns:
        Bound in nats, with the shape of ``n``; a float for a number.

    Raises:
        ValueError: If any ``n < 1``.

    Example:
        >>> round(kl_upper_bound(4), 4)
        0.6363
        >>> kl_upper_bound([1, 2]).round(4).tolist()
        [0.0, 0.1931]
    """
    draws = _draws(n)
    return _as_given(np.log(draws) - (draws - 1) / draws, n)


def win_rate(n: Numbers) -> Values:
    r"""Win rate of best-of-n against the reference, ties counted half.

    .. math:: P(r(Y_\mathrm{bon}) > r(Y_\mathrm{ref})) = \frac{n}{n + 1}

    exact when rewards are continuous, an upper bound when they are not (arXiv:2407.06057,
    section 5).

    Args:
        n: Number of draws, any real numbers of at least 1; ``n = 1`` is the reference, at 1/2.

    Returns:
        Probability with the shape of ``n``; a float for a number.

    Raises:
        ValueError: If any ``n < 1``.

    Example:
        >>> win_rate(3)
        0.75
    """
    draws = _draws(n)
    return _as_given(draws / (draws + 1), n)


def win_rate_frontier(kl: Numbers) -> Values:
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
        ValueError: If any ``kl < 0``.

    Example:
        >>> round(win_rate_frontier(kl_upper_bound(2)), 4)  # best-of-2 itself wins 0.6667
        0.6759
        >>> win_rate_frontier([0.0, 10.0]).round(5).tolist()
        [0.5, 0.99998]
    """
    flat = _flat(kl)
    if np.any(flat < 0):
        raise ValueError(f"kl: the frontier needs KL >= 0 nats, got {np.nanmin(flat):g}")
    capped = np.clip(
        flat, 1e-300, _MAX_KL
    )  # in float64 the win rate at both ends is that of 0, inf
    target = np.log(capped)
    # log KL is concave in the log tilt, so Newton's steps rise to the root from the left.
    start = np.where(capped > 1, capped + 1 - np.log(2), 0.5 * (np.log(6) + target))

    def residual(log_tilt: npt.NDArray[np.float64]) -> tuple[Any, Any]:
        tilt = np.exp(log_tilt)
        value = _tilt_kl(tilt)
        return np.log(value) - target, tilt**2 * _langevin_slope(tilt) / value

    tilt = np.exp(_newton(residual, start))
    return _as_given(0.5 + 0.5 * _langevin(tilt), kl)


def kl_frontier(win_rate: Numbers) -> Values:
    r"""Smallest KL divergence at which any policy can reach a win rate, in nats.

    The inverse of :func:`win_rate_frontier`. A policy's *excess KL* is its KL minus this number
    at its own win rate: what it pays beyond the cheapest way to win as often.

    Args:
        win_rate: Win rate against the reference with ties counted half, in [0, 1]; NaN gives NaN.

    Returns:
        KL in nats with the shape of ``win_rate``: 0 up to 1/2, ``inf`` at 1. The relative error
        is below 1e-12 wherever the win rate itself carries that precision.

    Raises:
        ValueError: If any value lies outside [0, 1].

    Example:
        >>> round(kl_frontier(0.8), 4)  # best-of-4 wins as often at 0.6363 nats
        0.6169
        >>> float(win_rate_frontier(kl_frontier(0.9)))
        0.9
    """
    rate = _flat(win_rate)
    if np.any((rate < 0) | (rate > 1)):
        worst = rate[(rate < 0) | (rate > 1)][0]
        raise ValueError(f"win_rate: must lie in [0, 1], got {worst:g}")
    inside = np.where((rate > 0.5) & (rate < 1), rate, 0.75)
    gain, left = 2 * inside - 1, 2 * (1 - inside)  # both exact for rates of at least 1/2
    target = np.log(gain / left)
    # Cohen's rational approximation of the inverse Langevin function is within 5 per cent.
    start = np.log(gain * (3 - gain**2) / (left * (1 + gain)))

    def residual(log_tilt: npt.NDArray[np.float64]) -> tuple[Any, Any]:
        tilt = np.exp(log_tilt)
        value, rest = _langevin(tilt), _langevin_rest(tilt)
        return np.log(value / rest) - target, tilt * _langevin_slope(tilt) / (value * rest)

    value = _tilt_kl(np.exp(_newton(residual, start)))
    value = np.where(rate > 0.5, np.where(rate < 1, value, np.inf), 0.0)
    return _as_given(np.where(np.isnan(rate), np.nan, value), win_rate)


def _newton(residual: Any, start: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Root of a vectorised residual that returns (value, slope), from a start near it."""
    point = start
    for _ in range(_NEWTON_STEPS):
        value, slope = residual(point)
        step = value / slope
        point = point - step
        if not np.any(np.abs(step) > 1e-15 * np.maximum(np.abs(point), 1)):  # NaN counts as done
            break
    return point


# In x = c / 2 the frontier is w = 1/2 + L(x) / 2 and KL = x L(x) - log(sinh(x) / x), where
# L(x) = coth(x) - 1/x is the Langevin function. Its power series has the coefficients
# (-1)^(k+1) 2 zeta(2k) / pi^(2k) at x^(2k-1); those of KL follow term by term.


def _langevin(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """coth(x) - 1/x for x > 0, to full relative precision."""
    return _piecewise(x, _COTH, -1, lambda big: 1 / np.tanh(big) - 1 / big)


def _langevin_rest(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """1 - coth(x) + 1/x for x > 0, which must not cancel where the function nears 1."""
    formula = 1 / x + 2 * np.exp(-2 * x) / np.expm1(-2 * x)
    return np.where(x < _SERIES_BELOW, 1 - _langevin(x), formula)


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
    x: npt.NDArray[np.float64],
    coefficients: npt.NDArray[np.float64],
    shift: int,
    formula: Any,
) -> npt.NDArray[np.float64]:
    """Sum of the coefficients times x**(2k + shift) for small x, the formula elsewhere."""
    small = x < _SERIES_BELOW
    near = np.where(small, x, 0.25)
    series = sum(a * near ** (2 * k + shift) for a, k in zip(coefficients, _ORDERS, strict=True))
    return np.where(small, series, formula(np.where(small, 1.0, x)))


def _draws(n: Numbers) -> npt.NDArray[np.float64]:
    """Numbers of draws as a flat float64 array, refused below 1."""
    draws = _flat(n)
    if np.any(draws < 1):
        raise ValueError(f"n: best-of-n needs n >= 1 draws, got {np.nanmin(draws):g}")
    return draws


def _flat(values: Numbers) -> npt.NDArray[np.float64]:
    """One-dimensional float64 array: numpy turns zero-dimensional ones into scalars on the way."""
    return np.asarray(values, dtype=np.float64).reshape(-1)


def _as_given(flat: npt.NDArray[np.float64], like: Numbers) -> Values:
    """A float where a number came in, an array of its shape otherwise."""
    return float(flat[0]) if np.ndim(like) == 0 else flat.reshape(np.shape(like))

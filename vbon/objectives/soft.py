r"""Soft best-of-n: of n draws, one is returned by chance, those of high rewards more often.

Draw i of n is returned with probability :math:`e^{\lambda u_i} / \sum_j e^{\lambda u_j}`, u the
quantile of its reward: its win rate over the reference (Verdun et al., arXiv:2505.03156). As
:math:`1 / x = \int_0^\infty e^{-tx}\, dt`, a response has the probability ratio

.. math:: \frac{\pi(y)}{\pi_\mathrm{ref}(y)} = n \int_0^\infty e^{\lambda u - t e^{\lambda u}}
    \varphi(t)^{n-1}\, dt, \qquad \varphi(t) = E_\mathrm{ref}\left[e^{-t e^{\lambda u}}\right].

The trapezoidal rule in log t gives it to 1e-12, for a finite language or for the uniform u of
continuous rewards. With :math:`n \to \infty` it is the tilt of the win-rate frontier, with
:math:`\lambda \to \infty` best-of-n.
"""

from functools import cache

import numpy as np
from scipy.special import logsumexp

from vbon.objectives.arrays import Number, Numeric, as_arrays, check_draws

_STEP = 0.2  # in log t; the rule's error is of order e^(-pi^2 / step)
_NODES = 400  # of Gauss and Legendre's rule for continuous rewards


def log_ratio(
    win_rates: Numeric,
    n: Number,
    tilt: Number,
    language: tuple[Numeric, Numeric] | None = None,
) -> Numeric:
    r"""Log-ratio of soft best-of-n to the reference, in nats.

    Args:
        win_rates: Win rates of responses over the reference, ties half, shape ``[responses]``.
        n: Number of draws, real, at least 1.
        tilt: Their :math:`\lambda`, at least 0 and up to about 100.
        language: Win rates and log-probs of all strings under the reference; None for continuous
            rewards.

    Raises:
        ConfigError: If ``n`` is below 1 or not finite.

    Example:
        >>> import numpy as np
        >>> ratio = log_ratio([0.25, 0.75], 2, 2 * np.log(3), ([0.25, 0.75], np.log([0.5, 0.5])))
        >>> np.exp(ratio).round(12)  # pairs: two equal, or 1/4 against 3/4
        array([0.75, 1.25])
    """
    check_draws(n)
    (rates, all_rates, log_probs), restore = as_arrays(win_rates, *(language or _uniform()))
    log_t = np.arange(-tilt - 38 - np.log(n), 5, _STEP)
    with np.errstate(under="ignore", divide="ignore"):
        decays = np.exp(tilt * all_rates[:, None] + log_t)
        log_phi = logsumexp(log_probs[:, None] - decays, axis=0)
        exponent = tilt * rates[..., None] + log_t
        terms = exponent - np.exp(exponent) + (n - 1) * log_phi
    return restore(logsumexp(terms, axis=-1) + np.log(n * _STEP))


def kl(n: Number, tilt: Number) -> float:
    """KL divergence of soft best-of-n from the reference for continuous rewards, in nats.

    Arguments and errors as in :func:`log_ratio`.

    Example:
        >>> round(kl(4, tilt=0.0), 9)
        0.0
    """
    rates, log_weights = _uniform()
    ratio = log_ratio(rates, n, tilt)
    return max(float(np.exp(log_weights + ratio) @ ratio), 0.0)


def win_rate(n: Number, tilt: Number) -> float:
    """Win rate of soft best-of-n over the reference for continuous rewards.

    Arguments and errors as in :func:`log_ratio`.

    Example:
        >>> round(win_rate(4, tilt=0.0), 9)
        0.5
    """
    rates, log_weights = _uniform()
    return float(np.exp(log_weights + log_ratio(rates, n, tilt)) @ rates)


def kl_with_ties(pool: Numeric, n: Number, tilt: Number) -> Numeric:
    """KL divergence from the reference in nats, where responses share rewards.

    Args:
        pool: Independent draws on the last axis, shape ``[..., M]``, in any order.
        n: As in :func:`log_ratio`, as is ``tilt``.
        tilt: The exponent of win rates.

    Returns:
        Estimates of shape ``[...]``, float64: sums over the draws of the pool.
    """
    (pool,), restore = as_arrays(pool)
    log_probs, divergences = np.full(pool.shape[-1], -np.log(pool.shape[-1])), []
    for row in np.sort(pool.reshape(-1, pool.shape[-1])):
        edges = [np.searchsorted(row, row, side) for side in ("left", "right")]
        rates = np.mean(edges, axis=0) / len(row)
        ratio = log_ratio(rates, n, tilt, (rates, log_probs))
        divergences.append(np.mean(np.exp(ratio) * ratio))
    return restore(np.array(divergences).reshape(pool.shape[:-1]))


@cache
def _uniform() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and log-weights of a quadrature over the win rates of continuous rewards."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return (nodes + 1) / 2, np.log(weights / 2)

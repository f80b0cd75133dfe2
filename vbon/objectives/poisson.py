r"""Best-of-Poisson in closed form: best-of-n with a random number of draws.

The number of draws is 1 plus a Poisson number of mean :math:`\mu = n - 1`, so that n is its mean
(Khalaf et al., arXiv:2506.19248). With :math:`F` and :math:`q` the reference's probability of a
lower and of an equal reward, the mixture of best-of-k over k has the distribution function
:math:`G(u) = u\, e^{-\mu (1 - u)}` of the reward's quantile. Functions take numbers, NumPy arrays
or float64 tensors and return the same kind; PyTorch is not imported.
"""

import numpy as np
from scipy.special import expi

from vbon.objectives.arrays import Numeric, as_arrays, check_draws

_LARGE = 50.0  # from here on the asymptotic series of Ei has all digits


def log_ratio(log_below: Numeric, log_level: Numeric, n: Numeric) -> Numeric:
    r"""Log-ratio of best-of-Poisson to the reference.

    .. math:: \log \frac{G(F + q) - G(F)}{q}
        = -\mu (1 - F - q) + \log\left(1 + F\, \frac{1 - e^{-\mu q}}{q}\right)

    Args:
        log_below: :math:`\log F` in nats; ``-inf`` where no reward is lower.
        log_level: :math:`\log q` in nats. ``-inf`` gives the limit :math:`q \to 0`.
        n: Mean number of draws, real, at least 1. The three arguments broadcast.

    Returns:
        Nats, float64, without gradient.

    Raises:
        ConfigError: If ``n`` is below 1 or not finite.

    Example:
        >>> import numpy as np
        >>> ratio = log_ratio(np.log([0.5, 1e-300]), np.log([0.5, 0.5]), n=3)
        >>> round(float(np.exp(ratio).mean()), 12)  # two strings: the masses sum to 1
        1.0
    """
    check_draws(n)
    (below, level, draws), restore = as_arrays(log_below, log_level, n)
    mean, lower, equal = draws - 1, np.exp(below), np.exp(level)
    width = mean * equal
    safe = np.where(width > 0, width, 1.0)
    rate = mean * np.where(width > 0, -np.expm1(-safe) / safe, 1.0)  # (1 - e^(-mu q)) / q
    return restore(-mean * (1 - lower - equal) + np.log1p(lower * rate))


def kl(n: Numeric) -> Numeric:
    r"""KL divergence of best-of-Poisson from the reference for continuous rewards, in nats.

    .. math:: \log n - 1 + \frac{e^{-n} (\mathrm{Ei}(n) - \mathrm{Ei}(1))}{n - 1}

    It is an upper bound where responses share rewards or have sizeable probability.

    Args:
        n: Mean number of draws, real, at least 1.

    Returns:
        Nats, float64, with an absolute error below 1e-11.

    Raises:
        ConfigError: If ``n`` is below 1 or not finite.

    Example:
        >>> round(kl(4.0), 4)
        0.4946
        >>> kl(1.0)
        0.0
    """
    check_draws(n)
    (draws,), restore = as_arrays(n)
    mean = draws - 1
    safe = np.where(mean > 0, mean, 1.0)
    tail = _scaled_expi(1 + safe) - np.exp(-1 - safe) * expi(1.0)
    return restore(np.where(mean > 0, np.maximum(np.log1p(safe) - 1 + tail / safe, 0), 0.0))


def kl_with_ties(pool: Numeric, n: Numeric) -> Numeric:
    """KL divergence of best-of-Poisson from the reference, where responses share rewards.

    Args:
        pool: Independent draws on the last axis, shape ``[..., M]``, in any order.
        n: Mean number of draws, one real number of at least 1.

    Returns:
        Estimates in nats of shape ``[...]``, float64: sums over the levels of the pool.

    Example:
        >>> round(kl_with_ties([0.0, 0.0, 1.0, 1.0], n=1.0).item(), 6)
        0.0
    """
    (pool,), restore = as_arrays(pool)
    rows = np.sort(pool.reshape(-1, pool.shape[-1]))
    edges = [[np.searchsorted(row, row, side) for row in rows] for side in ("left", "right")]
    below, upto = np.array(edges) / pool.shape[-1]
    with np.errstate(divide="ignore"):
        ratio = log_ratio(np.log(below), np.log(upto - below), n)
    return restore((np.exp(ratio) * ratio).mean(1).reshape(pool.shape[:-1]))


def win_rate(n: Numeric) -> Numeric:
    r"""Win rate of best-of-Poisson against the reference for continuous rewards.

    .. math:: 1 - \frac{\mu - 1 + e^{-\mu}}{\mu^2}, \qquad \mu = n - 1

    Args:
        n: Mean number of draws, real, at least 1; ``n = 1`` is the reference, at 1/2.

    Raises:
        ConfigError: If ``n`` is below 1 or not finite.

    Example:
        >>> round(win_rate(4.0), 4)
        0.7722
    """
    check_draws(n)
    (draws,), restore = as_arrays(n)
    mean = draws - 1
    large = np.where(mean > 1e-2, mean, 1.0)
    formula = (large + np.expm1(-large)) / large**2
    series = 1 / 2 - mean / 6 + mean**2 / 24 - mean**3 / 120 + mean**4 / 720 - mean**5 / 5040
    return restore(1 - np.where(mean > 1e-2, formula, series))


def _scaled_expi(x: np.ndarray | np.generic) -> np.ndarray:
    """Ei(x) e^(-x) for x > 0, where Ei itself overflows too."""
    small = np.minimum(x, _LARGE)
    term, series = 1 / np.maximum(x, _LARGE), np.zeros_like(x)
    ratio = term
    for k in range(1, 25):
        series, term = series + term, term * k * ratio
    return np.where(x < _LARGE, expi(small) * np.exp(-small), series)

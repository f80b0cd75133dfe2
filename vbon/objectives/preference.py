r"""Losses on pairs of responses: DPO, IPO and BoNBoN.

A response's ``log_ratio`` is :math:`\log \pi(y) - \log \pi_\mathrm{ref}(y)`, a *sum* over its
tokens, in nats. Losses are elementwise and keep dtype and gradient; the caller averages them.
"""

import torch.nn.functional as F
from scipy.special import digamma

from vbon.errors import ConfigError
from vbon.objectives.arrays import Number, Numeric, as_arrays, as_tensors, check_draws

BONBON_LOSSES = ("ipo", "sigmoid")
"""Pair terms of BoNBoN: that of its paper, and that of its released code."""


def dpo_loss(log_ratio_chosen: Numeric, log_ratio_rejected: Numeric, beta: Number) -> Numeric:
    r"""DPO's loss :math:`-\log \sigma(\beta h)` of each pair.

    :math:`h` is the chosen response's log-ratio minus the rejected one's (Rafailov et al.,
    arXiv:2305.18290, equation 7). Without contradicting labels there is no finite optimum:
    :math:`h` grows for every :math:`\beta`.

    Args:
        log_ratio_chosen: Summed log-ratio of the preferred responses, nats, any shape.
        log_ratio_rejected: Summed log-ratio of the rejected responses.
        beta: Scale of the implied reward, above 0 and finite.

    Returns:
        Losses in nats, of the inputs' shape.

    Raises:
        ConfigError: If ``beta`` is not a finite number above 0.

    Example:
        >>> round(dpo_loss(1.0, -1.0, beta=0.5), 4)
        0.3133
    """
    if not 0 < beta < float("inf"):
        raise ConfigError(f"beta: the logistic loss needs a finite beta > 0, got {beta}")
    (chosen, rejected), restore = as_tensors(log_ratio_chosen, log_ratio_rejected)
    return restore(-F.logsigmoid(beta * (chosen - rejected)))


def ipo_loss(log_ratio_chosen: Numeric, log_ratio_rejected: Numeric, beta: Number) -> Numeric:
    r"""IPO's loss :math:`(h - 1/(2\beta))^2` of each pair (Azar et al., arXiv:2310.12036, eq. 17).

    Args:
        log_ratio_chosen: Summed log-ratio of the preferred responses, nats, any shape.
        log_ratio_rejected: Summed log-ratio of the rejected responses.
        beta: Sets the target margin of :math:`h`; above 0, ``inf`` for a margin of 0.

    Returns:
        Losses in squared nats, of the inputs' shape.

    Raises:
        ConfigError: If ``beta`` is not above 0.

    Example:
        >>> ipo_loss(1.5, -1.5, beta=0.25)  # margin 2
        1.0
    """
    if not beta > 0:
        raise ConfigError(f"beta: IPO needs beta > 0, got {beta}")
    (chosen, rejected), restore = as_tensors(log_ratio_chosen, log_ratio_rejected)
    return restore((chosen - rejected - 1 / (2 * beta)) ** 2)


def bonbon_margin(n: Numeric) -> Numeric:
    r"""Mean log-ratio of the best minus that of the worst of n draws under best-of-n, in nats.

    With continuous rewards it is :math:`(n-1) H_{n-1}`, :math:`H` the harmonic numbers, by
    digamma for real :math:`n` (Gui et al., arXiv:2406.00832).

    Raises:
        ConfigError: If ``n`` is below 1 or not finite.

    Example:
        >>> round(bonbon_margin(8), 12)
        18.15
        >>> bonbon_margin(1)
        0.0
    """
    check_draws(n)
    (draws,), restore = as_arrays(n)
    return restore((draws - 1) * (digamma(draws) - digamma(1.0)))


def bonbon_beta(n: Number) -> float:
    r"""The IPO coefficient :math:`\beta^*_n = 1 / (2 (n-1) H_{n-1})` of BoNBoN.

    Best-of-n has IPO's target margin :math:`1 / (2 \beta^*_n)` on average, but not for each pair:
    the loss is minimal at another distribution near it. ``inf`` at ``n = 1``, where best and worst
    coincide. Errors as in :func:`bonbon_margin`.

    Example:
        >>> bonbon_beta(8)
        0.027548209366391185
    """
    margin = float(bonbon_margin(float(n)))
    return 0.5 / margin if margin else float("inf")


def bonbon_alpha(n: Number, mean_nll: Number) -> float:
    r"""Weight of BoNBoN's likelihood term with which both terms are equal at the start.

    At the reference the pair term is :math:`I = (1 / 2\beta^*_n)^2` and the likelihood term
    ``mean_nll``; the weight is :math:`\alpha = I / (I + \text{mean NLL})`.

    Args:
        n: Number of draws, real, at least 1.
        mean_nll: Mean of :math:`-\log \pi_\mathrm{ref}` of best-of-n responses, summed over their
            tokens, in nats; above 0 and finite.

    Returns:
        A number in [0, 1); 0 at ``n = 1``.

    Raises:
        ConfigError: If ``n`` is below 1 or ``mean_nll`` is not a finite number above 0.

    Example:
        >>> bonbon_alpha(3, mean_nll=27.0)
        0.25
    """
    if not 0 < mean_nll < float("inf"):
        raise ConfigError(f"mean_nll: need a finite number of nats above 0, got {mean_nll}")
    start = float(bonbon_margin(float(n))) ** 2
    return start / (start + mean_nll)


def bonbon_loss(
    log_prob_best: Numeric,
    log_ratio_best: Numeric,
    log_ratio_worst: Numeric,
    n: Number,
    alpha: Number,
    loss: str = "ipo",
) -> Numeric:
    r"""BoNBoN's loss of each pair: likelihood of the best of n and its margin over the worst.

    .. math:: -\alpha \log \pi(y_\mathrm{best})
        + (1 - \alpha) \left(h - \frac{1}{2 \beta^*_n}\right)^2

    with :math:`h` the difference of log-ratios and :math:`\beta^*_n` of :func:`bonbon_beta` (Gui
    et al., arXiv:2406.00832). The authors' released code has :math:`-\log \sigma(\beta^*_n h)` in
    place of the square, ``loss="sigmoid"``. All log-probabilities are sums over tokens.

    Args:
        log_prob_best: :math:`\log \pi` of the best responses, nats, any shape.
        log_ratio_best: Their log-ratios to the reference, nats.
        log_ratio_worst: Log-ratios of the worst responses, nats.
        n: Number of draws of which the pair is the best and the worst, real, at least 1.
        alpha: Weight of the likelihood term, in [0, 1]; see :func:`bonbon_alpha`.
        loss: ``"ipo"`` or ``"sigmoid"``; the latter needs ``n > 1``.

    Returns:
        Losses of the inputs' shape.

    Raises:
        ConfigError: If ``n``, ``alpha`` or ``loss`` is not allowed.

    Example:
        >>> bonbon_loss(-10.0, 2.0, 1.0, n=3, alpha=0.25)  # margin 3
        5.5
    """
    if loss not in BONBON_LOSSES:
        raise ConfigError(f"loss: unknown BoNBoN loss {loss!r}; known: {', '.join(BONBON_LOSSES)}")
    if not 0 <= alpha <= 1:
        raise ConfigError(f"alpha: BoNBoN's weight lies in [0, 1], got {alpha}")
    pair_loss = ipo_loss if loss == "ipo" else dpo_loss
    (prob, best, worst), restore = as_tensors(log_prob_best, log_ratio_best, log_ratio_worst)
    return restore(-alpha * prob + (1 - alpha) * pair_loss(best, worst, bonbon_beta(n)))

r"""The vBoN objective and its lower bounds on enumerated distributions.

All take log-probabilities of every string on the last axis and sum over it; only the policy's
have a gradient. Theorems and equations are those of arXiv:2407.06057. With :math:`F` the mass of
lower rewards under the reference,

.. math:: J \ge L + \log n \ge L \quad (n \ge 1), \qquad J \ge L_1 \quad (n \ge 1),
    \qquad L \ge L_1 \quad (n = 1 \text{ or } n \ge 2),

and the last one fails between :math:`n = 1` and :math:`n = 2`.
"""

import torch
from jaxtyping import Float64
from torch import Tensor

from vbon.objectives.arrays import Number, Numeric, as_tensors, check_draws
from vbon.objectives.best_of_n import log_bon_ratio


def vbon_objective(
    log_policy: Numeric, log_ref: Numeric, log_below: Numeric, log_level: Numeric | None, n: Number
) -> Numeric:
    r"""The variational best-of-n objective :math:`J` (equation 5), in nats.

    .. math:: J = -KL(\pi \| \pi_\mathrm{bon})
        = E_\pi[\log \pi_\mathrm{bon} - \log \pi_\mathrm{ref}] - KL(\pi \| \pi_\mathrm{ref})

    Args:
        log_policy: :math:`\log \pi`, shape ``[..., strings]``, each row summing to 1.
        log_ref: :math:`\log \pi_\mathrm{ref}`, broadcast with ``log_policy``, as are the others.
        log_below: :math:`\log F`; see :func:`vbon.objectives.best_of_n.log_masses`.
        log_level: Log-mass of each string's reward level; None if rewards are distinct.
        n: Number of draws, real, at least 1.

    Returns:
        :math:`J` of shape ``[...]``, at most 0; 0 for best-of-n alone.

    Raises:
        ConfigError: If ``n`` is below 1 or not finite.

    Example:
        >>> import numpy as np
        >>> half, below = np.log([0.5, 0.5]), np.array([-np.inf, np.log(0.5)])
        >>> round(vbon_objective(np.log([0.25, 0.75]), half, below, None, n=2).item(), 12)
        0.0
        >>> round(vbon_objective(half, half, below, None, n=2).item(), 4)
        -0.1438
    """
    log_level = log_ref if log_level is None else log_level
    (policy, ref, below, level), restore = _distributions(log_policy, log_ref, log_below, log_level)
    log_ratio = log_bon_ratio(below, level, n)
    return restore(_expectation(policy, log_ratio + ref) + _entropy(policy))


def lower_bound(log_policy: Numeric, log_ref: Numeric, log_below: Numeric, n: Number) -> Numeric:
    r"""The lower bound :math:`L = (n-1) E_\pi[\log F] - KL(\pi \| \pi_\mathrm{ref})`, theorem 2.

    ``-inf`` for a policy with mass on a string of lowest reward, where :math:`F = 0`, unless
    ``n = 1``, where the first term is 0. Arguments and errors as in :func:`vbon_objective`.

    Returns:
        :math:`L` in nats, shape ``[...]``, maximal at
        :math:`\pi \propto \pi_\mathrm{ref} F^{n-1}`.

    Example:
        >>> import numpy as np
        >>> half, below = np.log([0.5, 0.5]), np.log([0.25, 0.5])
        >>> round(lower_bound(half, half, below, n=2).item(), 4)  # the mean of log F
        -1.0397
    """
    check_draws(n)
    (policy, ref, below), restore = _distributions(log_policy, log_ref, log_below)
    return restore(_expectation(policy, _scaled(below, n - 1) + ref) + _entropy(policy))


def lower_bound_l1(log_policy: Numeric, log_ref: Numeric, log_below: Numeric, n: Number) -> Numeric:
    r"""The lower bound :math:`L_1` of theorem 3, in nats.

    .. math:: L_1 = \gamma E_\pi[\log F] - \alpha H(\pi) - \beta KL(\pi \| \pi_\mathrm{ref})
        = E_\pi[\gamma \log F + \beta \log \pi_\mathrm{ref}] + H(\pi)

    with the constants of :func:`l1_coefficients`, for which :math:`\beta - \alpha = 1`. It is
    maximal at :math:`\pi \propto \pi_\mathrm{ref}^\beta F^\gamma`, far sharper than best-of-n.
    Arguments, shapes and errors as in :func:`lower_bound`.

    Example:
        >>> import numpy as np
        >>> half, below = np.log([0.5, 0.5]), np.log([0.25, 0.5])
        >>> round(lower_bound_l1(half, half, below, n=2).item(), 4)
        -2.426
    """
    _, beta, gamma = l1_coefficients(n)
    (policy, ref, below), restore = _distributions(log_policy, log_ref, log_below)
    return restore(_expectation(policy, _scaled(below, gamma) + beta * ref) + _entropy(policy))


def l1_coefficients(n: Number) -> tuple[Number, Number, Number]:
    r"""Constants :math:`\alpha, \beta, \gamma` of theorem 3.

    .. math:: \alpha = (n+2)(n-1)/2, \qquad \beta = n(n+1)/2, \qquad \gamma = n(n-1)/2

    Raises:
        ConfigError: If ``n`` is below 1 or not finite.

    Example:
        >>> l1_coefficients(4)
        (9.0, 10.0, 6.0)
    """
    check_draws(n)
    return (n + 2) * (n - 1) / 2, n * (n + 1) / 2, n * (n - 1) / 2


def _distributions(*values: Numeric) -> tuple[list[Tensor], object]:
    """Float64 tensors of one shape, and the function that restores the inputs' kind."""
    tensors, restore = as_tensors(*values)
    return list(torch.broadcast_tensors(*(tensor.double() for tensor in tensors))), restore


def _scaled(log_below: Float64[Tensor, "*batch strings"], factor: Number) -> Tensor:
    """``factor * log_below``, 0 at ``factor`` 0 even where ``log_below`` is ``-inf``."""
    return factor * log_below if factor else torch.zeros_like(log_below)


def _expectation(
    log_policy: Float64[Tensor, "*batch strings"], values: Float64[Tensor, "*batch strings"]
) -> Float64[Tensor, "*batch"]:
    """Mean of ``values``; strings without mass count 0, whatever their value."""
    reached = log_policy > -torch.inf
    values = values.masked_fill(~reached, 0.0)
    return torch.sum(log_policy.exp() * values, dim=-1)


def _entropy(log_policy: Float64[Tensor, "*batch strings"]) -> Float64[Tensor, "*batch"]:
    """Entropy in nats."""
    return -_expectation(log_policy, log_policy)

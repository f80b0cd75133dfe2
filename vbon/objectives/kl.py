r"""Estimators of KL(policy || reference) of a response, from its tokens' log-probabilities.

With :math:`\ell_t = \log \pi(y_t) - \log \pi_\mathrm{ref}(y_t)` and responses drawn from the
policy at the temperature of the log-probabilities, both have the KL of whole responses as their
mean, as the plain sum of :math:`\ell_t` has; they differ in variance and in their inputs. Inputs
keep their dtype and gradient; masked positions, NaN and infinities included, reach neither value
nor gradient.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def kl_k3(
    token_log_probs: Float[Tensor, "batch tokens"],
    token_log_probs_ref: Float[Tensor, "batch tokens"],
    mask: Bool[Tensor, "batch tokens"],
) -> Float[Tensor, " batch"]:
    r"""The estimator :math:`\sum_t e^{-\ell_t} - 1 + \ell_t`: unbiased and never negative.

    Heavy-tailed once the policy is far from the reference, and biased upwards if prompt tokens
    are left in the mask.

    Args:
        token_log_probs: Log-probs of the drawn tokens under the policy, in nats.
        token_log_probs_ref: Log-probs of the same tokens under the reference, in nats.
        mask: True for the response's tokens, its end-of-sequence token included.

    Returns:
        An estimate for each response, in nats.

    Example:
        >>> mask = torch.tensor([[True, False]])
        >>> kl_k3(torch.tensor([[-1.0, 0.0]]), torch.tensor([[-1.0, 9.0]]), mask)
        tensor([0.])
    """
    log_ratio = _log_ratio(token_log_probs, token_log_probs_ref, mask)
    return (torch.expm1(-log_ratio) + log_ratio).sum(-1)


def kl_full(
    log_softmax: Float[Tensor, "batch tokens vocab"],
    log_softmax_ref: Float[Tensor, "batch tokens vocab"],
    mask: Bool[Tensor, "batch tokens"],
) -> Float[Tensor, " batch"]:
    r"""The full-vocabulary estimator: exact KL at each step, summed over the steps taken.

    .. math:: \sum_t \sum_v \pi(v \mid y_{<t})
        [\log \pi(v \mid y_{<t}) - \log \pi_\mathrm{ref}(v \mid y_{<t})]

    Each step's term is the conditional mean of :math:`\ell_t`, and of :func:`kl_k3`'s term, given
    the prefix, which keeps the estimator unbiased and its terms without sampling noise of their
    own. The variance of the sum is usually lower than that of :math:`\sum_t \ell_t`, though not for
    every pair of models. A token of zero probability under the policy counts 0.

    Args:
        log_softmax: Log-probs of all tokens at each step under the policy, in nats.
        log_softmax_ref: The same under the reference.
        mask: True for the steps at which a response's token was drawn.

    Returns:
        An estimate for each response, in nats; at least 0.

    Example:
        >>> policy = torch.tensor([[[0.5, 0.5]]]).log()
        >>> reference = torch.tensor([[[0.25, 0.75]]]).log()
        >>> round(kl_full(policy, reference, torch.tensor([[True]])).item(), 4)
        0.1438
    """
    counts = mask.unsqueeze(-1) & (log_softmax > -torch.inf)
    log_ratio = _log_ratio(log_softmax, log_softmax_ref, counts)
    return (log_softmax.masked_fill(~counts, 0.0).exp() * log_ratio).sum((-2, -1))


def _log_ratio(
    log_probs: Float[Tensor, "*batch"],
    log_probs_ref: Float[Tensor, "*batch"],
    counts: Bool[Tensor, "*batch"],
) -> Float[Tensor, "*batch"]:
    """Policy minus reference, each filled first: a gradient of ``0 * NaN`` would be NaN."""
    return log_probs.masked_fill(~counts, 0.0) - log_probs_ref.masked_fill(~counts, 0.0)

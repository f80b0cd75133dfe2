r"""Policy-gradient objectives on token batches: advantages, whitening, clipped losses.

Where a function takes a mask, entries at False have no effect.
Schulman et al., arXiv:1506.02438 (advantages) and arXiv:1707.06347 (clipping).
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def masked_mean(values: Float[Tensor, "*batch"], mask: Bool[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """Mean of the entries where the mask is True.

    Example:
        >>> masked_mean(torch.tensor([1.0, 9.0]), torch.tensor([True, False])).item()
        1.0
    """
    return torch.where(mask, values, 0.0).sum() / mask.sum()


def whiten(
    values: Float[Tensor, "*batch"], mask: Bool[Tensor, "*batch"], epsilon: float = 1e-8
) -> Float[Tensor, "*batch"]:
    """Entries where the mask is True, shifted and scaled to mean 0 and variance 1; 0 elsewhere.

    Example:
        >>> whiten(torch.tensor([1.0, 3.0, 99.0]), torch.tensor([True, True, False])).tolist()
        [-1.0, 1.0, 0.0]
    """
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean) ** 2, mask)
    return torch.where(mask, (values - mean) * torch.rsqrt(variance + epsilon), 0.0)


def generalised_advantages(
    token_rewards: Float[Tensor, "batch tokens"],
    values: Float[Tensor, "batch tokens"],
    mask: Bool[Tensor, "batch tokens"],
    gamma: float = 1.0,
    lam: float = 0.95,
) -> Float[Tensor, "batch tokens"]:
    r"""Generalised advantage estimates :math:`\sum_k (\gamma\lambda)^k \delta_{t+k}`.

    :math:`\delta_t = \rho_t + \gamma V_{t+1} - V_t` (arXiv:1506.02438v6, equation 16), with value
    0 after the last token, whether the response was finished or cut.

    Args:
        token_rewards: Reward of each token.
        values: Value of the state before each token.
        mask: True for the tokens of the response, a prefix of each row.
        gamma: Discount.
        lam: The estimator's lambda; 1 gives return minus value.

    Returns:
        Advantages, 0 where the mask is False.

    Example:
        >>> ones = torch.ones(1, 2, dtype=torch.bool)
        >>> rewards, values = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 0.25]])
        >>> generalised_advantages(rewards, values, ones, lam=1.0).tolist()
        [[0.5, 0.75]]
    """
    rewards, values = torch.where(mask, token_rewards, 0.0), torch.where(mask, values, 0.0)
    following = torch.cat((values[:, 1:], values.new_zeros(len(values), 1)), 1)
    delta = rewards + gamma * following - values
    advantages, carried = torch.empty_like(delta), delta.new_zeros(len(delta))
    for step in reversed(range(delta.shape[1])):
        carried = delta[:, step] + gamma * lam * carried
        advantages[:, step] = carried
    return advantages


def leave_one_out_advantages(
    returns: Float[Tensor, "prompts draws"],
) -> Float[Tensor, "prompts draws"]:
    r"""Return of each response minus the mean return of the prompt's other responses.

    The baseline is independent of the response, so the gradient stays unbiased, and needs no
    training (Kool et al. 2019; Ahmadian et al., arXiv:2402.14740, equation 8).

    Args:
        returns: Return of each response, at least two per prompt.

    Example:
        >>> leave_one_out_advantages(torch.tensor([[1.0, 2.0, 6.0]])).tolist()
        [[-3.0, -1.5, 4.5]]
    """
    draws = returns.shape[1]
    others = (returns.sum(1, keepdim=True) - returns) / (draws - 1)
    return returns - others


def clipped_policy_loss(
    log_importance: Float[Tensor, " tokens"], advantages: Float[Tensor, " tokens"], clip: float
) -> tuple[Float[Tensor, " tokens"], Float[Tensor, ""]]:
    r"""Token losses :math:`-\min(w A, \mathrm{clip}(w, 1 \pm \epsilon) A)`, and the share clipped.

    :math:`w = e^{\text{log importance}}` is new over old policy (arXiv:1707.06347v2, equation 7).

    Example:
        >>> loss, share = clipped_policy_loss(torch.tensor([1.0]), torch.tensor([2.0]), 0.2)
        >>> round(loss.item(), 4), share.item()
        (-2.4, 1.0)
    """
    importance = log_importance.exp()
    plain = -advantages * importance
    clipped = -advantages * importance.clamp(1 - clip, 1 + clip)
    return torch.maximum(plain, clipped), (clipped > plain).to(plain.dtype).mean()


def clipped_value_loss(
    values: Float[Tensor, " tokens"],
    old_values: Float[Tensor, " tokens"],
    returns: Float[Tensor, " tokens"],
    clip: float | None,
) -> Float[Tensor, " tokens"]:
    """Half the squared error of each value, pessimistic outside ``old_values`` +- ``clip``.

    Args:
        values: Values under the current parameters.
        old_values: Values at the time of the rollout.
        returns: Targets.
        clip: Largest rewarded move from the old value; None for the plain error.

    Example:
        >>> one, two = torch.tensor([1.0]), torch.tensor([2.0])
        >>> clipped_value_loss(two, one, two, clip=0.2).item()
        0.31999996304512024
    """
    plain = (values - returns) ** 2
    if clip is None:
        return 0.5 * plain
    kept = old_values + (values - old_values).clamp(-clip, clip)
    return 0.5 * torch.maximum(plain, (kept - returns) ** 2)

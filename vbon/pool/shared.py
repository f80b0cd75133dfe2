r"""A reward distribution learned over all prompts, for prompts with few draws.

The paper estimates F of each prompt from that prompt's draws alone and leaves sharing between
prompts to future work (arXiv:2407.06057, section 7). Here a regression over all prompts predicts
the location of a prompt's rewards from a few features; the residuals of all prompts give the shape
around it. The predicted share below a reward is the prior mean of F, worth a number of draws that
is fitted to the pools, to which the prompt's draws are added:
:func:`vbon.pool.logf.estimate` with ``"shared"``.

Only ranks of rewards among all draws of all prompts are used, so strictly increasing maps of the
rewards have no effect.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int
from scipy.linalg import orth
from scipy.optimize import minimize_scalar
from scipy.special import betaln, ndtr, ndtri

from vbon.errors import DataError

MIN_PROMPTS = 8
"""Least number of prompts for a fit."""

_KNOTS = 1023
_WORTH = (1e-2, 1e4)  # bounds of the prior's worth in draws
_PENALTIES = np.logspace(-3, 2, 11)  # of the states' weights, per prompt


@dataclass(frozen=True)
class SharedCDF:
    """Prior shares of reference responses below a reward, for each prompt.

    Attributes:
        knots: Ascending rewards, between which the shares are constant.
        shares: Share below the rewards of each cell between two knots, in (0, 1).
        worth: Number of draws that these shares are worth.
    """

    knots: Float64[np.ndarray, " knots"]
    shares: Float64[np.ndarray, "prompts cells"]
    worth: float

    def share_below(
        self, prompts: Int[np.ndarray, "*rows"], rewards: Float64[np.ndarray, "*batch"]
    ) -> Float64[np.ndarray, "*batch"]:
        """Prior share below each reward; the numbers of their prompts broadcast with them."""
        return self.shares[prompts, np.searchsorted(self.knots, rewards, "right")]


def fit_shared(
    pools: Float64[np.ndarray, "prompts draws"],
    prompt_rewards: Float64[np.ndarray, " prompts"],
    prompt_lengths: Float64[np.ndarray, " prompts"],
    states: Float64[np.ndarray, "prompts width"],
) -> SharedCDF:
    r"""Fit the prior of :math:`F` to the pools of all prompts.

    In normal scores of the ranks among all draws, a prompt's mean is regressed on the score of its
    bare text and on its length, and by ridge regression on the reference's hidden state, with the
    penalty of the least leave-one-out error. Residuals of all draws from predictions without
    their prompt give the shape. The prior's worth maximises the
    Beta-binomial likelihood of each draw's rank among its prompt's others.

    Args:
        pools: Rewards of each prompt's draws, 2 or more.
        prompt_rewards: Reward of each prompt's text without a response.
        prompt_lengths: Tokens of each prompt.
        states: The reference's last hidden state of each prompt.

    Raises:
        DataError: If there are fewer than eight prompts or two draws, or values are not finite.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> hint = rng.normal(size=64)  # each prompt's mean reward
        >>> pools = hint[:, None] + rng.normal(size=(64, 8))
        >>> prior = fit_shared(pools, hint, np.ones(64), np.zeros((64, 1)))
        >>> np.abs(prior.share_below(np.arange(64), hint) - 0.5).mean() < 0.1
        np.True_
    """
    num_prompts, size = pools.shape
    if num_prompts < MIN_PROMPTS or size < 2:
        raise DataError(
            f"rewards: {num_prompts} prompts with {size} draws; estimator 'shared' needs "
            f"{MIN_PROMPTS} prompts with 2 draws or more"
        )
    for name, values in (("reward", pools), ("states", states), ("prompt reward", prompt_rewards)):
        if not np.isfinite(values).all():
            raise DataError(f"{name}: not finite; estimator 'shared' cannot be fitted to it")
    every = np.sort(pools, axis=None)
    scores = _normal_scores(every, pools)
    bare, length = _normal_scores(every, prompt_rewards), np.log(prompt_lengths)
    few = np.stack((np.ones(num_prompts), bare, length, bare * length), axis=1)
    location = _predictions(scores.mean(1), few, states)
    residuals = np.sort(scores - location[:, None], axis=None)

    def share_of(scores: np.ndarray) -> np.ndarray:
        below = np.searchsorted(residuals, scores - location[:, None])
        return (below + 0.5) / (residuals.size + 1)

    # Number of the prompt's other draws below each draw.
    ranks = pools.argsort(1, kind="stable").argsort(1)
    worth = _worth(ranks, size - 1, share_of(scores))
    knots = np.unique(every[(ndtr(np.linspace(-4, 4, _KNOTS)) * every.size).astype(np.int64)])
    # The score of a cell is that of its middle draw.
    edges = np.searchsorted(every, knots, "left")
    middles = (np.append(0, edges) + np.append(edges, every.size)) / 2
    cells = ndtri((middles + 0.5) / (every.size + 1))
    return SharedCDF(knots, share_of(np.broadcast_to(cells, (num_prompts, cells.size))), worth)


def _normal_scores(every: np.ndarray, rewards: np.ndarray) -> np.ndarray:
    """Standard normal quantiles of the rewards' mid-ranks among all draws."""
    ranks = (np.searchsorted(every, rewards, "left") + np.searchsorted(every, rewards, "right")) / 2
    return ndtri((ranks + 0.5) / (every.size + 1))


def _predictions(
    means: Float64[np.ndarray, " prompts"],
    few: Float64[np.ndarray, "prompts features"],
    states: Float64[np.ndarray, "prompts width"],
) -> Float64[np.ndarray, " prompts"]:
    """Leave-one-out predictions: least squares on ``few``, then ridge regression on states."""
    basis = orth(few)  # of lower rank if all prompts have one length
    left, leverage = means - basis @ (basis.T @ means), (basis**2).sum(1)
    spread = states.std(0)
    states = (states - states.mean(0)) / np.where(spread > 0, spread, 1)
    directions, sizes, _ = np.linalg.svd(states - basis @ (basis.T @ states), full_matrices=False)
    errors = [_without_itself(left, leverage)]
    for penalty in _PENALTIES * len(means):
        kept = sizes**2 / (sizes**2 + penalty)
        fitted, used = directions @ (kept * (directions.T @ left)), directions**2 @ kept
        errors.append(_without_itself(left - fitted, leverage + used))
    return means - min(errors, key=lambda error: (error**2).sum())


def _without_itself(residuals: np.ndarray, leverage: np.ndarray) -> np.ndarray:
    """Leave-one-out residuals."""
    # A prompt that alone determines a weight has none.
    return residuals / np.maximum(1 - leverage, 0.01)


def _worth(ranks: np.ndarray, others: int, shares: np.ndarray) -> float:
    """Worth of the prior in draws, of maximal Beta-binomial likelihood of the ranks."""

    def loss(log_worth: float) -> float:
        a, b = np.exp(log_worth) * shares, np.exp(log_worth) * (1 - shares)
        return float((betaln(a, b) - betaln(ranks + a, others - ranks + b)).sum())

    result = minimize_scalar(loss, bounds=np.log(_WORTH), method="bounded")
    return float(np.exp(result.x))

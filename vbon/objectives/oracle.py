r"""Exact optima, objectives and metrics over a language small enough to enumerate.

A language is two arrays for one prompt: ``log_ref``, the reference's log-probability of every
string, and ``rewards``. On it each method's optimum over all distributions is a finite
computation, with which trained policies are compared. With :math:`p = \pi_\mathrm{ref}` and
:math:`F` the mass of lower rewards (arXiv:2407.06057; constants of theorem 3) and :math:`u` the
win rate over the reference, ties half:

================= ===================================== ==========================================
name              optimum, up to a constant             objective, which the optimum maximises
================= ===================================== ==========================================
`reference`       :math:`p`                             minus KL to the reference
`best_of_n`       :math:`p\, e^S` of best-of-n          :math:`J`, equation 5
`best_of_poisson` :math:`p\, \Delta G / q` of poisson   minus KL to it
`soft_best_of_n`  by an integral                        minus KL to it
`kl_rl`           :math:`p\, e^{r / \beta}`             :math:`E[r] - \beta\, KL`, equation 1
`win_rate`        :math:`p\, e^{u / \beta}`             :math:`E[u] - \beta\, KL`
`lower_bound`     :math:`p\, F^{n-1}`                   :math:`L`, theorem 2
`lower_bound_l1`  :math:`p^\beta F^\gamma`              :math:`L_1`, theorem 3
`bonbon`          by Newton's method                    minus the population loss
================= ===================================== ==========================================

Strings of lowest reward have :math:`F = 0`, on which :math:`L` and :math:`L_1` are ``-inf`` for
every policy with full support. Both therefore use the floor of
:func:`vbon.objectives.best_of_n.floored`. Arrays are NumPy arrays or tensors ``[strings]``;
results are of their kind, float64.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

from vbon.errors import ConfigError, DataError
from vbon.objectives import bounds, poisson, soft
from vbon.objectives.arrays import Number, Numeric, as_arrays, check_draws
from vbon.objectives.best_of_n import cap_log_below, floored, log_bon_ratio, log_masses
from vbon.objectives.preference import bonbon_loss

_NEWTON_STEPS = 200


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A language and the settings of a method.

    Attributes:
        log_ref: Log-probabilities of all strings under the reference, nats; they sum to 1.
        rewards: Their rewards.
        n: Number of draws of best-of-n, for names without ``kl_coef`` except ``reference``.
        kl_coef: KL coefficient, for ``kl_rl`` and ``win_rate``.
        tilt: Exponent of win rates, for ``soft_best_of_n``.
        alpha: Weight of the likelihood term, for ``bonbon``.
        loss: Pair term of ``bonbon``.
        log_below: Estimate of log F used in training; None for the exact one.
    """

    log_ref: np.ndarray
    rewards: np.ndarray
    n: Number | None = None
    kl_coef: Number | None = None
    tilt: Number | None = None
    alpha: Number | None = None
    loss: str = "ipo"
    log_below: np.ndarray | None = None

    def __post_init__(self) -> None:
        total = float(np.exp(logsumexp(self.log_ref)))
        if not abs(total - 1) < 1e-4:
            raise DataError(f"log_ref: probabilities of all strings sum to {total}, not 1")

    def masses(self) -> tuple[np.ndarray, np.ndarray]:
        """Log-masses below and at each string's level; the former is the estimate, if any."""
        below, level = log_masses(self.rewards, self.log_ref)
        return (below if self.log_below is None else cap_log_below(self.log_below, level)), level

    def win_rates(self) -> np.ndarray:
        """Each string's win rate over the reference, ties half: the quantile of its reward."""
        below, level = self.masses()
        return np.exp(below) + np.exp(level) / 2

    def bounded_below(self) -> np.ndarray:
        """Log F of the bounds: exact with a floor, or the estimate, which is finite."""
        exact = log_masses(self.rewards, self.log_ref)[0]
        return floored(exact) if self.log_below is None else self.log_below

    def require(self, name: str) -> Number:
        """A setting that must not be None."""
        value = getattr(self, name)
        if value is None:
            raise ConfigError(f"{name}: this optimum depends on it, got None; give a number")
        if name == "n":
            check_draws(value)
        return value


def optimum(
    name: str, log_ref: Numeric, rewards: Numeric, **settings: Number | str | Numeric | None
) -> Numeric:
    r"""Optimum of a method over all distributions of strings, as log-probabilities.

    Args:
        name: A key of :data:`OPTIMA`.
        log_ref: Reference log-probabilities of all strings, nats, shape ``[strings]``.
        rewards: Their rewards, shape ``[strings]``.
        **settings: Fields of :class:`Problem`: ``n``, ``kl_coef``, ``tilt``, ``alpha``,
            ``loss``, ``log_below``. Settings that the name does not need have no effect.

    Returns:
        Log-probabilities in nats, shape ``[strings]``.

    Raises:
        ConfigError: If the name is unknown, or one of its settings missing or impossible.
        DataError: If a reward is NaN, shapes differ or ``log_ref`` does not sum to 1.

    Example:
        >>> import numpy as np
        >>> language = np.log([0.5, 0.5]), np.array([0.0, 1.0])
        >>> np.exp(optimum("best_of_n", *language, n=2)).round(12)
        array([0.25, 0.75])
        >>> np.exp(optimum("kl_rl", *language, kl_coef=1.0)).round(4)
        array([0.2689, 0.7311])
    """
    problem, restore = _problem(name, log_ref, rewards, settings)
    return restore(OPTIMA[name](problem))


def objective(
    name: str,
    log_policy: Numeric,
    log_ref: Numeric,
    rewards: Numeric,
    **settings: Number | str | Numeric | None,
) -> float:
    r"""Objective that the optimum of this name maximises, in nats (`kl_rl`, `win_rate`: rewards).

    Args:
        name: A key of :data:`OBJECTIVES`.
        log_policy: The policy's log-probabilities of all strings, nats, shape ``[strings]``.
        log_ref: As in :func:`optimum`, as are ``rewards``, ``settings`` and the errors raised.
        rewards: Rewards, shape ``[strings]``.
        **settings: Fields of :class:`Problem`.

    Example:
        >>> import numpy as np
        >>> language = np.log([0.5, 0.5]), np.array([0.0, 1.0])
        >>> round(objective("best_of_n", language[0], *language, n=2), 4)  # the reference's
        -0.1438
    """
    problem, _ = _problem(name, log_ref, rewards, settings)
    (log_policy,), _ = as_arrays(log_policy)
    return float(OBJECTIVES[name](problem, log_policy))


def metrics(log_policy: Numeric, log_ref: Numeric, rewards: Numeric) -> dict[str, float]:
    r"""Exact KL to the reference (nats), win rate over it (ties half) and mean reward of a policy.

    The win rate is :math:`E_\pi[F + P_= / 2]`, with :math:`P_=` the reference's mass of equal
    rewards; the reference scores 1/2. Arguments and errors as in :func:`objective`.

    Example:
        >>> import numpy as np
        >>> language = np.log([0.5, 0.5]), np.array([0.0, 1.0])
        >>> metrics(optimum("best_of_n", *language, n=2), *language)["win_rate"]
        0.625
    """
    (log_policy, log_ref, rewards), _ = as_arrays(log_policy, log_ref, rewards)
    below, level = log_masses(rewards, log_ref)
    policy = np.exp(log_policy)
    return {
        "kl": kl(log_policy, log_ref),
        "win_rate": float(np.sum(policy * (np.exp(below) + np.exp(level) / 2))),
        "reward": float(np.sum(policy * rewards)),
    }


def kl(log_p: Numeric, log_q: Numeric) -> float:
    """KL(p || q) in nats of two distributions given by log-probabilities ``[strings]``.

    Example:
        >>> import math
        >>> kl([0.0, -math.inf], [math.log(0.5)] * 2) == math.log(2)
        True
    """
    (log_p, log_q), _ = as_arrays(log_p, log_q)
    reached = np.isfinite(log_p)
    return float(np.sum(np.exp(log_p[reached]) * (log_p[reached] - log_q[reached])))


def total_variation(log_p: Numeric, log_q: Numeric) -> float:
    """Half the L1 distance of two distributions given by log-probabilities ``[strings]``.

    Example:
        >>> import numpy as np
        >>> total_variation(np.log([0.5, 0.5]), np.log([0.25, 0.75]))
        0.25
    """
    (log_p, log_q), _ = as_arrays(log_p, log_q)
    return float(np.abs(np.exp(log_p) - np.exp(log_q)).sum() / 2)


def best_worst(log_ref: Numeric, rewards: Numeric, n: Number) -> np.ndarray:
    r"""Joint probability that string ``i`` is the best and string ``j`` the worst of n draws.

    Mixed differences of :math:`P(\text{all draws between two levels}) = (\text{mass})^n`. If all
    draws have one level, best and worst are the same draw, as argmax and argmin both return the
    first; such a pair has no preference. Takes memory of ``strings ** 2``.

    Args:
        log_ref: As in :func:`optimum`, as is ``rewards``.
        rewards: Rewards, shape ``[strings]``.
        n: Number of draws, real, at least 1.

    Returns:
        Probabilities ``[strings, strings]`` that sum to 1, best on the first axis. Absolute error
        of order 1e-19 where the platform has extended precision.

    Example:
        >>> import numpy as np
        >>> best_worst(np.log([0.5, 0.5]), np.array([0.0, 1.0]), n=2).round(12)
        array([[0.25, 0.  ],
               [0.5 , 0.25]])
    """
    (log_ref, rewards), _ = as_arrays(log_ref, rewards)
    below, level = (part.astype(np.longdouble) for part in log_masses(rewards, log_ref))
    _, first, rank = np.unique(below, return_index=True, return_inverse=True)
    mass = np.exp(level[first])
    edges = np.concatenate([[0], np.cumsum(mass)])
    between = np.maximum(edges[:, None] - edges[None, :], 0) ** n  # [upper edge, lower edge]
    joint = between[1:, :-1] - between[:-1, :-1] - between[1:, 1:] + between[:-1, 1:]
    np.fill_diagonal(joint, 0)
    share = np.exp(log_ref - level)
    pairs = np.maximum(joint, 0)[np.ix_(rank, rank)] * share[:, None] * share[None, :]
    pairs[np.diag_indices_from(pairs)] += share * mass[rank] ** n
    return pairs.astype(np.float64)


def _problem(
    name: str, log_ref: Numeric, rewards: Numeric, settings: dict[str, object]
) -> tuple[Problem, Callable]:
    """The problem in arrays, and the function that restores the inputs' kind."""
    if name not in OPTIMA:
        raise ConfigError(f"optimum: unknown name {name!r}; known: {', '.join(sorted(OPTIMA))}")
    (log_ref, rewards), restore = as_arrays(log_ref, rewards)
    if settings.get("log_below") is not None:
        settings = {**settings, "log_below": as_arrays(settings["log_below"])[0][0]}
    return Problem(log_ref=log_ref, rewards=rewards, **settings), restore


def _normalised(log_weights: np.ndarray) -> np.ndarray:
    """Log-probabilities proportional to the exponentials of ``log_weights``."""
    return log_weights - logsumexp(log_weights)


def _soft_best_of_n(problem: Problem) -> np.ndarray:
    rates = problem.win_rates()
    settings = problem.require("n"), problem.require("tilt")
    ratio = soft.log_ratio(rates, *settings, (rates, problem.log_ref))
    return _normalised(problem.log_ref + ratio)


def _lower_bound_l1(problem: Problem) -> np.ndarray:
    _, beta, gamma = bounds.l1_coefficients(problem.require("n"))
    return _normalised(beta * problem.log_ref + gamma * problem.bounded_below())


def _bonbon(problem: Problem) -> np.ndarray:
    """Minimiser of BoNBoN's population loss, which is convex in the policy's logits."""
    _check_bonbon(problem)
    support = np.isfinite(problem.log_ref)
    # A model's float32 probabilities sum to 1 up to 1e-7, too coarse for Newton's method.
    log_ref = torch.from_numpy(_normalised(problem.log_ref[support]))
    pairs = torch.from_numpy(best_worst(log_ref.numpy(), problem.rewards[support], problem.n))
    if not (pairs - pairs.diag().diag()).any():  # equal rewards or n = 1: no preference
        return problem.log_ref
    logits = _minimised(problem, log_ref, pairs)
    solution = np.full_like(problem.log_ref, -np.inf)
    solution[support] = logits.numpy()
    return solution


def _minimised(problem: Problem, log_ref: Tensor, pairs: Tensor) -> Tensor:
    """Normalised logits of least population loss, by Newton's method with damping."""
    logits, value = log_ref, _bonbon_loss(problem, log_ref, log_ref, pairs)
    damping = 0.0
    for _ in range(_NEWTON_STEPS):
        step, residual = _bonbon_step(problem, logits, log_ref, pairs, damping)
        if residual < 1e-12:
            return logits
        trial = torch.log_softmax(logits - step, dim=0)
        trial_value = _bonbon_loss(problem, trial, log_ref, pairs)
        if trial_value <= value:
            logits, value, damping = trial, trial_value, damping / 10 if damping > 1e-9 else 0.0
        elif residual < 1e-7:  # the loss cannot resolve further progress
            return logits
        else:
            damping = max(10 * damping, 1e-8)
    raise ConfigError(
        f"alpha: BoNBoN's optimum at alpha = {problem.alpha}, n = {problem.n} has log-ratios that"
        " Newton's method cannot reach in float64; give a larger alpha"
    )


def _bonbon_loss(problem: Problem, log_policy: Tensor, log_ref: Tensor, pairs: Tensor) -> float:
    """Population loss: the mean over best and worst of n independent draws."""
    log_ratio = log_policy - log_ref
    losses = bonbon_loss(
        log_policy[:, None], log_ratio[:, None], log_ratio, problem.n, problem.alpha, problem.loss
    )
    return losses.masked_fill(pairs == 0, 0.0).mul(pairs).sum().item()


def _bonbon_step(
    problem: Problem, logits: Tensor, log_ref: Tensor, pairs: Tensor, damping: float
) -> tuple[Tensor, float]:
    """Newton's step to subtract from normalised ``logits``, and the gradient's relative size."""
    log_ratio = logits - log_ref
    gap = (log_ratio[:, None] - log_ratio).requires_grad_()
    losses = bonbon_loss(torch.zeros_like(gap), gap, 0.0, problem.n, problem.alpha, problem.loss)
    (slope,) = torch.autograd.grad(losses.sum(), gap, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), gap)
    weights = pairs - pairs.diag().diag()  # the gap of a response to itself is 0
    slope, curvature = weights * slope.detach(), weights * curvature
    policy, alpha = logits.exp(), problem.alpha
    gradient = slope.sum(1) - slope.sum(0) + alpha * (policy - pairs.sum(1))
    diagonal = (curvature.sum(1) + curvature.sum(0) + alpha * policy).clamp_min(1e-290)
    hessian = diagonal.diag() - curvature - curvature.T - alpha * torch.outer(policy, policy)
    # Scaled to a unit diagonal. The null direction, a shift of all logits, is filled in.
    scale = diagonal.rsqrt()
    constant = diagonal.sqrt() / diagonal.sum().sqrt()
    system = scale[:, None] * hessian * scale + torch.outer(constant, constant)
    system.diagonal().add_(damping)
    residual = gradient.abs().sum() / (slope.abs().sum() + alpha)
    return scale * torch.linalg.solve(system, scale * gradient), residual.item()


def _check_bonbon(problem: Problem) -> None:
    """Raise ``ConfigError`` unless the population loss has a finite minimiser."""
    problem.require("n")
    if problem.require("alpha") == 0 and problem.loss == "sigmoid":
        raise ConfigError("alpha: the sigmoid loss has no finite optimum at 0; give alpha > 0")


def _positive_kl_coef(problem: Problem) -> float:
    """KL coefficient, ``inf`` allowed."""
    value = problem.require("kl_coef")
    if not value > 0:
        raise ConfigError(f"kl_coef: this optimum needs kl_coef > 0, got {value}")
    return value


def _regularised(problem: Problem, log_policy: np.ndarray, rewards: np.ndarray) -> float:
    """Mean reward minus the price of leaving the reference."""
    price = _positive_kl_coef(problem) * kl(log_policy, problem.log_ref)
    return float(np.sum(np.exp(log_policy) * rewards) - price)


def _bonbon_value(problem: Problem, log_policy: np.ndarray) -> float:
    _check_bonbon(problem)
    pairs = best_worst(problem.log_ref, problem.rewards, problem.n)
    arrays = (log_policy, problem.log_ref, pairs)
    return -_bonbon_loss(problem, *(torch.from_numpy(array) for array in arrays))


OPTIMA: dict[str, Callable[[Problem], np.ndarray]] = {
    "reference": lambda problem: problem.log_ref,
    "best_of_n": lambda problem: _normalised(
        problem.log_ref + log_bon_ratio(*problem.masses(), problem.require("n"))
    ),
    "best_of_poisson": lambda problem: _normalised(
        problem.log_ref + poisson.log_ratio(*problem.masses(), problem.require("n"))
    ),
    "soft_best_of_n": _soft_best_of_n,
    "kl_rl": lambda problem: _normalised(
        problem.log_ref + problem.rewards / _positive_kl_coef(problem)
    ),
    "win_rate": lambda problem: _normalised(
        problem.log_ref + problem.win_rates() / _positive_kl_coef(problem)
    ),
    "lower_bound": lambda problem: _normalised(
        problem.log_ref + (problem.require("n") - 1) * problem.bounded_below()
    ),
    "lower_bound_l1": _lower_bound_l1,
    "bonbon": _bonbon,
}
"""Optimum by name, as log-probabilities; methods name theirs in ``optimum``."""

OBJECTIVES: dict[str, Callable[[Problem, np.ndarray], float]] = {
    "reference": lambda problem, policy: -kl(policy, problem.log_ref),
    "best_of_n": lambda problem, policy: bounds.vbon_objective(
        policy, problem.log_ref, *problem.masses(), problem.require("n")
    ),
    "best_of_poisson": lambda problem, policy: -kl(policy, OPTIMA["best_of_poisson"](problem)),
    "soft_best_of_n": lambda problem, policy: -kl(policy, _soft_best_of_n(problem)),
    "kl_rl": lambda problem, policy: _regularised(problem, policy, problem.rewards),
    "win_rate": lambda problem, policy: _regularised(problem, policy, problem.win_rates()),
    "lower_bound": lambda problem, policy: bounds.lower_bound(
        policy, problem.log_ref, problem.bounded_below(), problem.require("n")
    ),
    "lower_bound_l1": lambda problem, policy: bounds.lower_bound_l1(
        policy, problem.log_ref, problem.bounded_below(), problem.require("n")
    ),
    "bonbon": _bonbon_value,
}
"""Objective by name, to be maximised, of a policy's log-probabilities."""


def reward_levels(
    rewards: np.ndarray, log_ref: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct rewards, ascending, with the log-mass below and at each of them, in nats.

    Example:
        >>> rewards, log_ref = np.array([1.0, 0.0, 1.0]), np.log([0.5, 0.25, 0.25])
        >>> levels, below, level = reward_levels(rewards, log_ref)
        >>> levels.tolist(), np.exp(below).tolist(), np.exp(level).round(12).tolist()
        ([0.0, 1.0], [0.0, 0.25], [0.25, 0.75])
    """
    levels, first = np.unique(rewards, return_index=True)
    below, level = log_masses(rewards, log_ref)
    return levels, below[first], level[first]

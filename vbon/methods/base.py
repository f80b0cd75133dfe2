"""Shapes of a method; trainers depend on the shape, never on a name."""

import abc
import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from vbon.batches import OfflineBatch, Ranks, Scored
from vbon.errors import ConfigError, number_hint
from vbon.objectives.best_of_n import kl_upper_bound, kl_with_ties, log_bon_ratio
from vbon.pool.pairs import Pairing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method(abc.ABC):
    """Declarations of a method. Its dataclass fields are its settings in the config.

    A method's look (``label`` to ``order``) is optional and not inherited. Figures and report read
    it from the file without importing it, so its values are literals
    (:func:`vbon.methods.registry.declared`). A change of look, ``paper`` or ``example`` redraws
    figures and trains nothing again.
    """

    name: ClassVar[str]
    """Name of the method's file, set on registration."""
    paper: ClassVar[str]
    """Paper and section that define the method, or any other text about its origin."""
    needs: ClassVar[tuple[str, ...]] = ()
    """``("logf",)`` if its rewards use the reference's distribution function of the reward."""
    optimum: ClassVar[str | None] = None
    """Name in :mod:`vbon.objectives.oracle` of the distribution that an ideal optimiser reaches;
    None if the oracle has none, if the loss has no finite minimiser, or if that moves with the
    policy."""
    rank_based: ClassVar[bool] = False
    """True if a strictly increasing map of the reward changes nothing."""
    trained: ClassVar[bool] = True
    """True if its runs train a policy."""
    example: ClassVar[Mapping[str, Any]] = {}
    """Settings that tests use. Required settings other than ``n``, ``kl_coef`` and ``updates`` must
    be among them."""

    label: ClassVar[str]
    """Text of legends; the method's name by default."""
    colour: ClassVar[str]
    """Colour on white as ``#rrggbb``; the next of a reserve by default."""
    dark_colour: ClassVar[str]
    """Colour on a dark page; by default ``colour``, lightened where it is too dim there."""
    marker: ClassVar[str]
    """Marker in matplotlib's notation (:data:`vbon.methods.registry.MARKERS`); the next of a
    reserve by default."""
    hollow: ClassVar[bool]
    """True for markers that are white inside; False by default."""
    dashes: ClassVar[str | tuple[float, tuple[float, ...]]]
    """Pattern of lines in matplotlib's notation; solid by default."""
    order: ClassVar[float]
    """Place in legends, ascending; methods without one come last, by name."""

    @property
    def is_reference(self) -> bool:
        """True if this setting is the reference itself and needs no training."""
        return False

    def optimum_settings(self, mean_nll: float = math.nan) -> dict[str, float | str]:
        """Settings at which :func:`vbon.objectives.oracle.optimum` is this method's optimum.

        Args:
            mean_nll: Mean negative log-likelihood of the preferred training responses; some offline
                methods depend on it.
        """
        settings = {name: getattr(self, name, None) for name in ("n", "kl_coef")}
        return {name: value for name, value in settings.items() if value is not None}

    def _check_number(
        self, field: str, low: float = -math.inf, high: float = math.inf, strict: bool = False
    ) -> None:
        """Refuse a setting that is no finite number from ``low``, or above it, to ``high``."""
        value = getattr(self, field)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        is_inside = is_number and math.isfinite(value) and low <= value <= high
        if not is_inside or (strict and value == low):
            bounds = [f"{'>' if strict else '>='} {low}"] if math.isfinite(low) else []
            bounds += [f"<= {high}"] if math.isfinite(high) else []
            range_ = f"a number {' and '.join(bounds)}" if bounds else "a finite number"
            self._refuse(field, f"give {range_}")

    def _check_whole(self, field: str, low: int) -> None:
        """Refuse a setting that is no whole number from ``low`` on."""
        self._check_number(field, low)
        if getattr(self, field) != int(getattr(self, field)):
            self._refuse(field, "give a whole number")

    def _check_choice(self, field: str, accepted: tuple[str, ...]) -> None:
        """Refuse a setting that is none of those accepted."""
        if getattr(self, field) not in accepted:
            self._refuse(field, f"accepted: {', '.join(accepted)}")

    def _refuse(self, field: str, remedy: str) -> NoReturn:
        value = getattr(self, field)
        hint = number_hint(value)
        raise ConfigError(f"methods.{self.name}.{field}: {value!r} is not allowed; {remedy}{hint}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection(Method):
    """A method that trains nothing and selects from fresh reference responses.

    Each has an ``n``, the mean number of draws per returned response. What it declares beside that
    is best-of-n's, unless it says otherwise.
    """

    trained = False
    by_chance: ClassVar[bool] = False
    """True if the choice depends on the seed."""

    @property
    def block(self) -> int:
        """Fresh draws that one returned response takes at most."""
        return int(self.n)

    @abc.abstractmethod
    def choose(
        self, rewards: Float64[Tensor, "prompts draws"], num_responses: int, seed: int = 0
    ) -> Int[Tensor, "prompts chosen"]:
        """Indices of the returned responses among a prompt's draws.

        Args:
            rewards: Rewards of independent reference draws.
            num_responses: Most responses to return per prompt.
            seed: Seed of a choice that depends on chance.
        """

    def blocks(self, draws: int, num_responses: int) -> int:
        """Number of disjoint blocks of a prompt's draws, one for each returned response.

        Raises:
            ConfigError: If there are too few draws for one.
        """
        blocks = min(num_responses, draws // self.block)
        if blocks == 0:
            raise ConfigError(
                f"methods.{self.name}.n: {self.block} draws requested, sampling.fresh_draws gives "
                f"{draws}; raise sampling.fresh_draws"
            )
        return blocks

    def kl(
        self, pools: Float64[np.ndarray, "rows draws"] | None = None
    ) -> float | Float64[np.ndarray, " rows"]:
        """KL divergence from the reference in nats.

        Args:
            pools: Rewards of reference draws, where responses share rewards; None for the closed
                form, which holds for continuous rewards.
        """
        return kl_upper_bound(self.n) if pools is None else kl_with_ties(pools, self.n)

    def log_ratio(
        self, log_below: Float64[np.ndarray, " rows"], log_level: Float64[np.ndarray, " rows"]
    ) -> Float64[np.ndarray, " rows"]:
        """Log of a returned response's probability over the reference's, in nats.

        Args:
            log_below: Log of the reference's probability of a lower reward.
            log_level: Log of that of an equal reward.
        """
        return log_bon_ratio(log_below, log_level, self.n)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Online(Method):
    """A method trained on its own rollouts by policy gradient.

    All share one loop; they differ in the reward of a response and in the penalty of each token
    for leaving the reference.
    """

    leave_one_out: ClassVar[bool] = False
    """True if the baseline is the prompt's other responses, not a value head."""

    kl_coef: float

    @abc.abstractmethod
    def reward(self, scored: Scored) -> Float64[Tensor, " batch"]:
        """Reward given with the last token of each response."""

    def log_tilt(self, scored: Scored) -> Float64[Tensor, " batch"]:
        r"""Log of the optimum over the reference in nats, up to a constant per prompt.

        The maximum of :math:`E[R(y)] - \beta\, KL(\pi \| \pi_\mathrm{ref})` over all distributions
        is :math:`\pi_\mathrm{ref}\, e^{R / \beta}`, normalised. A method whose
        :meth:`token_rewards` are not this penalty gives its own.
        """
        return self.reward(scored) / self.kl_coef

    def token_rewards(
        self,
        token_log_probs: Float[Tensor, "batch tokens"],
        token_log_probs_ref: Float[Tensor, "batch tokens"],
        mask: Bool[Tensor, "batch tokens"],
    ) -> Float[Tensor, "batch tokens"]:
        """Reward of each token without that of the response: the penalty for leaving the reference.

        Args:
            token_log_probs: Log-probs under the policy that drew the response, in nats.
            token_log_probs_ref: Log-probs under the reference, in nats.
            mask: True for the tokens that count.
        """
        return torch.where(mask, -self.kl_coef * (token_log_probs - token_log_probs_ref), 0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Anchored(Online):
    r"""A method trained against an anchor: a model that follows the policy at a distance.

    Each response of the policy is compared with draws of the anchor, and the best of these is
    imitated. After every update the anchor's parameters move a part of the way to the policy's.
    Tokens are penalised for leaving the anchor, not the reference. The number of updates is a
    setting of the method, not of the loop.
    """

    anchor_draws: ClassVar[int] = 2
    """Draws of the anchor for each response of the policy."""
    defines: ClassVar[tuple[str, ...]] = (
        "iterations",
        "epochs",
        "minibatch",
        "whiten",
        "warm_start",
        "tilt_floor",
        "start",
    )
    """Settings of the loop that the method defines; see :meth:`loop`."""

    updates: int
    """Updates until training stops, at least 1; more updates lead further from the reference."""
    anchor_rate: float = 0.02
    """Part of the way to the policy that the anchor goes after each update, from 0 to 1."""
    backward_weight: float = 0.5
    """Weight of the method's reward; imitation of the anchor's best has the rest, from 0 to 1."""

    def __post_init__(self) -> None:
        self._check_whole("updates", 1)
        for field in ("anchor_rate", "backward_weight"):
            self._check_number(field, 0, 1)

    def loop(self, online: Mapping[str, Any]) -> dict[str, Any]:
        """Settings of the loop as this method defines them, laid over those of the config.

        All rollouts of an iteration make one update, so that policy and anchor are those that drew
        them. Whitening would scale the reward and not the imitation. There is no warm start
        and no floor, since the optimum moves with the anchor, which starts as the reference.

        Args:
            online: Settings of the loop, complete.

        Raises:
            ConfigError: If they discount, which the method's gradient does not.
        """
        if online["gamma"] != 1:
            raise ConfigError(
                f"budgets.{self.name}.gamma: {online['gamma']!r} is not allowed, since the return "
                "of a response is not discounted; give 1"
            )
        fixed = {"iterations": int(self.updates), "epochs": 1, "whiten": "none"}
        fixed |= {"warm_start": 0, "tilt_floor": None}
        return {**online, **fixed, "minibatch": online["rollouts"]}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Offline(Method):
    """A method trained on stored reference draws, of which it uses the order of rewards alone.

    All share one loop; they differ in the examples that are made of a prompt's draws and in the
    loss of a batch.
    """

    rank_based = True
    contrastive: ClassVar[bool] = True
    """True if the loss uses the other response of a pair, which costs a forward pass."""

    @property
    @abc.abstractmethod
    def pairing(self) -> Pairing:
        """The examples made of a prompt's draws."""

    def pair_weights(self, lengths: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """Weight of each pair in the loss of a batch, which is a weighted mean.

        Args:
            lengths: Tokens of the preferred responses.
        """
        return torch.ones_like(lengths)

    @abc.abstractmethod
    def batch_loss(self, batch: OfflineBatch) -> Float[Tensor, ""]:
        """Loss to be minimised, averaged over the batch."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Likelihood(Offline):
    """Maximise the likelihood of the preferred responses: the mean of minus log-prob per token.

    Prompt tokens do not count.
    """

    contrastive = False

    @property
    def pairing(self) -> Pairing:
        """One response, which is its own pair."""
        return Pairing(draws=1)

    def pair_weights(self, lengths: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """Number of tokens: all tokens have equal weight."""
        return lengths

    def batch_loss(self, batch: OfflineBatch) -> Float[Tensor, ""]:
        """Negative log-likelihood per token."""
        return -batch.log_prob_chosen.sum() / batch.num_tokens.sum()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Regression(Offline):
    r"""Regress the log-ratio of every stored draw on that of the optimum.

    The optimum is the reference tilted by a function :math:`t` of a draw's rank among its prompt's
    other draws. Their mean :math:`e^t` is its exact normaliser, so that the target :math:`t - \log
    \overline{e^t}` is a log-ratio, and a policy that attains it has no loss.
    """

    contrastive = False

    kl_coef: float
    num_draws: int = 600
    """Draws per prompt that are trained on and ranked among each other, at least 2."""

    @property
    def pairing(self) -> Pairing:
        """Every draw with its rank."""
        return Pairing(draws=int(self.num_draws), ranked=True)

    @abc.abstractmethod
    def log_tilt(self, ranks: Ranks) -> Float64[Tensor, " draws"]:
        """Log of the optimum over the reference in nats, up to a constant per prompt."""

    def batch_loss(self, batch: OfflineBatch) -> Float[Tensor, ""]:
        """Mean squared difference of the log-ratio and its target, on the scale of the reward."""
        if batch.log_ratio_target is None:
            raise TypeError("a method that regresses needs draws with ranks; see `pairing`")
        log_ratio = batch.log_prob_chosen - batch.log_prob_chosen_ref
        return (self.kl_coef * (log_ratio - batch.log_ratio_target)).square().mean()

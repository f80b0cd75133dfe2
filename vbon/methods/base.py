"""The shapes a method can have; trainers ask for the shape, never for a name."""

import dataclasses
import math
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from vbon.errors import ConfigError
from vbon.types import Scored


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """What every method declares. Its dataclass fields are its settings in the config."""

    name: ClassVar[str]
    """Name of the method's file, set on registration."""
    paper: ClassVar[str]
    """Paper and section that define the method."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Artifacts its training reads beyond prompts and models: ``logf``, ``pairs``, ``samples``."""
    optimum: ClassVar[str]
    """Name in :mod:`vbon.oracle` of the distribution an ideal optimiser reaches."""
    rank_based: ClassVar[bool] = False
    """Whether a strictly increasing map of the reward must change nothing at all."""
    trained: ClassVar[bool] = True
    """Whether its runs have a policy of their own."""

    @property
    def is_reference(self) -> bool:
        """Whether this setting is the reference itself and needs no training."""
        return False

    def _check_number(self, field: str, low: float, strict: bool) -> None:
        """Refuse a setting that is no finite number from ``low`` on."""
        value = getattr(self, field)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        above = number and math.isfinite(value) and (value > low if strict else value >= low)
        if not above:
            sign = ">" if strict else ">="
            raise ConfigError(
                f"methods.{self.name}.{field}: {value!r} is not allowed; give a number {sign} {low}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection(Method):
    """A method that trains nothing and picks among fresh reference responses."""

    trained = False

    def choose(
        self, rewards: Float64[Tensor, "prompts draws"], num_responses: int
    ) -> Int[Tensor, "prompts chosen"]:
        """Indices of the returned responses among a prompt's draws.

        Args:
            rewards: Rewards of independent reference draws.
            num_responses: Most responses to return a prompt.
        """
        raise TypeError(f"{type(self).__name__} does not say how it chooses")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Online(Method):
    """A method trained on its own rollouts by policy gradient.

    All of them share one loop and differ only in the reward of a response and in what each token
    pays for leaving the reference.
    """

    kl_coef: float

    def reward(self, scored: Scored) -> Float64[Tensor, " batch"]:
        """Reward given with the last token of each response."""
        raise TypeError(f"{type(self).__name__} does not define a reward")

    def token_rewards(
        self,
        token_log_probs: Float[Tensor, "batch tokens"],
        token_log_probs_ref: Float[Tensor, "batch tokens"],
        mask: Bool[Tensor, "batch tokens"],
    ) -> Float[Tensor, "batch tokens"]:
        """Reward of each token before the last one's is added: the price of leaving the reference.

        Args:
            token_log_probs: Log-probs under the policy that drew the response, in nats.
            token_log_probs_ref: Log-probs under the reference, in nats.
            mask: True for the tokens that count.
        """
        return torch.where(mask, -self.kl_coef * (token_log_probs - token_log_probs_ref), 0.0)

"""What every reward model returns, and the maps that may be laid over it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64
from numpy.typing import NDArray

from vbon.errors import DataError

TRANSFORMS: dict[str, Callable[[NDArray], NDArray]] = {
    "identity": lambda reward: reward,
    "exp": np.exp,
}
"""Strictly increasing maps of the training reward, in float64."""


def transformed(
    raw: Float64[np.ndarray, " texts"], transform: str, texts: Sequence[str]
) -> Float64[np.ndarray, " texts"]:
    """Rewards on the training scale.

    Args:
        raw: What the reward model said.
        transform: A name in :data:`TRANSFORMS`.
        texts: What it said it of, for the message.

    Raises:
        DataError: If a reward is NaN or infinite, with the text that caused it.
    """
    with np.errstate(over="ignore"):
        reward = TRANSFORMS[transform](raw)
    bad = np.flatnonzero(~np.isfinite(reward))
    if len(bad):
        raise DataError(
            f"reward: {reward[bad[0]]} for text {texts[bad[0]]!r}; rewards must be finite, "
            "check the reward model and rewards.transform"
        )
    return reward


def replace_unfinished(
    reward: Float64[np.ndarray, " texts"],
    finished: Bool[np.ndarray, " texts"],
    settings: Mapping[str, Any],
) -> Float64[np.ndarray, " texts"]:
    """Training rewards, with one number in the place of those of responses that did not end.

    The number stands on the reward model's scale and is transformed as rewards are, so that a
    transform still changes no rank.

    Args:
        reward: On the training scale.
        finished: Whether an end-of-sequence token was sampled.
        settings: The section ``rewards`` of the config: ``missing_eos``, ``transform``.

    Example:
        >>> settings = {"missing_eos": 0.0, "transform": "exp"}
        >>> replace_unfinished(np.array([2.0, 5.0]), np.array([True, False]), settings).tolist()
        [2.0, 1.0]
    """
    penalty = settings.get("missing_eos")
    if penalty is None:
        return reward
    named = "(without an end, rewards.missing_eos)"
    return np.where(
        finished, reward, transformed(np.array([float(penalty)]), settings["transform"], [named])
    )


@dataclass(frozen=True)
class Rewards:
    """Scores of texts.

    Attributes:
        reward: On the training scale, after the transform.
        prob: Probability of the positive class, never transformed; NaN where there is none.
    """

    reward: Float64[np.ndarray, " texts"]
    prob: Float64[np.ndarray, " texts"]


@runtime_checkable
class RewardModel(Protocol):
    """Scores texts, each on its own."""

    def __call__(self, texts: Sequence[str]) -> Rewards: ...

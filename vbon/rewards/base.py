"""What every reward model returns, and the maps that may be laid over it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from vbon.errors import DataError

TRANSFORMS: dict[str, Callable[[NDArray], NDArray]] = {
    "identity": lambda reward: reward,
    "exp": np.exp,
    "cube": lambda reward: reward**3,
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

"""Interface of reward models, and transforms of the training reward."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64
from numpy.typing import NDArray

from vbon.errors import DataError

Transform = Callable[[NDArray], NDArray]
TRANSFORMS: dict[str, Transform] = {"identity": lambda reward: reward, "exp": np.exp}
"""Strictly increasing maps of the training reward, in float64."""


def transformed(
    raw: Float64[np.ndarray, " texts"], transform: str, texts: Sequence[str]
) -> Float64[np.ndarray, " texts"]:
    """Rewards on the training scale.

    Args:
        raw: Output of the reward model.
        transform: A name in :data:`TRANSFORMS`.
        texts: The texts scored, for the error message.

    Raises:
        DataError: If a reward is NaN or infinite; the message quotes the text.
    """
    with np.errstate(over="ignore"):
        reward = TRANSFORMS[transform](raw)
    bad = np.flatnonzero(~np.isfinite(reward))
    if len(bad):
        raise DataError(
            f"reward: {reward[bad[0]]} for text {texts[bad[0]]!r}; rewards must be finite, so "
            "check the reward model and rewards.transform"
        )
    return reward


def replace_unfinished(
    reward: Float64[np.ndarray, " texts"],
    finished: Bool[np.ndarray, " texts"],
    settings: Mapping[str, Any],
) -> Float64[np.ndarray, " texts"]:
    """Training rewards in which ``missing_eos`` replaces those of unfinished responses.

    ``missing_eos`` is on the reward model's scale and is transformed as rewards are, so that a
    transform changes no rank.

    Args:
        reward: Rewards on the training scale.
        finished: True if an end-of-sequence token was sampled.
        settings: Section ``rewards`` of the config: ``missing_eos`` (None keeps all rewards) and
            ``transform``.

    Example:
        >>> settings = {"missing_eos": 0.0, "transform": "exp"}
        >>> replace_unfinished(np.array([2.0, 5.0]), np.array([True, False]), settings).tolist()
        [2.0, 1.0]
    """
    penalty = settings.get("missing_eos")
    if penalty is None:
        return reward
    label = "(without an end, rewards.missing_eos)"
    return np.where(
        finished, reward, transformed(np.array([float(penalty)]), settings["transform"], [label])
    )


@dataclass(frozen=True)
class Rewards:
    """Scores of texts.

    Attributes:
        reward: Rewards on the training scale, after the transform.
        prob: Probability of the positive class, never transformed; NaN if there is none.
    """

    reward: Float64[np.ndarray, " texts"]
    prob: Float64[np.ndarray, " texts"]


@runtime_checkable
class RewardModel(Protocol):
    """Function that scores texts independently of each other."""

    def __call__(self, texts: Sequence[str]) -> Rewards: ...

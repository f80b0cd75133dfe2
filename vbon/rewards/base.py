"""Interface of reward models, their batches, and transforms of the training reward."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, overload, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64
from numpy.typing import NDArray

from vbon.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from vbon.batches import Prompts, TokenIds

Transform = Callable[[NDArray], NDArray]
TRANSFORMS: dict[str, Transform] = {"identity": lambda reward: reward, "exp": np.exp}
"""Strictly increasing maps of the training reward, in float64."""


def check_options(batch_size: int, transform: str) -> None:
    """Refuse options with which no reward model can score.

    Raises:
        ConfigError: If there is no such transform, or a batch would have no text.
    """
    if transform not in TRANSFORMS:
        raise ConfigError(
            f"transform: {transform!r} is not allowed; accepted: {', '.join(TRANSFORMS)}"
        )
    if batch_size < 1:
        raise ConfigError(f"batch_size: {batch_size} is not allowed; give a number of at least 1")


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


class Completions(Sequence[str]):
    """Responses to score, each with its prompt: a sequence of full texts that has other views.

    A view is made when it is first read, so a reward pays for the decoding it needs only. Each has
    one item per response.

    Args:
        tokenizer: Tokenizer of the reference.
        prompts: Prompts of the responses.
        response_ids: Token ids of the responses, without those that ended them.
        index: Position in ``prompts`` of each response's prompt; by default they correspond.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Prompts,
        response_ids: Sequence[TokenIds],
        index: Sequence[int] | None = None,
    ) -> None:
        self._tokenizer, self._prompts, self._response_ids = tokenizer, prompts, response_ids
        self._index = list(range(len(prompts)) if index is None else index)
        if len(self._index) != len(response_ids):
            raise ValueError(f"{len(self._index)} prompts for {len(response_ids)} responses")

    @classmethod
    def from_texts(
        cls,
        responses: Sequence[str],
        prompts: Sequence[str] | None = None,
        details: Sequence[Mapping[str, str]] | None = None,
    ) -> Completions:
        """Responses that exist as texts, as are their prompts; by default these are empty.

        Example:
            >>> batch = Completions.from_texts(["4"], ["2+2="], [{"row": '{"answer": 4}'}])
            >>> list(batch), batch.rows, batch.messages
            (['2+2=4'], [{'answer': 4}], [None])
        """
        completions = cls.__new__(cls)
        starts = [""] * len(responses) if prompts is None else list(prompts)
        texts = [start + end for start, end in zip(starts, responses, strict=True)]
        views = {"texts": texts, "prompts": starts, "responses": list(responses)}
        vars(completions).update(views, _details=details or [{}] * len(responses))
        return completions

    @cached_property
    def texts(self) -> list[str]:
        """Prompt and response as one text, without special tokens."""
        lists = self._prompts.id_lists()
        prompt_ids = (lists[row] for row in self._index)
        return full_texts(self._tokenizer, prompt_ids, self._response_ids)

    @cached_property
    def prompts(self) -> list[str]:
        """Texts of the prompts, without special tokens."""
        used = sorted(set(self._index))
        lists = self._prompts.id_lists()
        decoded = self._decode([lists[row] for row in used])
        texts = dict(zip(used, decoded, strict=True))
        return [texts[row] for row in self._index]

    @cached_property
    def responses(self) -> list[str]:
        """Texts of the responses, without special tokens."""
        return self._decode([list(ids) for ids in self._response_ids])

    @cached_property
    def messages(self) -> list[list[dict[str, Any]] | None]:
        """Conversation that each prompt ends, a dictionary per turn; None if it is no chat."""
        return self._parsed("messages")

    @cached_property
    def rows(self) -> list[dict[str, Any] | None]:
        """Row of the data set that each prompt is from; None where the task keeps none."""
        return self._parsed("row")

    def _decode(self, ids: list[list[int]]) -> list[str]:
        return self._tokenizer.batch_decode(ids, skip_special_tokens=True)

    @cached_property
    def _details(self) -> list[Mapping[str, str]]:
        names, details = self._prompts.prompt_id, self._prompts.details
        return [details.get(names[row], {}) for row in self._index]

    def _parsed(self, column: str) -> list[Any]:
        """A JSON column; each response has an object of its own, which a reward may change."""
        cells = (details.get(column) for details in self._details)
        return [json.loads(cell) if isinstance(cell, str) else None for cell in cells]

    def __len__(self) -> int:
        return len(self._details)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        return self.texts[index]


def full_texts(
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: Iterable[TokenIds],
    response_ids: Iterable[TokenIds],
) -> list[str]:
    """Texts to score: prompt and response decoded together, without special tokens.

    The pool, training and evaluation all use this form.
    """
    pairs = zip(prompt_ids, response_ids, strict=True)
    joined = [[*prompt, *response] for prompt, response in pairs]
    return tokenizer.batch_decode(joined, skip_special_tokens=True)


@runtime_checkable
class RewardModel(Protocol):
    """Function that scores responses independently of each other.

    It receives :class:`Completions`, or a plain list of texts.
    """

    def __call__(self, texts: Sequence[str]) -> Rewards: ...

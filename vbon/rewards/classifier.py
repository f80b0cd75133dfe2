"""Sequence classifiers as reward models: the positive class's logit is the reward."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64
from numpy.typing import NDArray
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from vbon.errors import ArtifactError, ConfigError, DataError
from vbon.models.language_model import resolve

TRANSFORMS: dict[str, Callable[[NDArray], NDArray]] = {
    "identity": lambda reward: reward,
    "exp": np.exp,
    "cube": lambda reward: reward**3,
}
"""Strictly increasing maps of the training reward, in float64."""


@dataclass(frozen=True)
class Rewards:
    """Scores of texts.

    Attributes:
        reward: Positive logit, transformed; what training sees.
        prob: Probability of the positive class, never transformed.
    """

    reward: Float64[np.ndarray, " texts"]
    prob: Float64[np.ndarray, " texts"]


class ClassifierReward:
    """Score texts with a two-class classifier in Hugging Face's format.

    Args:
        path: Model folder or pointer.
        batch_size: Texts a forward pass.
        transform: A name in :data:`TRANSFORMS`.

    Raises:
        ArtifactError: If no classifier can be loaded from ``path``.
        ConfigError: If the classifier has no positive class, or its tokenizer is not its own.
    """

    def __init__(
        self, path: str | Path, batch_size: int = 256, transform: str = "identity"
    ) -> None:
        name, revision = resolve(path)
        try:
            self._model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
                name, revision=revision, dtype=torch.float32
            ).eval()
            self._tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                name, revision=revision
            )
        except OSError as error:
            reason = str(error).splitlines()[0]
            raise ArtifactError(f"{path}: no classifier could be loaded: {reason}") from error
        if len(self._tokenizer) > self._model.config.vocab_size:
            raise ConfigError(
                f"{path}: its tokenizer has {len(self._tokenizer)} tokens but its model only "
                f"{self._model.config.vocab_size}; use the tokenizer saved with the model"
            )
        self._batch_size, self._transform = batch_size, TRANSFORMS[transform]
        self._positive = _positive_class(self._model.config.id2label, path)
        self._longest = min(
            self._tokenizer.model_max_length, self._model.config.max_position_embeddings
        )

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Rewards:
        """Score each text on its own; the texts around it change nothing beyond rounding.

        Raises:
            DataError: If a reward is NaN or infinite, with the text that caused it.
        """
        encoded = self._tokenizer(list(texts), truncation=True, max_length=self._longest)
        lengths = [len(ids) for ids in encoded["input_ids"]]
        order = sorted(range(len(texts)), key=lengths.__getitem__)  # less padding
        logits = torch.empty(len(texts), self._model.config.num_labels, dtype=torch.float64)
        for start in range(0, len(order), self._batch_size):
            rows = order[start : start + self._batch_size]
            batch = {name: [values[row] for row in rows] for name, values in encoded.items()}
            padded = self._tokenizer.pad(batch, return_tensors="pt")
            if lengths[rows[0]] == lengths[rows[-1]]:
                del padded["attention_mask"]  # nothing is padded
            logits[rows] = self._model(**padded).logits.double()
        raw = logits[:, self._positive].numpy()
        with np.errstate(over="ignore"):
            reward = self._transform(raw)
        bad = np.flatnonzero(~np.isfinite(reward))
        if len(bad):
            raise DataError(
                f"reward: {reward[bad[0]]} for text {texts[bad[0]]!r}; rewards must be finite, "
                "check the reward model and rewards.transform"
            )
        return Rewards(reward, torch.softmax(logits, 1)[:, self._positive].numpy())


def _positive_class(labels: dict[int, str], path: str | Path) -> int:
    for index, label in labels.items():
        if label.upper() in ("POSITIVE", "LABEL_1", "POS"):
            return int(index)
    raise ConfigError(
        f"{path}: no class of {list(labels.values())} is POSITIVE; name one so in id2label"
    )


def full_texts(
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: Sequence[Sequence[int]],
    response_ids: Sequence[Sequence[int]],
) -> list[str]:
    """Prompt and response decoded as one text, without special tokens: what rewards are given to.

    The same form is used for the pool, in training and in evaluation.
    """
    joined = [[*prompt, *response] for prompt, response in zip(prompt_ids, response_ids)]
    return tokenizer.batch_decode(joined, skip_special_tokens=True)

"""Sequence classifiers as reward models: the positive class's logit is the reward."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from vbon.errors import ConfigError
from vbon.models.language_model import load_pretrained, load_tokenizer
from vbon.rewards.base import Rewards, transformed
from vbon.types import TokenIds


class ClassifierReward:
    """Score texts with a two-class classifier in Hugging Face's format.

    Args:
        path: Model folder or pointer.
        batch_size: Texts a forward pass.
        transform: A name in :data:`vbon.rewards.base.TRANSFORMS`.

    Raises:
        ArtifactError: If no classifier can be loaded from ``path``.
        ConfigError: If the classifier has no positive class, or its tokenizer is not its own.
    """

    def __init__(
        self, path: str | Path, batch_size: int = 256, transform: str = "identity"
    ) -> None:
        self._model: PreTrainedModel = load_pretrained(
            AutoModelForSequenceClassification, path, "classifier", dtype=torch.float32
        ).eval()
        self._tokenizer = load_tokenizer(path)
        if len(self._tokenizer) > self._model.config.vocab_size:
            raise ConfigError(
                f"{path}: its tokenizer has {len(self._tokenizer)} tokens but its model only "
                f"{self._model.config.vocab_size}; use the tokenizer saved with the model"
            )
        self._batch_size, self._transform = batch_size, transform
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
        reward = transformed(raw, self._transform, texts)
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
    prompt_ids: Iterable[TokenIds],
    response_ids: Iterable[TokenIds],
) -> list[str]:
    """Prompt and response decoded as one text, without special tokens: what rewards are given to.

    The same form is used for the pool, in training and in evaluation.
    """
    pairs = zip(prompt_ids, response_ids, strict=True)
    joined = [[*prompt, *response] for prompt, response in pairs]
    return tokenizer.batch_decode(joined, skip_special_tokens=True)

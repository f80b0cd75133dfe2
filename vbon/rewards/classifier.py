"""Sequence classifiers as reward models: the reward is the POSITIVE logit, or the only one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from vbon.errors import ConfigError
from vbon.models import last_token
from vbon.models.language_model import device, load_tokenizer
from vbon.models.loading import load_pretrained
from vbon.rewards.base import Rewards, transformed

_TEXTS = 8192  # texts tokenised at a time: the token ids of a whole pool would take gigabytes


class ClassifierReward:
    """Classifier or scalar reward model in Hugging Face's format.

    Args:
        path: Model folder or pointer.
        batch_size: Texts per forward pass.
        transform: A name in :data:`vbon.rewards.base.TRANSFORMS`.

    Raises:
        ArtifactError: If no classifier can be loaded from ``path``.
        ConfigError: If the classifier has no positive class, or its tokenizer has more tokens than
            the model.
    """

    def __init__(
        self, path: str | Path, batch_size: int = 256, transform: str = "identity"
    ) -> None:
        self._model: PreTrainedModel = load_pretrained(
            AutoModelForSequenceClassification, path, "classifier", dtype=torch.float32
        )
        self._model.eval().to(device())
        self._tokenizer = load_tokenizer(path)
        if len(self._tokenizer) > self._model.config.vocab_size:
            raise ConfigError(
                f"{path}: its tokenizer has {len(self._tokenizer)} tokens, its model only "
                f"{self._model.config.vocab_size}; use the tokenizer saved with the model"
            )
        self._batch_size, self._transform = batch_size, transform
        scalar = self._model.config.num_labels == 1
        self._positive = 0 if scalar else _positive_class(self._model.config.id2label, path)
        self._pad_id = self._tokenizer.pad_token_id or 0
        self._longest = min(
            self._tokenizer.model_max_length, self._model.config.max_position_embeddings
        )

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Rewards:
        """Score each text; other texts of the batch affect it by rounding only.

        Raises:
            DataError: If a reward is NaN or infinite; the message quotes the text.
        """
        logits = torch.empty(len(texts), self._model.config.num_labels, dtype=torch.float64)
        for start in range(0, len(texts), _TEXTS):
            part = texts[start : start + _TEXTS]
            logits[start : start + len(part)] = self._logits(part)
        raw = logits[:, self._positive].numpy()
        reward = transformed(raw, self._transform, texts)
        if logits.shape[1] == 1:
            return Rewards(reward, np.full(len(texts), np.nan))
        return Rewards(reward, torch.softmax(logits, 1)[:, self._positive].numpy())

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text; other inputs of the model keep their defaults."""
        if self._tokenizer.is_fast:
            # Omits offsets and masks, which are not needed here and take half of the time.
            backend = self._tokenizer.backend_tokenizer
            backend.no_padding()
            backend.enable_truncation(self._longest, direction=self._tokenizer.truncation_side)
            return [encoding.ids for encoding in backend.encode_batch_fast(list(texts))]
        options = {"truncation": True, "max_length": self._longest}
        return self._tokenizer(list(texts), return_attention_mask=False, **options)["input_ids"]

    def _logits(self, texts: Sequence[str]) -> Tensor:
        """Logits of texts, computed in the order of their lengths."""
        ids = self._encode(texts)
        lengths, fast = torch.tensor([len(row) for row in ids]), last_token.supports(self._model)
        logits = torch.empty(len(texts), self._model.config.num_labels, dtype=torch.float64)
        for rows in lengths.argsort(stable=True).split(self._batch_size):  # less padding
            # Padding row by row, as the tokenizer's `pad` does, takes as long as the forward pass
            # of a small model.
            column = torch.arange(int(lengths[rows[-1]]))
            if self._tokenizer.padding_side == "left" and not fast:
                column = column.flip(0)
            real = column < lengths[rows, None]
            padded = torch.full(real.shape, self._pad_id)
            padded[real] = torch.tensor([token for row in rows.tolist() for token in ids[row]])
            padded, real = padded.to(self._model.device), real.to(self._model.device)
            if fast:
                batch_logits = last_token.logits(self._model, padded)
            else:
                options = {} if real.all() else {"attention_mask": real.long()}
                batch_logits = self._model(padded, **options).logits
            logits[rows] = batch_logits.double().cpu()
        return logits


def _positive_class(labels: dict[int, str], path: str | Path) -> int:
    for index, label in labels.items():
        if label.upper() in ("POSITIVE", "LABEL_1", "POS"):
            return int(index)
    raise ConfigError(
        f"{path}: none of the classes {', '.join(labels.values())} is POSITIVE, POS or LABEL_1; "
        "rename one to POSITIVE in id2label of its config.json"
    )

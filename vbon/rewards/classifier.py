"""Sequence classifiers as reward models: the reward is the logit of one class, or the only one."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from vbon.errors import ConfigError, DataError
from vbon.models import last_token
from vbon.models.chat import template_fault
from vbon.models.language_model import device, load_tokenizer
from vbon.models.loading import load_pretrained
from vbon.rewards.base import Completions, Rewards, transformed

_LOG = logging.getLogger(__name__)
_TEXTS = 8192  # texts tokenised at a time: the token ids of a whole pool would take gigabytes
_NO_PADDING = -1  # as a padding token: no token of a text has this id
_UNLIMITED = 10**9  # tokenizers without a limit have 1e30
_LIMITS = ("max_position_embeddings", "n_positions", "max_seq_len")
_FAULTS = (ValueError, RuntimeError, IndexError)
_EXACT, _CLOSE = 1e-5, 1e-3  # tolerances of the check of padded batches, and of any batches


class ClassifierReward:
    """Classifier or scalar reward model in Hugging Face's format.

    When it is loaded, a few texts are scored alone, by the library's own forward pass, and
    together. Where padding changes a score, batches contain texts of one length; where other texts
    do, each is scored alone. A faster forward pass is used where it agrees.

    Args:
        path: Model folder or pointer.
        batch_size: Texts per forward pass.
        transform: A name in :data:`vbon.rewards.base.TRANSFORMS`.
        label: Name or number of the class whose logit is the reward. By default the only one, the
            one named POSITIVE or POS, or LABEL_1 of two.
        chat: Score the conversation of prompt and response, in the model's own chat template,
            instead of their text.

    Raises:
        ArtifactError: If no classifier with a trained head can be loaded from ``path``.
        ConfigError: If the class of the reward is not clear, the model cannot score texts, its
            tokenizer has more tokens than the model, or no chat template with ``chat``.
    """

    def __init__(
        self,
        path: str | Path,
        batch_size: int = 256,
        transform: str = "identity",
        label: str | int | None = None,
        chat: bool = False,
    ) -> None:
        self._model: PreTrainedModel = load_pretrained(
            AutoModelForSequenceClassification, path, "classifier", dtype=torch.float32
        )
        self._model.eval().to(device())
        self._tokenizer = load_tokenizer(path)
        config = self._model.config.get_text_config()
        size = getattr(config, "vocab_size", len(self._tokenizer))
        if len(self._tokenizer) > size:
            raise ConfigError(
                f"{path}: its tokenizer has {len(self._tokenizer)} tokens, its model only {size}; "
                f"use the tokenizer saved with the model"
            )
        self._path, self._batch_size, self._transform, self._chat = (
            path,
            batch_size,
            transform,
            chat,
        )
        if chat and not self._tokenizer.chat_template:
            raise ConfigError(
                f"{path}: chat: true, but its tokenizer has no chat template; give chat: false, or "
                "a tokenizer with the template that the model was trained with"
            )
        self._class = _reward_class(self._model.config, label, path)
        self._longest = _longest(self._model, self._tokenizer.model_max_length)
        self._cut = self._announced = 0
        frame = self._tokenizer.num_special_tokens_to_add()
        if self._longest is not None and self._longest <= frame:
            raise ConfigError(
                f"{path}: texts may have {self._longest} tokens, of which {frame} are special, so "
                "nothing of a text is read; correct model_max_length in tokenizer_config.json"
            )
        known = config.pad_token_id is not None and 0 <= config.pad_token_id < size
        # A classifier that reads its scores at the last token finds it by the padding token.
        # Without one, no token of a text is mistaken for padding, and batches have none.
        self._pad_id = config.pad_token_id if known else self._tokenizer.pad_token_id or 0
        if not known:
            config.pad_token_id = _NO_PADDING
        self._end = config.eos_token_id if config.is_encoder_decoder else None
        if config.is_encoder_decoder and getattr(config, "decoder_start_token_id", None) is None:
            config.decoder_start_token_id = self._pad_id  # as T5's, in whose files it is given
        config.use_cache = False  # of keys and values, which no second pass would read
        self._pads, self._needs_types = known, False
        sparse = getattr(config, "attention_type", None) == "block_sparse"
        modules = self._model.modules() if sparse else ()
        self._sparse = [part for part in modules if hasattr(part, "set_attention_type")]
        self._fast = False
        self._check()

    @property
    def batches(self) -> str:
        """Texts that share a forward pass: ``padded``, ``of one length`` or ``of one text``."""
        if self._batch_size == 1:
            return "of one text"
        return "padded" if self._pads else "of one length"

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Rewards:
        """Score each text; other texts of the batch affect it by rounding only.

        A text without tokens is read as the tokenizer's first or end token. Texts that are too long
        are cut on the tokenizer's side of truncation, and counted in a warning.

        Args:
            texts: Texts, or :class:`vbon.rewards.base.Completions`, which ``chat`` requires.

        Raises:
            DataError: If a text cannot be scored or a reward is NaN or infinite; the message quotes
                the text.
        """
        logits = torch.empty(len(texts), self._model.config.num_labels, dtype=torch.float64)
        for start in range(0, len(texts), _TEXTS):
            rows = range(start, min(start + _TEXTS, len(texts)))
            logits[start : rows.stop] = self._logits(texts, rows)
        raw = logits[:, self._class].numpy()
        reward = transformed(raw, self._transform, texts)
        if self._model.config.problem_type == "multi_label_classification":
            return Rewards(reward, torch.sigmoid(logits[:, self._class]).numpy())
        if logits.shape[1] == 1:
            return Rewards(reward, np.full(len(texts), np.nan))
        return Rewards(reward, torch.softmax(logits, 1)[:, self._class].numpy())

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text; other inputs of the model keep their defaults."""
        limit, tokenizer = self._longest, self._tokenizer
        if tokenizer.is_fast:
            # Omits offsets and masks, which are not needed here and take half of the time.
            backend = tokenizer.backend_tokenizer
            backend.no_padding()
            if limit is None:
                backend.no_truncation()
            else:
                backend.enable_truncation(limit, direction=tokenizer.truncation_side)
            try:
                encodings = backend.encode_batch_fast(list(texts))
            except TypeError as error:
                bad = next((text for text in texts if not _is_unicode(text)), None)
                raise DataError(f"reward: {bad!r} is not a text in Unicode; correct it") from error
            ids = [encoding.ids for encoding in encodings]
            full = (
                encoding for encoding, row in zip(encodings, ids, strict=True) if len(row) == limit
            )
            self._cut += sum(bool(encoding.overflowing) for encoding in full)
            return ids
        ids = tokenizer(list(texts), return_attention_mask=False)["input_ids"]
        if limit is None or all(len(row) <= limit for row in ids):
            return ids
        self._cut += sum(len(row) > limit for row in ids)
        options = {"truncation": True, "max_length": limit}
        return tokenizer(list(texts), return_attention_mask=False, **options)["input_ids"]

    def _encode_chats(self, completions: Sequence[str], rows: range) -> list[list[int]]:
        """Token ids of conversations that end with the response."""
        if not isinstance(completions, Completions):
            raise DataError(
                "reward: chat: true scores prompts with responses, and these are plain texts; "
                "give vbon.rewards.Completions"
            )
        messages, prompts = completions.messages, completions.prompts
        chats = [
            [
                *(messages[row] or [{"role": "user", "content": prompts[row]}]),
                {"role": "assistant", "content": completions.responses[row]},
            ]
            for row in rows
        ]
        try:
            ids = self._tokenizer.apply_chat_template(chats, tokenize=True, return_dict=False)
        except Exception as error:  # a template may raise anything
            raise DataError(
                f"reward: the chat template of {self._path} {template_fault(error, chats[0])}, or "
                "give chat: false"
            ) from error
        limit = self._longest
        self._cut += sum(len(row) > limit for row in ids) if limit is not None else 0
        start = self._tokenizer.truncation_side == "left"
        return [row[-limit:] if start and limit else row[:limit] for row in ids]

    def _rows(self, texts: Sequence[str], rows: range) -> list[list[int]]:
        """Token ids of some texts, at least one token each."""
        if self._chat:
            ids = self._encode_chats(texts, rows)
        else:
            ids = self._encode(texts[rows.start : rows.stop])
        if self._cut > 2 * self._announced:
            self._announced = self._cut
            _LOG.warning(
                "%s: %d texts are longer than its %d tokens and were cut on the %s",
                self._path,
                self._cut,
                self._longest,
                self._tokenizer.truncation_side,
            )
        ids = self._filled(ids)
        if not all(ids):
            raise DataError(
                f"reward: text {texts[rows[ids.index([])]]!r} has no tokens, and the tokenizer of "
                f"{self._path} no bos or eos token to read in their place; set one"
            )
        return ids

    def _filled(self, ids: list[list[int]]) -> list[list[int]]:
        """Token ids with those that the model needs, if the tokenizer has left them out."""
        if not all(ids):
            names = ("bos_token_id", "cls_token_id", "eos_token_id", "sep_token_id")
            frame = [getattr(self._tokenizer, name) for name in names] + [self._end]
            blank = [token for token in frame if token is not None][:1]
            ids = [row or blank for row in ids]
        if self._end is None:
            return ids
        # Encoder-decoders read the score at the end token.
        room = slice(None if self._longest is None else self._longest - 1)
        return [row if self._end in row else [*row[room], self._end] for row in ids]

    def _logits(self, texts: Sequence[str], rows: range) -> Tensor:
        """Logits of some texts, computed in the order of their lengths."""
        ids, types = self._rows(texts, rows), None
        if self._needs_types and not self._chat:
            types = [self._types(text) or [0] for text in texts[rows.start : rows.stop]]
        lengths = torch.tensor([len(row) for row in ids])
        logits = torch.empty(len(ids), self._model.config.num_labels, dtype=torch.float64)
        for part in self._parts(lengths):
            try:
                logits[part] = self._scores(ids, part, types)
                continue
            except torch.OutOfMemoryError:
                raise
            except _FAULTS:  # of one of the texts, or of texts that cannot share a batch
                pass
            for row in part.split(1):
                try:
                    logits[row] = self._scores(ids, row, types)
                except _FAULTS as error:
                    raise DataError(
                        f"reward: {type(self._model).__name__} of {self._path} cannot score text "
                        f"{texts[rows[int(row)]]!r} ({_first_line(error)})"
                    ) from error
        return logits

    def _parts(self, lengths: Tensor) -> list[Tensor]:
        """Rows of each batch: texts of similar length, which need less padding, or of the same."""
        order = lengths.argsort(stable=True)
        if self._pads:
            return list(order.split(self._batch_size))
        _, counts = torch.unique_consecutive(lengths[order], return_counts=True)
        same = order.split(counts.tolist())
        return [part for rows in same for part in rows.split(self._batch_size)]

    def _scores(
        self, ids: list[list[int]], rows: Tensor, types: list[list[int]] | None = None
    ) -> Tensor:
        """Logits of one batch, right-padded: padding on the left would move the positions."""
        picked = rows.tolist()
        lengths = torch.tensor([len(ids[row]) for row in picked])
        # Padding row by row, as the tokenizer's `pad` does, takes as long as the forward pass
        # of a small model.
        real = torch.arange(int(lengths.max())) < lengths[:, None]
        padded = torch.full(real.shape, self._pad_id)
        padded[real] = torch.tensor([token for row in picked for token in ids[row]])
        padded, mask = padded.to(self._model.device), real.to(self._model.device)
        if self._fast:
            return last_token.logits(self._model, padded).double().cpu()
        options = {} if real.all() else {"attention_mask": mask.long()}
        if types is not None:
            kinds = torch.zeros(real.shape, dtype=torch.long)
            kinds[real] = torch.tensor([kind for row in picked for kind in types[row]])
            options["token_type_ids"] = kinds.to(self._model.device)
        for part in self._sparse:  # as it does itself, but for good, at the first short text
            size = (5 + 2 * part.config.num_random_blocks) * part.config.block_size
            part.set_attention_type("block_sparse" if real.shape[1] > size else "original_full")
        return self._model(padded, **options).logits.double().cpu()

    @torch.no_grad()
    def _check(self) -> None:
        """Find the batches in which the scores are those of each text alone.

        Raises:
            ConfigError: If a text has no score, or another one each time.
        """
        special = set(self._tokenizer.all_special_ids)
        regular = [token for token in range(len(self._tokenizer)) if token not in special]
        spread = regular[:: max(1, len(regular) // 8)][:8]
        texts = [self._tokenizer.decode(spread[-count:]) for count in (8, 3)]
        self._needs_types = any(any(self._types(text)) for text in texts)
        ids = self._filled(self._encode(texts))
        self._cut = 0
        types = [self._types(text) for text in texts] if self._needs_types else None
        if not all(ids) or len(ids[0]) == len(ids[1]):  # nothing to compare
            self._pads = False
            return
        middle = len(ids[0]) // 2
        ids.append([*ids[0][:middle], spread[0], *ids[0][middle + 1 :]])
        types = types and [*types, types[0]]
        rows = torch.arange(3)
        try:
            alone, again = (
                torch.cat([self._scores(ids, row, types) for row in rows.split(1)])
                for _ in range(2)
            )
        except Exception as error:  # models that need more than tokens raise many kinds
            raise ConfigError(
                f"{self._path}: {type(self._model).__name__} cannot score a text "
                f"({_first_line(error)}); give another reward model"
            ) from error

        def agree(batch: Tensor, tolerance: float) -> bool:
            try:
                scores = self._scores(ids, batch, types)
            except _FAULTS:
                return False
            return _near(scores, alone[batch], tolerance)

        random = getattr(self._model.config, "hash_seed", 0) is None  # for longer texts
        if random or not _near(alone, again, _CLOSE):
            raise ConfigError(
                f"{self._path}: {type(self._model).__name__} gives a text another score each time; "
                "give a reward model without random parts"
            )
        self._fast = last_token.supports(self._model)
        self._fast = self._fast and agree(rows[:1], _EXACT)
        # Sparse attention depends on the length of the batch.
        self._pads = self._pads and not self._sparse and agree(rows, _EXACT)
        if not self._pads and not agree(rows[::2], _CLOSE):
            self._batch_size = 1

    def _types(self, text: str) -> list[int]:
        """Token types; all 0 is the default of models that have types."""
        options = {"truncation": self._longest is not None, "max_length": self._longest}
        return self._tokenizer(text, **options).get("token_type_ids") or []


def _is_unicode(text: Any) -> bool:
    r"""Return False for other types and for halves of a pair of surrogates.

    Example:
        >>> _is_unicode("a"), _is_unicode("\ud83d"), _is_unicode(None)
        (True, False, False)
    """
    return isinstance(text, str) and text.encode(errors="replace").decode() == text


def _near(scores: Tensor, others: Tensor, tolerance: float) -> bool:
    return torch.allclose(scores, others, rtol=tolerance, atol=tolerance, equal_nan=True)


def _first_line(error: Exception) -> str:
    lines = filter(None, map(str.strip, str(error).splitlines()))
    return f"{type(error).__name__}: {next(lines, '')}"


def _longest(model: PreTrainedModel, limit: float) -> int | None:
    """Largest number of tokens that tokenizer and model allow; None if there is no limit."""
    config = model.config.get_text_config()
    sizes = [getattr(config, name, None) for name in _LIMITS]
    limits = [size for size in (limit, *sizes) if isinstance(size, int | float) and size > 0]
    # RoBERTa's family counts positions from the one after the padding token's.
    for name, module in model.named_modules():
        ends = name.endswith(("position_embeddings", "embed_positions"))
        if ends and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            limits.append(module.num_embeddings - module.padding_idx - 1)
    longest = int(min(limits, default=_UNLIMITED))
    return longest if longest < _UNLIMITED else None


def _reward_class(config: Any, label: str | int | None, path: str | Path) -> int:
    """Number of the class whose logit is the reward.

    Example:
        >>> from transformers import BertConfig
        >>> _reward_class(BertConfig(id2label={0: "bad", 1: "good"}), "good", "a folder")
        1
    """
    names = {int(number): str(name) for number, name in (config.id2label or {}).items()}
    names = {number: names.get(number, str(number)) for number in range(config.num_labels)}
    wanted = {"POSITIVE", "POS"} if label is None else {str(label).upper()}
    if label is None and len(names) == 2:
        wanted.add("LABEL_1")
    classes = [number for number, name in names.items() if name == str(label)]
    classes = classes or [number for number, name in names.items() if name.upper() in wanted]
    if label is None and len(names) == 1:
        return 0
    if classes and str(label) in map(str, names) and classes != [int(label)]:
        raise ConfigError(
            f"{path}: label: {label!r} is the name of one class and the number of another; rename "
            "them in id2label of its config.json"
        )
    if label is not None and not classes and str(label) in map(str, names):
        return int(label)
    if len(classes) == 1:
        return classes[0]
    listed = ", ".join(names.values())
    if label is not None:
        raise ConfigError(
            f"{path}: label: {label!r} is none of the classes {listed}; give one of these names, "
            f"or a number below {len(names)}"
        )
    count = "several" if classes else "none"
    raise ConfigError(
        f"{path}: {count} of the classes {listed} is POSITIVE, POS or, of two, LABEL_1; name the "
        "class whose logit is the reward by `label`, or rename it in id2label of its config.json"
    )

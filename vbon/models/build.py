"""Train the embedded task's tokenizers, reference and classifiers from text.

The result is what a user would download for a real task: Hugging Face folders with safetensors
weights and a fast tokenizer, loaded by the same code as published models.
"""

import math
import random
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import torch
import transformers
from torch import nn
from transformers import PreTrainedTokenizerFast

from vbon.errors import ConfigError, DataError
from vbon.models.tokenizer import build_tokenizer
from vbon.seeding import derive_seed

__all__ = ["build_classifier", "build_reference", "build_tokenizer"]

LABELS = {0: "NEGATIVE", 1: "POSITIVE"}


@dataclass(frozen=True)
class TransformerSettings:
    """Size and training of a small transformer (config keys below ``build``).

    Attributes:
        layers: Transformer blocks.
        width: Size of the hidden states; a multiple of ``heads``.
        heads: Attention heads.
        max_tokens: Longest input in tokens; longer reviews are cut.
        epochs: Passes over the training reviews.
        batch_size: Reviews an update.
        learning_rate: Of AdamW at its highest; it falls linearly to zero.
        warmup: Share of the updates during which the learning rate rises from zero.
        held_out: Share of the reviews kept for the reported loss or accuracy.
    """

    layers: int = 2
    width: int = 64
    heads: int = 4
    max_tokens: int = 96
    epochs: int = 4
    batch_size: int = 32
    learning_rate: float = 2e-3
    warmup: float = 0.1
    held_out: float = 0.1

    def __post_init__(self) -> None:
        for name in ("layers", "width", "heads", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"build.{name} is {getattr(self, name)}; give at least 1")
        if self.width % self.heads:
            raise ConfigError(
                f"build.width is {self.width}; it must be a multiple of heads ({self.heads})"
            )
        if self.max_tokens < 4:
            raise ConfigError(f"build.max_tokens is {self.max_tokens}; give at least 4")
        if not self.learning_rate > 0:
            raise ConfigError(f"build.learning_rate is {self.learning_rate}; it must be positive")
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"build.warmup is {self.warmup}; give a share from 0 to below 1")
        if not 0 < self.held_out < 1:
            raise ConfigError(f"build.held_out is {self.held_out}; give a share between 0 and 1")


@dataclass(frozen=True)
class ClassifierSettings(TransformerSettings):
    """As :class:`TransformerSettings`, with the architecture and the noise of the labels.

    Attributes:
        architecture: ``distilbert`` or ``electra``.
        label_noise: Share of the training labels that are flipped, below 0.5: raters differ,
            and two models of differing raters agree only in part.
    """

    architecture: str = "distilbert"
    label_noise: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.architecture not in _CLASSIFIERS:
            raise ConfigError(
                f"build.architecture is {self.architecture!r}; accepted are "
                f"{', '.join(sorted(_CLASSIFIERS))}"
            )
        if not 0 <= self.label_noise < 0.5:
            raise ConfigError(
                f"build.label_noise is {self.label_noise}; give a share from 0 to below 0.5"
            )


Settings = TypeVar("Settings", bound=TransformerSettings)


def _settings(kind: type[Settings], given: Mapping[str, Any] | Settings) -> Settings:
    if isinstance(given, kind):
        return given
    known = [field.name for field in fields(kind)]
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ConfigError(f"build.{unknown[0]} is not a setting; accepted are {', '.join(known)}")
    return kind(**given)


def build_reference(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerFast,
    settings: Mapping[str, Any] | TransformerSettings,
    seed: int,
    out_dir: str | Path,
) -> dict[str, float]:
    """Train a GPT-2-class language model, the reference policy of the embedded task.

    Every review ends in the end token, except those that ``max_tokens`` cuts: a model must not
    learn that text ends where a buffer did.

    Args:
        texts: Reviews of the part ``reference``.
        tokenizer: Of :func:`build_tokenizer`; saved beside the weights.
        settings: Fields of :class:`TransformerSettings`.
        seed: Of the initial weights, the order of the reviews and the held-out ones.
        out_dir: Folder to write (``save_pretrained``, safetensors).

    Returns:
        ``loss`` (nats per held-out token), ``perplexity``, ``parameters``, ``tokens``.

    Raises:
        ConfigError: If a setting is unknown or cannot work.
        DataError: If there are too few reviews to hold some out.
    """
    chosen = _settings(TransformerSettings, settings)
    end, limit = tokenizer.eos_token_id, chosen.max_tokens
    encoded = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    features = [{"input_ids": [*ids, end][:limit]} for ids in encoded]
    for feature in features:
        feature["labels"] = feature["input_ids"]
    train, held_out = _hold_out(features, chosen.held_out, seed)
    transformers.set_seed(_seed32(seed, "weights"))
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=limit,
            n_embd=chosen.width,
            n_layer=chosen.layers,
            n_head=chosen.heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=end,
            eos_token_id=end,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    collate = transformers.DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100)
    _fit(model, train, collate, chosen, chosen.epochs, seed)
    total, tokens = 0.0, 0
    for batch in _batches(model, held_out, collate, chosen.batch_size):
        count = int((batch["labels"][:, 1:] != -100).sum())
        with torch.inference_mode():
            total += float(model(**batch).loss) * count
        tokens += count
    _save(model, tokenizer, out_dir)
    loss = total / tokens
    return {
        "loss": loss,
        "perplexity": math.exp(loss),
        "parameters": float(model.num_parameters()),
        "tokens": float(sum(len(feature["input_ids"]) for feature in train)),
    }


def build_classifier(
    reviews: pd.DataFrame,
    tokenizer: PreTrainedTokenizerFast,
    settings: Mapping[str, Any] | ClassifierSettings,
    seed: int,
    out_dir: str | Path,
) -> dict[str, float]:
    """Train a sentiment classifier: a reward model or the held-out evaluator.

    What it will score is a prompt with a response of a few dozen tokens, so in every epoch each
    review is cut at a fresh random length; half of the time it is whole.

    Args:
        reviews: Rows of this model's own part: ``text`` and ``label``.
        tokenizer: Of :func:`build_tokenizer` with ``classifier=True``; saved with the weights.
        settings: Fields of :class:`ClassifierSettings`.
        seed: Of the weights, the order, the cuts, the label noise and the held-out reviews.
        out_dir: Folder to write; ``AutoModelForSequenceClassification`` loads it.

    Returns:
        Held-out ``accuracy`` on whole reviews and ``accuracy_cut`` on randomly cut ones (both
        against labels without added noise), and ``parameters``.

    Raises:
        ConfigError: If a setting is unknown or cannot work.
        DataError: If there are too few reviews, or only one label.
    """
    chosen = _settings(ClassifierSettings, settings)
    if reviews["label"].nunique() < 2:
        raise DataError(f"column 'label' holds one class in {len(reviews)} reviews; both needed")
    encoded = tokenizer(reviews["text"].tolist(), truncation=True, max_length=chosen.max_tokens)
    features = [
        {"input_ids": ids, "labels": int(label)}
        for ids, label in zip(encoded["input_ids"], reviews["label"], strict=True)
    ]
    train, held_out = _hold_out(features, chosen.held_out, seed)
    stream = random.Random(derive_seed(seed, "cuts"))
    noise = random.Random(derive_seed(seed, "label noise"))
    for feature in train:
        feature["labels"] ^= noise.random() < chosen.label_noise
    cut = [
        _cut(feature, stream) if stream.random() < 0.5 else feature
        for _ in range(chosen.epochs)
        for feature in train
    ]
    transformers.set_seed(_seed32(seed, "weights"))
    model = _CLASSIFIERS[chosen.architecture](chosen, tokenizer)
    _balance_head(model)
    collate = transformers.DataCollatorWithPadding(tokenizer)
    _fit(model, cut, collate, chosen, 1, seed)
    shortened = [_cut(feature, stream) for feature in held_out]
    accuracies = []
    for rows in (held_out, shortened):
        right = 0
        for batch in _batches(model, rows, collate, chosen.batch_size):
            labels = batch.pop("labels")
            with torch.inference_mode():
                right += int((model(**batch).logits.argmax(-1) == labels).sum())
        accuracies.append(right / len(rows))
    _save(model, tokenizer, out_dir)
    return {
        "accuracy": accuracies[0],
        "accuracy_cut": accuracies[1],
        "parameters": float(model.num_parameters()),
    }


# Both start at variance-preserving weights: the libraries' 0.02 is meant for widths near 768, and
# a narrow post-norm encoder often stays at a constant prediction when it starts that small.
def _distilbert(chosen: ClassifierSettings, tokenizer: PreTrainedTokenizerFast) -> Any:
    return transformers.DistilBertForSequenceClassification(
        transformers.DistilBertConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=chosen.max_tokens,
            initializer_range=chosen.width**-0.5,
            dim=chosen.width,
            hidden_dim=4 * chosen.width,
            n_layers=chosen.layers,
            n_heads=chosen.heads,
            dropout=0.0,
            attention_dropout=0.0,
            seq_classif_dropout=0.0,
            pad_token_id=tokenizer.pad_token_id,
            id2label=LABELS,
            label2id={name: label for label, name in LABELS.items()},
        )
    )


def _electra(chosen: ClassifierSettings, tokenizer: PreTrainedTokenizerFast) -> Any:
    return transformers.ElectraForSequenceClassification(
        transformers.ElectraConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=chosen.max_tokens,
            initializer_range=chosen.width**-0.5,
            embedding_size=chosen.width,
            hidden_size=chosen.width,
            intermediate_size=4 * chosen.width,
            num_hidden_layers=chosen.layers,
            num_attention_heads=chosen.heads,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            pad_token_id=tokenizer.pad_token_id,
            id2label=LABELS,
            label2id={name: label for label, name in LABELS.items()},
        )
    )


_CLASSIFIERS = {"distilbert": _distilbert, "electra": _electra}


def _balance_head(model: nn.Module) -> None:
    """Start the output layer's two rows exactly opposite, which training then keeps.

    The POSITIVE logit is then half the log-odds and ranks texts as their probability does, which
    need not hold when both rows start at random.
    """
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        head.weight[0] = -head.weight[1]
        head.bias.zero_()


def _seed32(seed: int, name: str) -> int:
    """A seed that numpy's old generator accepts as well."""
    return derive_seed(seed, name) % 2**32


def _cut(feature: dict[str, Any], stream: random.Random) -> dict[str, Any]:
    """Keep between two and all of the tokens inside the frame."""
    ids = feature["input_ids"]
    kept = stream.randint(min(2, len(ids) - 2), len(ids) - 2)
    return {"input_ids": [*ids[: kept + 1], ids[-1]], "labels": feature["labels"]}


def _hold_out(features: list[Any], share: float, seed: int) -> tuple[list[Any], list[Any]]:
    size = round(share * len(features))
    if not 0 < size < len(features):
        raise DataError(
            f"build.held_out {share} of {len(features)} reviews is {size}; raise "
            "reviews.num_reviews or build.held_out"
        )
    order = random.Random(derive_seed(seed, "held out")).sample(features, len(features))
    return order[size:], order[:size]


def _fit(
    model: nn.Module,
    features: list[dict[str, Any]],
    collate: Any,
    chosen: TransformerSettings,
    epochs: int,
    seed: int,
) -> None:
    """Train in place with Hugging Face's Trainer: float32, no checkpoints, no reports."""
    updates = epochs * math.ceil(len(features) / chosen.batch_size)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = transformers.TrainingArguments(
            output_dir=scratch,
            num_train_epochs=epochs,
            per_device_train_batch_size=chosen.batch_size,
            learning_rate=chosen.learning_rate,
            lr_scheduler_type="linear",
            warmup_steps=math.ceil(chosen.warmup * updates),
            train_sampling_strategy="group_by_length",
            seed=_seed32(seed, "order"),
            use_cpu=not torch.cuda.is_available(),
            dataloader_num_workers=0,
            dataloader_pin_memory=False,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = transformers.Trainer(
            model=model, args=arguments, train_dataset=features, data_collator=collate
        )
        # Its closing summary is a line of times on standard output; the caller reports instead.
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()


def _batches(model: nn.Module, rows: list[Any], collate: Any, size: int) -> Iterable[Any]:
    model.eval()
    device = next(model.parameters()).device
    for start in range(0, len(rows), size):
        batch = collate(rows[start : start + size])
        yield {name: tensor.to(device) for name, tensor in batch.items()}


def _save(model: Any, tokenizer: PreTrainedTokenizerFast, out_dir: str | Path) -> None:
    model.save_pretrained(out_dir)
    tokenizer.save_pretrained(out_dir)

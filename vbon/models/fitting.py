"""Shared by the builders: settings, held-out examples, and Hugging Face's training loop."""

import math
import random
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from torch import nn
from transformers import PreTrainedTokenizerFast

from vbon.errors import ConfigError, DataError
from vbon.seeding import derive_seed


@dataclass(frozen=True)
class TransformerSettings:
    """Size and training of a small transformer (config keys below ``build``).

    Attributes:
        layers: Number of transformer blocks.
        width: Size of the hidden states; a multiple of ``heads``.
        heads: Number of attention heads.
        max_tokens: Longest input in tokens; longer examples are cut.
        epochs: Passes over the training examples; 0 leaves the weights random.
        batch_size: Examples per update.
        learning_rate: Peak learning rate of AdamW, which falls linearly to zero.
        warmup: Share of the updates during which the learning rate rises from zero.
        held_out: Share of the examples kept for the reported loss or accuracy.
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
            least = 0 if name == "epochs" else 1
            if getattr(self, name) < least:
                raise ConfigError(
                    f"build.{name} is {getattr(self, name)}; it must be at least {least}"
                )
        if self.width % self.heads:
            raise ConfigError(
                f"build.width is {self.width}; it must be a multiple of heads ({self.heads})"
            )
        if self.max_tokens < 4:
            raise ConfigError(f"build.max_tokens is {self.max_tokens}; it must be at least 4")
        if not self.learning_rate > 0:
            raise ConfigError(f"build.learning_rate is {self.learning_rate}; it must be positive")
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"build.warmup is {self.warmup}; it must be at least 0 and below 1")
        if not 0 < self.held_out < 1:
            raise ConfigError(f"build.held_out is {self.held_out}; it must be above 0 and below 1")


Settings = TypeVar("Settings", bound=TransformerSettings)


def settings_of(kind: type[Settings], values: Mapping[str, Any] | Settings) -> Settings:
    """Settings from the values of a config, or unchanged if they are settings already.

    Raises:
        ConfigError: If a setting is unknown or out of range.
    """
    if isinstance(values, kind):
        return values
    names = [field.name for field in fields(kind)]
    unknown = [name for name in values if name not in names]
    if unknown:
        raise ConfigError(f"build.{unknown[0]} is not a setting; accepted are {', '.join(names)}")
    return kind(**values)


def seed32(seed: int, name: str) -> int:
    """A 32-bit seed, as numpy's legacy generator requires."""
    return derive_seed(seed, name) % 2**32


def hold_out(features: list[Any], share: float, seed: int) -> tuple[list[Any], list[Any]]:
    """Random split into training and held-out examples.

    Raises:
        DataError: If either part would be empty.
    """
    size = round(share * len(features))
    if not 0 < size < len(features):
        raise DataError(
            f"build.held_out: {share} of {len(features)} examples is {size}, which leaves "
            "training or held-out examples empty; change it, or raise reviews.num_reviews "
            "(posts.num_posts)"
        )
    order = random.Random(derive_seed(seed, "held out")).sample(features, len(features))
    return order[size:], order[:size]


def fit(
    model: nn.Module,
    features: list[dict[str, Any]],
    collate: Any,
    settings: TransformerSettings,
    epochs: int,
    seed: int,
    loss: Callable[..., Any] | None = None,
) -> None:
    """Train in place with Hugging Face's Trainer: float32, no checkpoints, no reports.

    Args:
        model: A Hugging Face model.
        features: Examples.
        collate: Function from examples to a batch.
        settings: Batch size, learning rate and warm-up.
        epochs: Passes over the examples.
        seed: Seed of their order.
        loss: Function of the model's outputs, the batch's ``labels`` and their number; the
            model's own loss by default.
    """
    if not epochs * len(features):
        return
    updates = epochs * math.ceil(len(features) / settings.batch_size)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = transformers.TrainingArguments(
            output_dir=scratch,
            num_train_epochs=epochs,
            remove_unused_columns=False,  # removal by name breaks pairs
            per_device_train_batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            lr_scheduler_type="linear",
            warmup_steps=math.ceil(settings.warmup * updates),
            # Grouping pairs by the length of one side would reveal which side that is.
            train_sampling_strategy="group_by_length" if loss is None else "random",
            seed=seed32(seed, "order"),
            use_cpu=not torch.cuda.is_available(),
            dataloader_num_workers=0,
            dataloader_pin_memory=False,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = transformers.Trainer(
            model=model,
            args=arguments,
            train_dataset=features,
            data_collator=collate,
            compute_loss_func=loss,
        )
        # Suppresses the line of times on standard output; the caller reports instead.
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()


def batches(model: nn.Module, rows: list[Any], collate: Any, size: int) -> Iterable[Any]:
    """Batches of rows on the model's device; the model is set to evaluation mode."""
    model.eval()
    device = next(model.parameters()).device
    for start in range(0, len(rows), size):
        batch = collate(rows[start : start + size])
        yield {name: tensor.to(device) for name, tensor in batch.items()}


def save(model: Any, tokenizer: PreTrainedTokenizerFast, out_dir: str | Path) -> None:
    """Write a model and its tokenizer in Hugging Face's format."""
    model.save_pretrained(out_dir)
    tokenizer.save_pretrained(out_dir)

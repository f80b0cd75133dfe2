"""Shared by the builders: settings, held-out examples, and Hugging Face's training loop."""

import math
import random
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import PreTrainedTokenizerFast

from vbon.errors import DataError
from vbon.seeding import derive_seed


@dataclass(frozen=True, kw_only=True)
class TransformerSettings:
    """Size and training of a small transformer; the schema of the config describes each key."""

    layers: int
    width: int
    heads: int
    max_tokens: int
    epochs: int
    batch_size: int
    learning_rate: float
    warmup: float
    held_out: float
    architecture: str = "gpt_neox"


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

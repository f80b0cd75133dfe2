"""Training of the embedded task's reference and classifiers from text.

The results have the format of published models, Hugging Face folders with safetensors weights and a
fast tokenizer, and are loaded by the same code.
"""

import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast
from transformers.modeling_outputs import SequenceClassifierOutput

from vbon.errors import DataError
from vbon.models import last_token
from vbon.models.fitting import TransformerSettings, batches, fit, hold_out, save, seed32
from vbon.models.tokenizer import build_tokenizer
from vbon.seeding import derive_seed

__all__ = ["build_classifier", "build_reference", "build_scorer", "build_tokenizer"]

LABELS = {0: "NEGATIVE", 1: "POSITIVE"}


def build_reference(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerFast,
    settings: Mapping[str, Any],
    seed: int,
    out_dir: str | Path,
    prompts: Sequence[str] | None = None,
) -> dict[str, float]:
    """Train a small language model, the reference policy of the embedded task.

    Every text ends with the end token, except those that ``max_tokens`` cuts: a model must not
    learn that texts end at the length limit.

    Args:
        texts: Texts that the model learns to write: reviews, or summaries.
        tokenizer: Tokenizer of :func:`build_tokenizer`; saved with the weights.
        settings: Fields of :class:`TransformerSettings`.
        seed: Seed of the initial weights, of the order of the texts and of the held-out ones.
        out_dir: Folder to write (``save_pretrained``, safetensors).
        prompts: Prompt that each text follows; the loss excludes its tokens. None for texts
            without prompts.

    Returns:
        ``loss`` (nats per held-out token), ``perplexity``, ``parameters``, ``tokens``.

    Raises:
        DataError: If there are too few texts to hold some out.
    """
    settings = TransformerSettings(**settings)
    features = _completions(texts, prompts, tokenizer, settings.max_tokens)
    train, held_out = hold_out(features, settings.held_out, seed)
    transformers.set_seed(seed32(seed, "weights"))
    model = _LANGUAGE_MODELS[settings.architecture](settings, tokenizer)
    collate = transformers.DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100)
    fit(model, train, collate, settings, settings.epochs, seed)
    total, tokens = 0.0, 0
    for batch in batches(model, held_out, collate, settings.batch_size):
        count = int((batch["labels"][:, 1:] != -100).sum())
        with torch.inference_mode():
            total += float(model(**batch).loss) * count
        tokens += count
    save(model, tokenizer, out_dir)
    loss = total / tokens
    return {
        "loss": loss,
        "perplexity": math.exp(loss),
        "parameters": float(model.num_parameters()),
        "tokens": float(sum(len(feature["input_ids"]) for feature in train)),
    }


def _completions(
    texts: Sequence[str],
    prompts: Sequence[str] | None,
    tokenizer: PreTrainedTokenizerFast,
    limit: int,
) -> list[dict[str, list[int]]]:
    """Token ids of prompts and texts, with labels on the texts and the end token only."""
    prompt_texts = [""] * len(texts) if prompts is None else list(prompts)
    before, after = (
        tokenizer(part, add_special_tokens=False)["input_ids"]
        for part in (prompt_texts, list(texts))
    )
    features = []
    for prompt, text in zip(before, after, strict=True):
        ids = [*prompt, *text, tokenizer.eos_token_id]
        labels = [-100] * len(prompt) + ids[len(prompt) :]
        if len(prompt) < limit:  # else no label is left
            features.append({"input_ids": ids[:limit], "labels": labels[:limit]})
    return features


def _gpt2(settings: TransformerSettings, tokenizer: PreTrainedTokenizerFast) -> Any:
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=settings.max_tokens,
            n_embd=settings.width,
            n_layer=settings.layers,
            n_head=settings.heads,
            **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
            **dict.fromkeys(("bos_token_id", "eos_token_id"), tokenizer.eos_token_id),
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _neox_config(settings: TransformerSettings, tokenizer: PreTrainedTokenizerFast) -> Any:
    return transformers.GPTNeoXConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=settings.max_tokens,
        initializer_range=settings.width**-0.5,  # as in classifiers
        hidden_size=settings.width,
        intermediate_size=4 * settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_labels=1,
        rotary_pct=1.0,
        **dict.fromkeys(("bos_token_id", "eos_token_id"), tokenizer.eos_token_id),
        pad_token_id=tokenizer.pad_token_id,
    )


_LANGUAGE_MODELS = {
    "gpt2": _gpt2,
    "gpt_neox": lambda *size: transformers.GPTNeoXForCausalLM(_neox_config(*size)),
}


def build_scorer(
    pairs: pd.DataFrame,
    tokenizer: PreTrainedTokenizerFast,
    settings: Mapping[str, Any],
    seed: int,
    out_dir: str | Path,
) -> dict[str, float]:
    r"""Train a scalar reward model of the GPT-NeoX class on pairs of responses.

    The loss of a pair is :math:`-\log \sigma(r_\mathrm{chosen} - r_\mathrm{rejected})`, as in
    Stiennon et al. (2020), arXiv:2009.01325, section 3.4. The score of a text is read at its last
    token.

    Args:
        pairs: Pairs of this model's part of the data: ``prompt``, and its responses ``chosen`` and
            ``rejected``, which begin with a space.
        tokenizer: Tokenizer of :func:`build_tokenizer`; saved with the weights.
        settings: Fields of :class:`TransformerSettings`; texts longer than ``max_tokens`` lose
            their beginning.
        seed: Seed of the initial weights, of the order of the pairs and of the held-out ones.
        out_dir: Folder to write; ``AutoModelForSequenceClassification`` loads it.

    Returns:
        Held-out ``accuracy``, the share of pairs whose chosen text has the higher score, and
        ``parameters``.

    Raises:
        DataError: If there are too few pairs to hold some out.
    """
    settings = TransformerSettings(**settings)
    train, held_out = hold_out(_both_sides(pairs, tokenizer, settings), settings.held_out, seed)
    transformers.set_seed(seed32(seed, "weights"))
    model = transformers.GPTNeoXForSequenceClassification(_neox_config(settings, tokenizer))

    def collate(rows: list[dict[str, Any]]) -> Mapping[str, Tensor]:
        """Batch of the chosen texts followed by the rejected ones; labels are not used."""
        ids = [row[side] for side in ("input_ids", "rejected") for row in rows]
        batch = tokenizer.pad({"input_ids": ids}, padding_side="right", return_tensors="pt")
        return {"input_ids": batch["input_ids"], "labels": torch.zeros(len(ids))}

    scorer = _Scorer(model)
    fit(scorer, train, collate, settings, settings.epochs, seed, _pairwise_loss)
    right = 0
    for batch in batches(scorer, held_out, collate, settings.batch_size):
        with torch.inference_mode():
            first, second = scorer(**batch).logits.chunk(2)
        right += int((first > second).sum())
    save(model, tokenizer, out_dir)
    return {"accuracy": right / len(held_out), "parameters": float(model.num_parameters())}


class _Scorer(nn.Module):
    """Wrapper that computes scores at last tokens only."""

    def __init__(self, model: transformers.PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> SequenceClassifierOutput:
        return SequenceClassifierOutput(logits=last_token.logits(self.model, input_ids))


def _both_sides(
    pairs: pd.DataFrame, tokenizer: PreTrainedTokenizerFast, settings: TransformerSettings
) -> list[dict[str, Any]]:
    """Token ids of each pair's texts, cut at the beginning to ``max_tokens``."""
    sides = (
        tokenizer((pairs["prompt"] + pairs[side]).tolist(), add_special_tokens=False)["input_ids"]
        for side in ("chosen", "rejected")
    )
    limit = settings.max_tokens
    return [
        {"input_ids": first[-limit:], "rejected": second[-limit:]}
        for first, second in zip(*sides, strict=True)
    ]


def _pairwise_loss(outputs: Any, _labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    """Mean logistic loss of a batch whose first half is preferred to its second half."""
    first, second = outputs.logits.chunk(2)
    return -F.logsigmoid(first - second).mean()


def build_classifier(
    reviews: pd.DataFrame,
    tokenizer: PreTrainedTokenizerFast,
    settings: Mapping[str, Any],
    seed: int,
    out_dir: str | Path,
) -> dict[str, float]:
    """Train a sentiment classifier: a reward model or the held-out evaluator.

    It will score prompts with responses of a few dozen tokens. Therefore in every epoch each review
    is cut to a new random length with probability one half.

    Args:
        reviews: Reviews of this model's part of the data: ``text`` and ``label``.
        tokenizer: Tokenizer of :func:`build_tokenizer` with ``classifier=True``; saved with the
            weights.
        settings: Fields of :class:`TransformerSettings`.
        seed: Seed of the initial weights, of order and cuts, and of the held-out reviews.
        out_dir: Folder to write; ``AutoModelForSequenceClassification`` loads it.

    Returns:
        Held-out ``accuracy`` on whole reviews and ``accuracy_cut`` on randomly cut ones, and
        ``parameters``.

    Raises:
        DataError: If there are too few reviews, or only one label.
    """
    settings = TransformerSettings(**settings)
    if reviews["label"].nunique() < 2:
        raise DataError(
            f"reviews: column 'label' has only one class in {len(reviews)} reviews; it must have "
            "both, 0 and 1"
        )
    encoded = tokenizer(reviews["text"].tolist(), truncation=True, max_length=settings.max_tokens)
    features = [
        {"input_ids": ids, "labels": int(label)}
        for ids, label in zip(encoded["input_ids"], reviews["label"], strict=True)
    ]
    train, held_out = hold_out(features, settings.held_out, seed)
    stream = random.Random(derive_seed(seed, "cuts"))
    cut = [
        _cut(feature, stream) if stream.random() < 0.5 else feature
        for _ in range(settings.epochs)
        for feature in train
    ]
    transformers.set_seed(seed32(seed, "weights"))
    model = _classifier(settings, tokenizer)
    _balance_head(model)
    collate = transformers.DataCollatorWithPadding(tokenizer)
    fit(model, cut, collate, settings, 1, seed)
    shortened = [_cut(feature, stream) for feature in held_out]
    metrics = {}
    for name, rows in (("accuracy", held_out), ("accuracy_cut", shortened)):
        right = 0
        for batch in batches(model, rows, collate, settings.batch_size):
            labels = batch.pop("labels")
            with torch.inference_mode():
                right += int((model(**batch).logits.argmax(-1) == labels).sum())
        metrics[name] = right / len(rows)
    save(model, tokenizer, out_dir)
    return metrics | {"parameters": float(model.num_parameters())}


def _classifier(settings: TransformerSettings, tokenizer: PreTrainedTokenizerFast) -> Any:
    shared = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": settings.max_tokens,
        # Preserves variance: the libraries' 0.02 is meant for widths near 768, and a narrow
        # post-norm encoder that starts with it often keeps a constant prediction.
        "initializer_range": settings.width**-0.5,
        "pad_token_id": tokenizer.pad_token_id,
        "id2label": LABELS,
        "label2id": {name: label for label, name in LABELS.items()},
    }
    if settings.architecture == "distilbert":
        return transformers.DistilBertForSequenceClassification(
            transformers.DistilBertConfig(
                dim=settings.width,
                hidden_dim=4 * settings.width,
                n_layers=settings.layers,
                n_heads=settings.heads,
                **dict.fromkeys(("dropout", "attention_dropout", "seq_classif_dropout"), 0.0),
                **shared,
            )
        )
    return transformers.ElectraForSequenceClassification(
        transformers.ElectraConfig(
            embedding_size=settings.width,
            hidden_size=settings.width,
            intermediate_size=4 * settings.width,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            **dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0),
            **shared,
        )
    )


def _balance_head(model: nn.Module) -> None:
    """Make the two rows of the output layer opposite; training keeps them so.

    The POSITIVE logit is then half the log-odds and ranks texts as their probability does, which
    need not hold if both rows start at random.
    """
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        head.weight[0] = -head.weight[1]
        head.bias.zero_()


def _cut(feature: dict[str, Any], stream: random.Random) -> dict[str, Any]:
    """Keep a random number of the tokens inside the frame: at least two, at most all."""
    ids = feature["input_ids"]
    kept = stream.randint(min(2, len(ids) - 2), len(ids) - 2)
    return {"input_ids": [*ids[: kept + 1], ids[-1]], "labels": feature["labels"]}

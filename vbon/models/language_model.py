"""One interface to every language model: load, forward pass, decoding, value head, log-probs.

Models are of Hugging Face's classes, in their saved format. GPT-2, GPT-NeoX, the
Llama family and the tabular model have a faster forward pass in this package; other causal models
use their own.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from vbon.batches import Prompts
from vbon.models import tabular
from vbon.models.loading import load_pretrained
from vbon.models.paths import path_of

_TOKENS = 2048
_RANDOM = re.compile("dropout|layerdrop|drop_path|pdrop|jitter")
"""Names of rates by which a model in training draws random numbers."""
_HALF = (torch.bfloat16, torch.float16)


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """Load a tokenizer from a model folder or pointer.

    Raises:
        ArtifactError: If the folder has no tokenizer.
    """
    return load_pretrained(AutoTokenizer, path, "tokenizer")


def load_language_model(path: str | Path) -> PreTrainedModel:
    """Load a causal language model in float32 and evaluation mode, with all dropout set to 0.

    The path of its log-probs is chosen (:func:`vbon.models.paths.path_of`).

    Raises:
        ArtifactError: If the folder has no causal language model.
        ConfigError: If its log-probs cannot be computed here, or it attends to later tokens.
    """
    model = load_pretrained(AutoModelForCausalLM, path, "language model", dtype=torch.float32)
    without_randomness(model)
    model = model.eval().to(device())
    path_of(model)
    return model


def without_randomness(model: PreTrainedModel) -> None:
    """Set every rate of dropout and noise to 0, in the configuration and in its modules' copies."""
    configs = {id(config): config for config in (model.config, model.config.get_text_config())}
    for holder in (*configs.values(), *model.modules()):
        for name, value in vars(holder).items():
            if isinstance(value, float) and _RANDOM.search(name):
                setattr(holder, name, 0.0)
        if isinstance(holder, nn.Dropout):
            holder.p = 0.0


def device() -> torch.device:
    """Device of models: a GPU if there is one. Batches and results stay on the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@runtime_checkable
class Decoder(Protocol):
    """Token-by-token decoding; ``hidden`` are the states that predict each row's next token."""

    hidden: Tensor

    def step(self, tokens: Int[Tensor, " rows"]) -> Tensor: ...


def hidden_states(
    model: PreTrainedModel,
    input_ids: Int[Tensor, "batch tokens"],
    at: Int[Tensor, " counted"] | None = None,
) -> Float[Tensor, "counted width"] | Int[Tensor, "counted one"]:
    """Final hidden states of right-padded sequences; padding does not affect earlier positions.

    Args:
        model: A causal language model.
        input_ids: Token ids.
        at: Positions to return, as indices into the flattened ids; None for all.
    """
    if at is None:
        at = torch.arange(input_ids.numel(), device=input_ids.device)
    return path_of(model).states(model, input_ids, at)


def output_logits(model: PreTrainedModel, hidden: Tensor) -> Float[Tensor, "*batch vocab"]:
    """Logits of the next token from final hidden states."""
    logits = path_of(model).logits(model, hidden)
    return logits.float() if logits.dtype in _HALF else logits


def make_decoder(
    model: PreTrainedModel, prompts: Prompts, draws: int, max_new_tokens: int
) -> Decoder:
    """Start decoding ``draws`` responses to each prompt."""
    return path_of(model).decoder(model, prompts, draws, max_new_tokens)


class ValueHead(nn.Module):
    """Two-layer network from the policy's final hidden state to a value, which starts at 0."""

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, 2 * width), nn.Linear(2 * width, 1)
        with torch.no_grad():
            self.inner.weight.normal_(0.0, width**-0.5, generator=generator)
            for part in (self.inner.bias, self.outer.weight, self.outer.bias):
                part.zero_()

    def forward(self, hidden: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch"]:
        """Value of each state."""
        hidden = hidden[..., : self.inner.in_features]  # logits may follow
        return self.outer(F.relu(self.inner(hidden))).squeeze(-1)


def make_value_head(model: PreTrainedModel, seed: int) -> nn.Module:
    """Value head of ``model``: a table for a tabular model, else a two-layer network."""
    if isinstance(model, tabular.TabularLM):
        return tabular.ValueTable(len(model.table)).to(model.device, model.dtype)
    generator = torch.Generator().manual_seed(seed)
    return ValueHead(path_of(model).width, generator).to(model.device, model.dtype)


def pack(
    prompts: Prompts, response_ids: Int[Tensor, "batch tokens"]
) -> tuple[Int[Tensor, "batch packed"], Int[Tensor, "batch tokens"]]:
    """Join each prompt with its response, right-padded.

    Returns:
        Ids of prompt and response, and for each response token the position that predicts it.

    Example:
        >>> two = Prompts.from_lists([[5, 6], [7]], ["a", "b"])
        >>> pack(two, torch.tensor([[1, 2], [3, 4]]))[0].tolist()
        [[5, 6, 1, 2], [7, 3, 4, 0]]
    """
    tokens = response_ids.shape[1]
    offset = torch.arange(tokens, device=response_ids.device)
    index = prompts.lengths[:, None] + offset
    packed = F.pad(prompts.ids, (0, tokens))
    keep = torch.arange(packed.shape[1], device=packed.device) < prompts.lengths[:, None]
    packed = (packed * keep).scatter(1, index, response_ids)
    return packed, index - 1


def response_logits(
    model: PreTrainedModel,
    prompts: Prompts,
    response_ids: Int[Tensor, "batch tokens"],
    response_mask: Bool[Tensor, "batch tokens"],
    temperature: float = 1.0,
) -> tuple[Float[Tensor, "counted vocab"], Tensor]:
    """Logits at ``temperature`` and hidden states that predict unmasked tokens, in row-major order.

    Only their positions reach the output layer, which for a large vocabulary is more expensive
    than the rest of the model.
    """
    hidden = response_states(model, prompts, response_ids, response_mask)
    logits = output_logits(model, hidden)
    return logits if temperature == 1.0 else logits / temperature, hidden


def response_states(
    model: PreTrainedModel,
    prompts: Prompts,
    response_ids: Int[Tensor, "batch tokens"],
    response_mask: Bool[Tensor, "batch tokens"],
) -> Tensor:
    """Hidden states that predict each unmasked token, in row-major order."""
    packed, index = pack(prompts, response_ids)
    # The last token is not an input.
    needed = int((prompts.lengths + response_mask.sum(1)).max()) - 1
    rows, columns = response_mask.nonzero(as_tuple=True)
    return hidden_states(model, packed[:, :needed], rows * needed + index[rows, columns])


def token_log_probs(
    model: PreTrainedModel,
    prompts: Prompts,
    response_ids: Int[Tensor, "batch tokens"],
    response_mask: Bool[Tensor, "batch tokens"],
    temperature: float = 1.0,
) -> Float[Tensor, "batch tokens"]:
    """Log-prob of each response token in nats at ``temperature``, 0 where the mask is False."""

    def log_probs(prompts: Prompts, ids: Tensor, mask: Tensor) -> Tensor:
        logits, _ = response_logits(model, prompts, ids, mask, temperature)
        return -F.cross_entropy(logits, ids[mask], reduction="none")

    return _in_parts(log_probs, model.device, prompts, response_ids, response_mask)


def token_values(
    model: PreTrainedModel,
    head: nn.Module,
    prompts: Prompts,
    response_ids: Int[Tensor, "batch tokens"],
    response_mask: Bool[Tensor, "batch tokens"],
) -> Float[Tensor, "batch tokens"]:
    """Value of the state before each response token, 0 where the mask is False.

    Args:
        model: Language model whose hidden states are used.
        head: Value head of :func:`make_value_head`.
        prompts: Prompt of each response.
        response_ids: Token ids of the responses.
        response_mask: True for the tokens of a response.
    """

    def values(prompts: Prompts, ids: Tensor, mask: Tensor) -> Tensor:
        return head(response_states(model, prompts, ids, mask))

    return _in_parts(values, model.device, prompts, response_ids, response_mask)


def _in_parts(
    numbers: Callable[[Prompts, Tensor, Tensor], Tensor],
    device: torch.device,
    prompts: Prompts,
    response_ids: Int[Tensor, "batch tokens"],
    response_mask: Bool[Tensor, "batch tokens"],
) -> Float[Tensor, "batch tokens"]:
    """One number per unmasked token, computed in parts on a device; 0 where masked."""
    parts, home = [], response_ids.device
    prompts = prompts.to(device)
    response_ids, response_mask = response_ids.to(device), response_mask.to(device)
    # A few rows at a time: their logits stay in the processor's cache, and memory is bounded.
    size = max(1, _TOKENS // (prompts.ids.shape[1] + response_ids.shape[1]))
    for rows in torch.arange(len(response_ids), device=response_ids.device).split(size):
        ids, mask = response_ids[rows], response_mask[rows]
        values = numbers(prompts.select(rows), ids, mask)
        parts.append(values.new_zeros(ids.shape).masked_scatter(mask, values))
    return torch.cat(parts).to(home)

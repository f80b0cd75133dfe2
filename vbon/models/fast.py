"""Forward pass and decoding with the parameters of Hugging Face's modules, in fewer operations.

The forward pass needs no attention mask because batches are padded on the right. The decoder has
one key-value cache per *prompt* and one per response, so a prompt with 600 responses is encoded
and stored once. Both agree with the library's ``forward`` (a test).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from vbon.batches import Prompts


class Body(ABC):
    """The transformer of a model; subclasses define what differs between architectures.

    Attributes:
        body: The library's module without output layer.
        blocks: Its blocks.
        final_norm: Norm of the last block's output.
    """

    body: PreTrainedModel
    blocks: nn.ModuleList
    final_norm: nn.LayerNorm

    @abstractmethod
    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Input of the first block."""

    def rotation(self, positions: Tensor) -> Callable[[Tensor], Tensor]:
        """Rotation of queries and keys at these positions; the identity by default."""
        return lambda part: part

    @abstractmethod
    def qkv(self, block: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values [rows, heads, size] of states [rows, width]."""

    @abstractmethod
    def add(self, block: nn.Module, x: Tensor, attended: Tensor) -> Tensor:
        """Output of a block from its input and the values that its heads attended to."""

    def encode(
        self,
        input_ids: Int[Tensor, "batch tokens"],
        at: Int[Tensor, " counted"],
        one_a_row: bool = False,
        keep_cache: bool = False,
    ) -> tuple[Float[Tensor, "counted width"], list[tuple[Tensor, Tensor]]]:
        """Final hidden states, and each layer's keys and values [batch, heads, tokens, size].

        The last block computes outputs at ``at`` only; other positions supply keys and values.

        Args:
            input_ids: Right-padded token ids; positions count from the first.
            at: Positions to return, as indices into the flattened ids.
            one_a_row: True if ``at`` has exactly one position per row, in order; the last block
                then computes attention of these only.
            keep_cache: If True, keys and values are returned, else an empty list.
        """
        batch, length = input_ids.shape
        positions = torch.arange(length, device=input_ids.device)
        turn, cache = self.rotation(positions), []

        def through(block: nn.Module, x: Tensor) -> Tensor:
            parts = (part.unflatten(0, (batch, length)) for part in self.qkv(block, x))
            query, key, value = (part.transpose(1, 2) for part in parts)
            query, key = turn(query), turn(key)
            if keep_cache:
                # Copy once here, or every decoding step would copy them again.
                cache.append((key.contiguous(), value.contiguous()))
            last = block is self.blocks[-1]
            if last and one_a_row:
                return self.add(block, x[at], attend_once(query, key, value, at))
            attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
            attended = attended.transpose(1, 2).reshape(batch * length, -1)
            if last:
                attended, x = attended.index_select(0, at), x.index_select(0, at)
            return self.add(block, x, attended)

        x = self.embed(input_ids, positions).flatten(0, 1)
        again = torch.is_grad_enabled() and self.body.is_gradient_checkpointing
        for block in self.blocks:
            x = checkpoint(through, block, x, use_reentrant=False) if again else through(block, x)
        return norm(self.final_norm, x), cache


def hidden_states(
    kind: type[Body],
    model: PreTrainedModel,
    input_ids: Int[Tensor, "batch tokens"],
    at: Int[Tensor, " counted"],
    one_a_row: bool = False,
) -> Float[Tensor, "counted width"]:
    """Final hidden states of a model at some positions; arguments as in :meth:`Body.encode`."""
    return kind(model).encode(input_ids, at, one_a_row)[0]


class Decoder:
    """Incremental decoding of ``draws`` responses to each prompt, row ``p * draws + d``."""

    def __init__(
        self,
        kind: type[Body],
        model: PreTrainedModel,
        prompts: Prompts,
        draws: int,
        max_new_tokens: int,
    ) -> None:
        self._body = kind(model)
        starts = torch.arange(len(prompts), device=prompts.ids.device) * prompts.ids.shape[1]
        ends = starts + prompts.lengths - 1
        last, prefix = self._body.encode(prompts.ids, ends, keep_cache=True)
        self.hidden = last.repeat_interleave(draws, 0)
        self._position = prompts.lengths.repeat_interleave(draws)
        self._cache = PrefixCache(prefix, prompts, draws, max_new_tokens)

    def step(self, tokens: Int[Tensor, " rows"]) -> Float[Tensor, "rows width"]:
        """Append one token to each row; return the hidden state that predicts the next."""
        position = self._position + self._cache.step
        x, turn = self._body.embed(tokens, position), self._body.rotation(position[:, None])
        for layer, block in enumerate(self._body.blocks):
            query, key, value = self._body.qkv(block, x)
            attended = self._cache.attend(layer, turn(query), turn(key), value)
            x = self._body.add(block, x, attended)
        self._cache.step += 1
        self.hidden = norm(self._body.final_norm, x)
        return self.hidden


def norm(module: nn.LayerNorm, x: Tensor) -> Tensor:
    """Layer norm without the module's hooks."""
    return F.layer_norm(x, module.normalized_shape, module.weight, module.bias, module.eps)


class PrefixCache:
    """Keys and values: one set per *prompt* and one per response.

    Row ``p * draws + d`` is draw ``d`` of prompt ``p``.

    Args:
        prefix: Each layer's keys and values of the prompts, [prompts, heads, tokens, size].
        prompts: The prompts, whose lengths mark padding.
        draws: Number of responses per prompt.
        max_new_tokens: Maximum number of tokens per response.

    Attributes:
        step: Number of tokens stored per response, which the decoder counts.
    """

    def __init__(
        self, prefix: list[tuple[Tensor, Tensor]], prompts: Prompts, draws: int, max_new_tokens: int
    ) -> None:
        self._prefix, self._draws, self.step = prefix, draws, 0
        _, heads, _, size = prefix[0][0].shape
        self._scale = size**-0.5
        tokens = torch.arange(prompts.ids.shape[1], device=prompts.ids.device)
        padded, self._bias = tokens >= prompts.lengths[:, None], None
        if padded.any():
            bias = prefix[0][0].new_zeros(padded.shape).masked_fill_(padded, -torch.inf)
            self._bias = bias[:, None, None]
        shape = (len(prefix), 2, len(prompts) * draws, heads, max_new_tokens, size)
        self._own = prefix[0][0].new_empty(shape)

    def attend(
        self,
        layer: int,
        query: Float[Tensor, "rows heads size"],
        key: Float[Tensor, "rows heads size"],
        value: Float[Tensor, "rows heads size"],
    ) -> Float[Tensor, "rows width"]:
        """Store key and value of one new token per row; return what it attends to in a layer."""
        rows, heads, now = query.shape[0], query.shape[1], self.step + 1
        keys, values = self._own[layer]
        keys[:, :, self.step], values[:, :, self.step] = key, value
        prefix_keys, prefix_values = self._prefix[layer]
        prompts, prefix_length = prefix_keys.shape[0], prefix_keys.shape[2]
        query = query * self._scale
        by_prompt = query.view(prompts, self._draws, heads, -1).transpose(1, 2)
        scores_prefix = by_prompt @ prefix_keys.transpose(2, 3)
        if self._bias is not None:
            scores_prefix = scores_prefix + self._bias
        scores_prefix = scores_prefix.transpose(1, 2).reshape(rows, heads, prefix_length)
        scores_own = (query.unsqueeze(2) @ keys[:, :, :now].transpose(2, 3)).squeeze(2)
        weights = torch.cat((scores_prefix, scores_own), 2).softmax(2)
        weights_prefix = weights[..., :prefix_length].view(prompts, self._draws, heads, -1)
        attended = (weights_prefix.transpose(1, 2) @ prefix_values).transpose(1, 2)
        attended_own = (weights[..., prefix_length:].unsqueeze(2) @ values[:, :, :now]).squeeze(2)
        return (attended.reshape(rows, heads, -1) + attended_own).reshape(rows, -1)


def attend_once(
    query: Float[Tensor, "rows heads tokens size"],
    key: Float[Tensor, "rows heads tokens size"],
    value: Float[Tensor, "rows heads tokens size"],
    at: Int[Tensor, " rows"],
) -> Float[Tensor, "rows width"]:
    """Attention output of one token per row, over itself and the tokens before it.

    ``at`` has the tokens' indices into the flattened rows.
    """
    row, length = torch.arange(len(at), device=at.device), key.shape[2]
    position = at - row * length
    seen = torch.arange(length, device=at.device) <= position[:, None]
    query = query[row, :, position].unsqueeze(2)
    return F.scaled_dot_product_attention(query, key, value, seen[:, None, None]).flatten(1)

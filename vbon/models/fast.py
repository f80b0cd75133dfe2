"""Forward pass and decoding with the parameters of Hugging Face's modules, in fewer operations.

One :class:`Body` and one :class:`Decoder` serve GPT-2, GPT-NeoX and the Llama family, whose modules
define embeddings, projections and residuals. The forward pass needs no attention mask because
batches are padded on the right. The decoder has one key-value cache per *prompt* and one per
response, so a prompt with 600 responses is encoded and stored once. Both agree with the library's
``forward`` (a test).
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

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
    final_norm: nn.Module

    def norm(self, module: nn.Module, x: Tensor) -> Tensor:
        """Layer norm without the module's hooks."""
        return F.layer_norm(x, module.normalized_shape, module.weight, module.bias, module.eps)

    @abstractmethod
    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Input of the first block."""

    def rotation(self, positions: Tensor) -> "Rotation | None":
        """Rotation of queries and keys at these positions; None by default."""
        return None

    @abstractmethod
    def qkv(self, block: nn.Module, x: Tensor, rotation: "Rotation | None") -> tuple[Tensor, ...]:
        """Queries, keys and values [rows, heads, size] of states [rows, width].

        Keys and values may have fewer heads, each shared by a group of consecutive queries.
        """

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
        rotation, cache = self.rotation(positions.repeat(batch)), []

        def through(block: nn.Module, x: Tensor) -> Tensor:
            parts = (part.unflatten(0, (batch, length)) for part in self.qkv(block, x, rotation))
            query, key, value = (part.transpose(1, 2) for part in parts)
            if keep_cache:
                # Copy once here, or every decoding step would copy them again.
                cache.append((key.contiguous(), value.contiguous()))
            last = block is self.blocks[-1]
            if last and one_a_row:
                return self.add(block, x[at], attend_once(query, key, value, at))
            grouped = query.shape[1] != key.shape[1]
            attended = F.scaled_dot_product_attention(
                query, key, value, is_causal=True, enable_gqa=grouped
            )
            attended = attended.transpose(1, 2).reshape(batch * length, -1)
            if last:
                attended, x = attended.index_select(0, at), x.index_select(0, at)
            return self.add(block, x, attended)

        x = self.embed(input_ids, positions).flatten(0, 1)
        again = torch.is_grad_enabled() and self.body.is_gradient_checkpointing
        for block in self.blocks:
            x = checkpoint(through, block, x, use_reentrant=False) if again else through(block, x)
        return self.norm(self.final_norm, x), cache


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
        x, rotation = self._body.embed(tokens, position), self._body.rotation(position)
        for layer, block in enumerate(self._body.blocks):
            attended = self._cache.attend(layer, *self._body.qkv(block, x, rotation))
            x = self._body.add(block, x, attended)
        self._cache.step += 1
        self.hidden = self._body.norm(self._body.final_norm, x)
        return self.hidden


class Rotation:
    """Rotary embedding of queries and keys.

    Args:
        rotary: The library's module, which has the frequencies and computes in float32.
        like: Tensor of the device and precision of the model.
        positions: Position of each row.
    """

    def __init__(self, rotary: nn.Module, like: Tensor, positions: Int[Tensor, " rows"]) -> None:
        self._cos, self._sin = rotary(like, positions[:, None])

    def __call__(self, x: Float[Tensor, "rows heads size"]) -> Float[Tensor, "rows heads size"]:
        """Rotate the first entries of each head, all of them in most models."""
        size = self._cos.shape[-1]
        part = x[..., :size]
        first, second = part.chunk(2, -1)
        rotated = part * self._cos + torch.cat((-second, first), -1) * self._sin
        return rotated if size == x.shape[-1] else torch.cat((rotated, x[..., size:]), -1)


_SMALL = 2**20  # multiply-adds up to which one call of oneDNN costs more than it saves


def linear(module: nn.Module, x: Float[Tensor, "rows inner"]) -> Float[Tensor, "rows outer"]:
    """Output of a linear layer, of Hugging Face's ``Conv1D`` or of the adapted form of either.

    Large products on a processor, and those of their gradients, are computed by oneDNN, which on
    some processors is more than twice as fast as PyTorch's default library.
    """
    if hasattr(module, "lora_A"):
        return _adapted(module, x)
    if type(module) not in (nn.Linear, Conv1D):
        return module(x)
    weight = module.weight if type(module) is nn.Linear else module.weight.t()
    if _suits_onednn(weight, x):
        return _Product.apply(x, weight, module.bias)
    return F.linear(x, weight, module.bias)


def output_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Logits of the next token from final hidden states."""
    return linear(model.get_output_embeddings(), hidden)


def _suits_onednn(weight: Tensor, x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dim() == 2
        and x.dtype == weight.dtype == torch.float32
        and x.numel() * len(weight) > _SMALL
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
    )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _Product(torch.autograd.Function):
    """``F.linear`` by oneDNN; inputs may have any strides."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            _product(grad, weight.t()) if of_x else None,
            _gradient_of_weight(x, grad) if of_weight else None,
            grad.sum(0) if of_bias else None,
        )


def _gradient_of_weight(x: Tensor, grad: Tensor) -> Tensor:
    """``grad.T @ x``; oneDNN copies its first factor, so this is the smaller one."""
    if x.shape[1] < grad.shape[1]:
        return _product(x.t(), grad.t()).t()
    return _product(grad.t(), x.t())


def _adapted(module: nn.Module, x: Tensor) -> Tensor:
    """Output of a layer with a low-rank update, added in place instead of by a full product."""
    adapters = module.active_adapters
    if len(adapters) != 1 or module.merged or module.disable_adapters or module.lora_variant:
        return module(x)
    name = adapters[0]
    low = F.linear(module.lora_dropout[name](x), module.lora_A[name].weight)
    up, scale = module.lora_B[name].weight.to(low.dtype), module.scaling[name]
    return linear(module.base_layer, x).addmm_(low, up.t(), alpha=scale)


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
        _, heads, _, size = prefix[0][0].shape  # heads of keys and values
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
        key: Float[Tensor, "rows stored size"],
        value: Float[Tensor, "rows stored size"],
    ) -> Float[Tensor, "rows width"]:
        """Store key and value of one new token per row; return what it attends to in a layer.

        A group of queries that share a head of keys and values is one matrix, so none is repeated.
        """
        rows, heads, now = query.shape[0], key.shape[1], self.step + 1
        keys, values = self._own[layer]
        keys[:, :, self.step], values[:, :, self.step] = key, value
        prefix_keys, prefix_values = self._prefix[layer]
        prefix_length = prefix_keys.shape[2]
        query = (query * self._scale).view(rows, heads, -1, query.shape[-1])
        scores_prefix = self._by_prompt(query) @ prefix_keys.transpose(2, 3)
        if self._bias is not None:
            scores_prefix = scores_prefix + self._bias
        scores_own = query @ keys[:, :, :now].transpose(2, 3)
        weights = torch.cat((self._by_row(scores_prefix), scores_own), 3).softmax(3)
        attended = self._by_prompt(weights[..., :prefix_length]) @ prefix_values
        attended_own = weights[..., prefix_length:] @ values[:, :, :now]
        return (self._by_row(attended) + attended_own).reshape(rows, -1)

    def _by_prompt(self, x: Float[Tensor, "rows heads group n"]) -> Float[Tensor, "p heads m n"]:
        """Rows of all draws of a prompt as one matrix per head."""
        return x.unflatten(0, (-1, self._draws)).transpose(1, 2).flatten(2, 3)

    def _by_row(self, x: Float[Tensor, "p heads m n"]) -> Float[Tensor, "rows heads group n"]:
        """Inverse of :meth:`_by_prompt`."""
        return x.unflatten(2, (self._draws, -1)).transpose(1, 2).flatten(0, 1)


def attend_once(
    query: Float[Tensor, "rows heads tokens size"],
    key: Float[Tensor, "rows stored tokens size"],
    value: Float[Tensor, "rows stored tokens size"],
    at: Int[Tensor, " rows"],
) -> Float[Tensor, "rows width"]:
    """Attention output of one token per row, over itself and the tokens before it.

    ``at`` has the tokens' indices into the flattened rows.
    """
    row, length = torch.arange(len(at), device=at.device), key.shape[2]
    position = at - row * length
    seen = torch.arange(length, device=at.device) <= position[:, None]
    # Queries that share a head of keys and values are its rows.
    query = query[row, :, position].unflatten(1, (key.shape[1], -1))
    return F.scaled_dot_product_attention(query, key, value, seen[:, None, None]).flatten(1)

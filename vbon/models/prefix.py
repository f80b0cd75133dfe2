"""Attention of single tokens: decoded ones, whose draws share a prompt, and last ones."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from vbon.batches import Prompts


class PrefixCache:
    """Keys and values: one set for each *prompt* and one for each response.

    A prompt that is answered 600 times is encoded and stored once. Rows are ordered prompt by
    prompt: row ``p * draws + d`` is draw ``d`` of prompt ``p``.

    Args:
        prefix: Each layer's keys and values of the prompts, [prompts, heads, tokens, size].
        prompts: Which of these positions are padding.
        draws: Responses a prompt.
        max_new_tokens: Longest response.
    """

    def __init__(
        self,
        prefix: list[tuple[Tensor, Tensor]],
        prompts: Prompts,
        draws: int,
        max_new_tokens: int,
    ) -> None:
        self._prefix, self._draws, self._step = prefix, draws, 0
        _, heads, _, size = prefix[0][0].shape
        self._scale = size**-0.5
        self._bias = _padding_bias(prompts, prefix[0][0].dtype)
        shape = (len(prefix), 2, len(prompts) * draws, heads, max_new_tokens, size)
        self._own = prefix[0][0].new_empty(shape)

    def advance(self) -> None:
        """Go on to the next token."""
        self._step += 1

    def attend(
        self,
        layer: int,
        query: Float[Tensor, "rows heads size"],
        key: Float[Tensor, "rows heads size"],
        value: Float[Tensor, "rows heads size"],
    ) -> Float[Tensor, "rows width"]:
        """What one new token of each row attends to in one layer."""
        rows, heads, now = query.shape[0], query.shape[1], self._step + 1
        keys, values = self._own[layer]
        keys[:, :, self._step], values[:, :, self._step] = key, value
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
        own = (weights[..., prefix_length:].unsqueeze(2) @ values[:, :, :now]).squeeze(2)
        return (attended.reshape(rows, heads, -1) + own).reshape(rows, -1)


def attend_once(
    query: Float[Tensor, "rows heads tokens size"],
    key: Float[Tensor, "rows heads tokens size"],
    value: Float[Tensor, "rows heads tokens size"],
    at: Int[Tensor, " rows"],
) -> Float[Tensor, "rows width"]:
    """What one token of each row, counted row after row, attends to: itself and those before it."""
    row, length = torch.arange(len(at), device=at.device), key.shape[2]
    position = at - row * length
    seen = torch.arange(length, device=at.device) <= position[:, None]
    chosen = query[row, :, position].unsqueeze(2)
    return F.scaled_dot_product_attention(chosen, key, value, seen[:, None, None]).flatten(1)


def _padding_bias(prompts: Prompts, dtype: torch.dtype) -> Tensor | None:
    """-inf at padded prompt positions, [prompts, 1, 1, tokens]; None where none is padded."""
    tokens = prompts.ids.shape[1]
    padded = torch.arange(tokens, device=prompts.ids.device) >= prompts.lengths[:, None]
    if not padded.any():
        return None
    bias = torch.zeros(padded.shape, dtype=dtype, device=prompts.ids.device)
    return bias.masked_fill_(padded, -torch.inf)[:, None, None]

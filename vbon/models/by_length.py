"""Batches without padding: sequences of one length go through a model together.

For models in which padding between a prompt and its response changes log-probs: it stands inside a
sliding window, moves positions, or enters a recurrent state.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from vbon.batches import Prompts

States = Callable[[PreTrainedModel, Tensor, Tensor], Tensor]


def hidden_states(
    states: States,
    model: PreTrainedModel,
    input_ids: Int[Tensor, "batch tokens"],
    at: Int[Tensor, " counted"],
) -> Float[Tensor, "counted width"]:
    """States at some positions of right-padded sequences.

    Args:
        states: The function for sequences of one length.
        model: A causal language model.
        input_ids: Token ids; a row ends, for the model, at its last position in ``at``.
        at: Positions to return, as indices into the flattened ids.
    """
    batch, tokens = input_ids.shape
    row, column = at // tokens, at % tokens
    needed = at.new_zeros(batch).scatter_reduce(0, row, column + 1, "amax")
    parts, places = [], []
    for length in needed[needed > 0].unique().tolist():
        rows = (needed == length).nonzero()[:, 0]
        place = (needed[row] == length).nonzero()[:, 0]
        index = torch.searchsorted(rows, row[place]) * length + column[place]
        parts.append(states(model, input_ids[rows, :length], index))
        places.append(place)
    return torch.cat(parts)[torch.cat(places).argsort()]


class Decoder:
    """Decoding of ``draws`` responses to each prompt, by one decoder per length of the prompts.

    Args:
        decoder: Class of the decoder of prompts of one length.
        model: A causal language model.
        prompts: Prompts of any lengths.
        draws: Responses per prompt; row ``p * draws + d`` is draw ``d`` of prompt ``p``.
        max_new_tokens: Largest number of tokens of a response.
    """

    def __init__(
        self,
        decoder: Callable[..., object],
        model: PreTrainedModel,
        prompts: Prompts,
        draws: int,
        max_new_tokens: int,
    ) -> None:
        self._rows, self._decoders = [], []
        draw = torch.arange(draws, device=prompts.ids.device)
        for length in prompts.lengths.unique().tolist():
            chosen = (prompts.lengths == length).nonzero()[:, 0]
            self._rows.append((chosen[:, None] * draws + draw).flatten())
            self._decoders.append(decoder(model, prompts.select(chosen), draws, max_new_tokens))
        self._order = torch.cat(self._rows).argsort()
        self.hidden = self._joined()

    def _joined(self) -> Tensor:
        """States of all rows, in their order."""
        return torch.cat([decoder.hidden for decoder in self._decoders])[self._order]

    def step(self, tokens: Int[Tensor, " rows"]) -> Float[Tensor, "rows width"]:
        """Append one token to each row; return the state that predicts the next."""
        for rows, decoder in zip(self._rows, self._decoders, strict=True):
            decoder.step(tokens[rows])
        self.hidden = self._joined()
        return self.hidden

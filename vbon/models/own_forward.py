"""States and logits by the model's complete forward pass: slow, and right for any causal model.

There is no padding and no cache: sequences of one length go together, and every decoding step
computes the whole sequences again. A state is the model's last hidden state followed by its logits.
"""

import inspect
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from vbon.batches import Prompts


def inputs(model: PreTrainedModel, input_ids: Tensor) -> dict[str, Any]:
    """Arguments of a forward pass that stores nothing."""
    names = inspect.signature(model.forward).parameters
    return {"input_ids": input_ids} | ({"use_cache": False} if "use_cache" in names else {})


def hidden_states(
    model: PreTrainedModel, input_ids: Int[Tensor, "batch tokens"], at: Int[Tensor, " counted"]
) -> Float[Tensor, "counted joined"]:
    """States at some positions of sequences of one length; ``at`` indexes the flattened ids."""
    batch, tokens = input_ids.shape
    options = inputs(model, input_ids)
    kept = torch.arange(tokens, device=at.device)
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        kept = (at % tokens).unique()  # logits of long prompts may take gigabytes
        options["logits_to_keep"] = kept
    outputs = model(**options, output_hidden_states=True)
    row, column = at // tokens, at % tokens
    states = outputs.hidden_states[-1][:, :tokens].reshape(batch, tokens, -1)[row, column]
    logits = outputs.logits[row, torch.searchsorted(kept, column)]
    return torch.cat((states, logits.to(states.dtype)), 1)


def output_logits(
    model: PreTrainedModel, hidden: Float[Tensor, "*batch joined"]
) -> Float[Tensor, "*batch vocab"]:
    """The logits that a state contains; there are as many as rows of the output layer."""
    return hidden[..., model.vbon_path.width :]


class Decoder:
    """Decoding of ``draws`` responses to each prompt of one length, row ``p * draws + d``."""

    def __init__(
        self, model: PreTrainedModel, prompts: Prompts, draws: int, max_new_tokens: int
    ) -> None:
        del max_new_tokens  # nothing is stored
        self._model = model
        ids = prompts.ids[:, : int(prompts.lengths[0])]
        last = torch.arange(1, len(ids) + 1, device=ids.device) * ids.shape[1] - 1
        self.hidden = hidden_states(model, ids, last).repeat_interleave(draws, 0)
        self._ids = ids.repeat_interleave(draws, 0)

    def step(self, tokens: Int[Tensor, " rows"]) -> Float[Tensor, "rows joined"]:
        """Append one token to each row; return the state that predicts the next."""
        self._ids = torch.cat((self._ids, tokens[:, None]), 1)
        rows, length = self._ids.shape
        last = torch.arange(1, rows + 1, device=tokens.device) * length - 1
        self.hidden = hidden_states(self._model, self._ids, last)
        return self.hidden

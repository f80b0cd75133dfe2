"""Forward pass and decoding of any causal language model, by transformers' own code."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from vbon.batches import Prompts


def hidden_states(
    model: PreTrainedModel, input_ids: Int[Tensor, "batch tokens"], at: Int[Tensor, " counted"]
) -> Float[Tensor, "counted width"]:
    """Final hidden states of right-padded sequences; positions count from the first token."""
    states = model.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
    return states.flatten(0, 1).index_select(0, at)


class Decoder:
    """Incremental decoding of ``draws`` responses to each prompt, row ``p * draws + d``."""

    def __init__(
        self, model: PreTrainedModel, prompts: Prompts, draws: int, max_new_tokens: int
    ) -> None:
        del max_new_tokens  # this cache grows as needed
        self._model, self._lengths = model, prompts.lengths.repeat_interleave(draws)
        device = prompts.ids.device
        self._mask = torch.arange(prompts.ids.shape[1], device=device) < prompts.lengths[:, None]
        self._cache = DynamicCache()
        states = model.base_model(
            input_ids=prompts.ids,
            attention_mask=self._mask.long(),
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
        last = states[torch.arange(len(prompts), device=device), prompts.lengths - 1]
        self.hidden = last.repeat_interleave(draws, 0)
        self._mask = self._mask.repeat_interleave(draws, 0)
        self._cache.batch_repeat_interleave(draws)
        self._step = 0

    def step(self, tokens: Int[Tensor, " rows"]) -> Float[Tensor, "rows width"]:
        """Append one token to each row; return the hidden state that predicts the next."""
        self._mask = torch.cat((self._mask, self._mask.new_ones(len(tokens), 1)), 1)
        self.hidden = self._model.base_model(
            input_ids=tokens[:, None],
            attention_mask=self._mask.long(),
            position_ids=(self._lengths + self._step)[:, None],
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
        self._step += 1
        return self.hidden

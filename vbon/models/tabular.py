"""Tabular language model: one row of logits for each possible prefix.

On a language short enough to enumerate it can represent every distribution, so any remaining
distance to an optimum after training is due to the optimiser, not to the model.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from vbon.batches import Prompts
from vbon.errors import ConfigError


class TabularConfig(PreTrainedConfig):
    """Vocabulary size, and length in tokens of the longest prefix (prompt and response)."""

    model_type = "vbon-tabular"

    def __init__(self, vocab_size: int = 4, longest_prefix: int = 5, **kwargs) -> None:
        self.longest_prefix = longest_prefix
        super().__init__(vocab_size=vocab_size, **kwargs)
        self.tie_word_embeddings = False


class TabularLM(PreTrainedModel):
    """Table of logits by prefix, with Hugging Face's interface and saved format."""

    config_class = TabularConfig
    base_model_prefix = "transformer"
    _no_split_modules = ()

    def __init__(self, config: TabularConfig) -> None:
        super().__init__(config)
        rows = sum(config.vocab_size**length for length in range(config.longest_prefix + 1))
        self.table = nn.Parameter(torch.zeros(rows, config.vocab_size))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Keep the zeros of the table, which are the uniform distribution."""

    def rows(self, input_ids: Int[Tensor, "batch tokens"]) -> Int[Tensor, "batch tokens"]:
        """Row of the prefix that ends at each position; prefixes are numbered by length first."""
        rows, row = [], input_ids.new_zeros(len(input_ids))
        for tokens in input_ids.unbind(1):
            row = next_row(row, tokens, self.config.vocab_size)
            rows.append(row)
        # Padding may exceed the longest prefix; its rows are never read.
        return torch.stack(rows, 1).clamp_max(len(self.table) - 1)

    def forward(self, input_ids: Int[Tensor, "batch tokens"], **_: object) -> CausalLMOutput:
        """Logits of the next token after each position."""
        return CausalLMOutput(logits=output_logits(self, self.rows(input_ids).unsqueeze(-1)))


def next_row(row: Tensor, tokens: Tensor, vocab_size: int) -> Tensor:
    """Row of prefixes extended by one token: a child in a ``vocab_size``-ary tree."""
    return row * vocab_size + tokens + 1


def hidden_states(
    model: TabularLM, input_ids: Int[Tensor, "batch tokens"], at: Int[Tensor, " counted"]
) -> Int[Tensor, "counted one"]:
    """Row of the table for each prefix, in place of a hidden state."""
    return model.rows(input_ids).flatten()[at].unsqueeze(-1)


def output_logits(
    model: TabularLM, hidden: Int[Tensor, "*batch one"]
) -> Float[Tensor, "*batch vocab"]:
    """Logits of the next token for each prefix."""
    return F.embedding(hidden.squeeze(-1), model.table)


class ValueTable(nn.Module):
    """One value for each prefix."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(rows))

    def forward(self, hidden: Int[Tensor, "*batch one"]) -> Float[Tensor, "*batch"]:
        """Value of each prefix."""
        return F.embedding(hidden.squeeze(-1), self.table[:, None]).squeeze(-1)


class Decoder:
    """Incremental decoding of ``draws`` responses to each prompt, row ``p * draws + d``."""

    def __init__(self, model: TabularLM, prompts: Prompts, draws: int, max_new_tokens: int) -> None:
        longest = int(prompts.lengths.max()) + max_new_tokens - 1
        if longest > model.config.longest_prefix:
            raise ConfigError(
                f"max_new_tokens: {max_new_tokens} tokens after a prompt need prefixes of "
                f"{longest} tokens, the table has {model.config.longest_prefix}; lower "
                "max_new_tokens, or build the model with a larger longest_prefix"
            )
        self._vocab_size, self._last = model.config.vocab_size, len(model.table) - 1
        rows = model.rows(prompts.ids).unsqueeze(-1)
        last = rows[torch.arange(len(prompts)), prompts.lengths - 1]
        self.hidden = last.repeat_interleave(draws, 0)

    def step(self, tokens: Int[Tensor, " rows"]) -> Int[Tensor, "rows one"]:
        """Append one token to each row; return the row that predicts the next."""
        row = next_row(self.hidden.squeeze(-1), tokens, self._vocab_size)
        # Finished rows step on until the batch ends, beyond the longest prefix.
        self.hidden = row.clamp_max(self._last).unsqueeze(-1)
        return self.hidden


AutoConfig.register(TabularConfig.model_type, TabularConfig)
AutoModelForCausalLM.register(TabularConfig, TabularLM)

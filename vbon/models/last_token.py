"""Scores that a sequence classifier reads off each text's last token.

In the last block every other token is but a key and a value, so the library's own forward pass,
which scores all of them, takes several times as long where blocks are few. Agrees with it (a test).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from vbon.models import gpt2, gpt_neox

_BODIES = {"GPT2ForSequenceClassification": gpt2, "GPTNeoXForSequenceClassification": gpt_neox}


def supports(model: nn.Module) -> bool:
    """Whether ``model`` is a classifier of that kind whose configuration is implemented."""
    part = _BODIES.get(type(model).__name__)
    return part is not None and part.supports(model) and model.config.pad_token_id is not None


def logits(
    model: PreTrainedModel, input_ids: Int[Tensor, "batch tokens"]
) -> Float[Tensor, "batch labels"]:
    """Scores of texts that are padded on the right.

    Args:
        model: One that :func:`supports` says yes to.
        input_ids: Token ids. As in the library, a text ends with its last token that is not
            ``model.config.pad_token_id``.

    Example:
        >>> from transformers import GPTNeoXConfig, GPTNeoXForSequenceClassification
        >>> size = {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1}
        >>> size |= {"num_attention_heads": 2, "intermediate_size": 16, "pad_token_id": 0}
        >>> model = GPTNeoXForSequenceClassification(GPTNeoXConfig(num_labels=1, **size))
        >>> texts = torch.tensor([[5, 6, 7], [5, 6, 0]])
        >>> supports(model), logits(model, texts).shape
        (True, torch.Size([2, 1]))
    """
    batch, length = input_ids.shape
    column = torch.arange(length, device=input_ids.device)
    last = (column * (input_ids != model.config.pad_token_id)).argmax(1)
    at = torch.arange(batch, device=input_ids.device) * length + last
    states = _BODIES[type(model).__name__].hidden_states(model, input_ids, at, True)
    return model.score(states)

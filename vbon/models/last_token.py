"""Scores of sequence classifiers that read them at each text's last token.

In the last block other tokens supply only keys and values. The library's own forward pass computes
scores of all tokens, which takes several times as long for models with few blocks. Both agree (a
test).
"""

from types import ModuleType

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from vbon.models import gpt2, gpt_neox, llama


def supports(model: nn.Module) -> bool:
    """Return True if ``model`` is such a classifier and its configuration is implemented."""
    return (
        type(model).__name__.endswith("ForSequenceClassification")
        and _backend(model) is not None
        and model.config.pad_token_id is not None
    )


def _backend(model: nn.Module) -> ModuleType | None:
    return next((part for part in (gpt2, gpt_neox, llama) if part.supports(model)), None)


def logits(
    model: PreTrainedModel, input_ids: Int[Tensor, "batch tokens"]
) -> Float[Tensor, "batch labels"]:
    """Scores of right-padded texts.

    Args:
        model: A model for which :func:`supports` is True.
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
    states = _backend(model).hidden_states(model, input_ids, at, True)
    return model.score(states)

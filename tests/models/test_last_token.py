"""Scores at last tokens equal those of the library's forward pass and of each text alone."""

from functools import partial

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
    GPTNeoXConfig,
    GPTNeoXForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    MistralConfig,
    MistralForSequenceClassification,
    Qwen2Config,
    Qwen2ForSequenceClassification,
    Qwen3Config,
    Qwen3ForSequenceClassification,
)

from vbon.models import last_token

PAD = 0


def make_gpt2(**changes):
    size = {"vocab_size": 20, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2}
    drops = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    return GPT2ForSequenceClassification(GPT2Config(**{**size, **drops, **changes}))


def make_neox(**changes):
    size = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    return GPTNeoXForSequenceClassification(GPTNeoXConfig(intermediate_size=32, **size, **changes))


def maker(config, kind):
    size = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 32}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4}
    return lambda **changes: kind(config(**size, **heads, **changes))


FAMILY = {
    "llama": maker(LlamaConfig, LlamaForSequenceClassification),
    "mistral": maker(partial(MistralConfig, sliding_window=None), MistralForSequenceClassification),
    "qwen2": maker(Qwen2Config, Qwen2ForSequenceClassification),
    "qwen3": maker(Qwen3Config, Qwen3ForSequenceClassification),
}
MAKERS = {"gpt2": make_gpt2, "neox": make_neox, **FAMILY}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("labels", [1, 3])
def test_scores_are_the_library_s(name, labels):
    torch.manual_seed(0)
    make = MAKERS[name]
    model = make(num_labels=labels, pad_token_id=PAD).double().eval()
    lengths = torch.tensor([7, 1, 5, 7])
    ids = torch.randint(1, 20, (4, 7)) * (torch.arange(7) < lengths[:, None])
    ids[2, 2] = PAD  # one that is inside of a text is a token
    assert last_token.supports(model)
    found = last_token.logits(model, ids)
    mask = torch.arange(7) < lengths[:, None]
    torch.testing.assert_close(found, model(ids, attention_mask=mask.long()).logits)
    for row, length in enumerate(lengths):
        torch.testing.assert_close(found[row], model(ids[row : row + 1, :length]).logits[0])
    wanted = torch.randn(4, labels).double()
    gradients = [
        torch.autograd.grad((scores * wanted).sum(), list(model.parameters()), allow_unused=True)
        for scores in (found, model(ids, attention_mask=mask.long()).logits)
    ]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_other_models_are_not_supported():
    assert not last_token.supports(
        make_gpt2()
    )  # it has no padding token, so texts have no known end
    assert not last_token.supports(make_gpt2(pad_token_id=PAD, resid_pdrop=0.1))
    assert not last_token.supports(FAMILY["llama"]())
    assert not last_token.supports(FAMILY["mistral"](pad_token_id=PAD, attention_dropout=0.1))
    assert not last_token.supports(torch.nn.Linear(1, 1))

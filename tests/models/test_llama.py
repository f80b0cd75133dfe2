"""The Llama family against the library's own forward pass; models that must not be taken for it."""

import copy

import pytest
import torch
from support import with_seed
from test_language_model import PROMPTS, check_decoder, prompts, responses
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM

from vbon.models import fast, generic, llama, paths
from vbon.models import language_model as lm
from vbon.models.paths import Path, path_of
from vbon.models.trainable import make_trainable, merged
from vbon.sampling import sample

SIZE = {"vocab_size": 20, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
TOKENS = {"bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 0}
LENGTHS = {"max_position_embeddings": 32, "initializer_range": 0.3}


def make(kind="llama", **changes):
    """A tiny model with weights that make every part matter, norms and biases included."""
    config = AutoConfig.for_model(kind, **SIZE, **{**HEADS, **TOKENS, **LENGTHS, **changes})
    model = with_seed(0, lambda: AutoModelForCausalLM.from_config(config)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn(len(parameter), generator=generator))
    return model


def with_lora(model):
    """The model with low-rank updates that matter."""
    model = make_trainable(model, "lora", lora_rank=3, lora_alpha=4.5, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in filter(lambda p: p.requires_grad, model.parameters()):
            parameter.normal_(0.0, 0.3, generator=generator)
    return model


def rope(kind, **changes):
    return make(rope_parameters={"rope_theta": 100.0, "rope_type": kind, "factor": 4.0, **changes})


FULL = {"layer_types": ["full_attention"] * 2}
BANDS = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
MODELS = {
    "llama": make,
    "one head of keys": lambda: make(num_key_value_heads=1),
    "a head of keys per query": lambda: make(num_key_value_heads=4),
    "tied": lambda: make(tie_word_embeddings=True),
    "biases": lambda: make(attention_bias=True, mlp_bias=True),
    "wide heads": lambda: make(head_dim=16, num_key_value_heads=1),
    "swish": lambda: make(hidden_act="swish"),
    "linear": lambda: rope("linear"),
    "llama3": lambda: rope("llama3", original_max_position_embeddings=8, **BANDS),
    "yarn": lambda: rope("yarn", original_max_position_embeddings=8),
    "low-rank": lambda: with_lora(make()),
    "mistral": lambda: make("mistral", sliding_window=None),
    "ministral": lambda: make("ministral", **FULL),
    "qwen2": lambda: make("qwen2"),
    "qwen3": lambda: make("qwen3", attention_bias=True, tie_word_embeddings=True),
    "qwen3, low-rank": lambda: with_lora(make("qwen3")),
    "smollm3": lambda: make("smollm3", no_rope_layers=[1, 0]),
    "cwm": lambda: make("cwm", **FULL),
}


def padded():
    """Right-padded ids of unequal lengths and the mask of their tokens."""
    generator = torch.Generator().manual_seed(0)
    ids, mask = torch.randint(1, 20, (4, 9), generator=generator), torch.arange(9)
    return ids, mask < torch.tensor([9, 1, 5, 7])[:, None]


def our_logits(model, ids):
    return lm.output_logits(model, lm.hidden_states(model, ids)).view(*ids.shape, -1)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)], ids=str
)
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_logits_are_the_librarys(name, dtype, tolerance):
    model, (ids, mask) = MODELS[name]().to(dtype), padded()
    assert llama.supports(model)
    assert path_of(model).states is llama.hidden_states
    expected = model(ids, attention_mask=mask.long()).logits
    scale = expected[mask].std()
    assert scale > 0.5
    torch.testing.assert_close(
        our_logits(model, ids)[mask] / scale, expected[mask] / scale, rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize("checkpointing", [False, True], ids=["stored", "recomputed"])
@pytest.mark.parametrize("name", MODELS)
def test_gradients_of_all_parameters_are_the_librarys(name, checkpointing):
    model, (ids, mask) = MODELS[name]().double(), padded()
    trained = {key: p for key, p in model.named_parameters() if p.requires_grad}
    mask[:, -1] = False  # the last token is no input
    gradients = []
    for ours in (True, False):
        if ours and checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            model.train()
        logits = our_logits(model, ids) if ours else model(ids, attention_mask=mask.long()).logits
        loss = logits[mask].log_softmax(-1)[..., 3].sum()
        gradients.append(torch.autograd.grad(loss, list(trained.values())))
        model.gradient_checkpointing_disable()
    for key, mine, theirs in zip(trained, *gradients, strict=True):
        scale = theirs.abs().max()
        # The bias of keys shifts all scores of a query alike.
        assert scale > 1e-6 or key.endswith("k_proj.bias")
        torch.testing.assert_close(mine / scale, theirs / scale, rtol=1e-8, atol=1e-8, msg=key)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("lists", [PROMPTS, [[5, 6]]], ids=["ragged", "single"])
def test_decoding_agrees_with_unpadded_forward_passes(name, lists):
    check_decoder(MODELS[name]().double(), lm.make_decoder, lists, 1e-9)
    check_decoder(MODELS[name](), lm.make_decoder, lists, 2e-5)


@pytest.mark.parametrize("name", ["llama", "biases", "qwen3", "low-rank"])
def test_decoding_by_onednn_agrees(name, monkeypatch):
    monkeypatch.setattr(fast, "_SMALL", 0)
    check_decoder(MODELS[name](), lm.make_decoder, PROMPTS, 2e-5)


def test_gradients_of_adapters_by_onednn_are_the_librarys(monkeypatch):
    monkeypatch.setattr(fast, "_SMALL", 0)
    model, (ids, _) = MODELS["low-rank"](), padded()
    adapters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for ours, theirs in zip(
        *(
            torch.autograd.grad(logits.log_softmax(-1)[..., 3].sum(), adapters)
            for logits in (our_logits(model, ids), model(ids).logits)
        ),
        strict=True,
    ):
        scale = theirs.abs().max()
        torch.testing.assert_close(ours / scale, theirs / scale, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "qwen3"])
@torch.no_grad()
def test_half_precision_is_close(name):
    model, (ids, mask) = MODELS[name](), padded()
    expected = model(ids).logits.log_softmax(-1)[mask]
    half = copy.deepcopy(model).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = our_logits(model, ids)
    for logits in (mixed, our_logits(half, ids)):
        assert (logits.float().log_softmax(-1)[mask] - expected).abs().mean() < 0.1
    theirs = half(ids).logits.float().log_softmax(-1)[mask]
    ours = our_logits(half, ids).log_softmax(-1)[mask]
    assert (ours - theirs).abs().mean() < 0.05
    with torch.autocast("cpu", torch.bfloat16):
        drawn = sample(model, prompts(), draws=3, max_new_tokens=5, eos_token_id=2, seed=0)
    again = lm.token_log_probs(model, prompts(), *of_prompt(drawn, 0, 3))
    assert (again - drawn.token_log_probs[::3]).abs().mean() < 0.1
    drawn = sample(half, prompts(), draws=3, max_new_tokens=5, eos_token_id=2, seed=0)
    again = lm.token_log_probs(half, prompts(), *of_prompt(drawn, 0, 3))
    assert (again - drawn.token_log_probs[::3]).abs().mean() < 0.1


def of_prompt(rollouts, draw, draws):
    rows = torch.arange(draw, len(rollouts), draws)
    return rollouts.response_ids[rows], rollouts.response_mask[rows]


@pytest.mark.parametrize("name", ["llama", "one head of keys", "qwen3", "smollm3"])
@torch.no_grad()
def test_draws_and_log_probs_are_those_of_the_generic_path(name):
    model = MODELS[name]()
    options = {"draws": 4, "max_new_tokens": 6, "eos_token_id": 2, "seed": 0}
    ours = sample(model, prompts(), **options)
    model.vbon_path = Path("padded", generic.hidden_states, generic.Decoder, paths._linear)
    theirs = sample(model, prompts(), **options)
    assert torch.equal(ours.response_ids, theirs.response_ids)
    torch.testing.assert_close(ours.token_log_probs, theirs.token_log_probs, rtol=0, atol=1e-5)


@torch.no_grad()
def test_low_rank_updates_are_those_of_the_merged_model():
    model, (ids, mask) = with_lora(make("qwen2")).double(), padded()
    ids_of, counted = responses(3, 5)
    plain = merged(model)
    assert path_of(model).states is path_of(plain).states is llama.hidden_states
    torch.testing.assert_close(
        lm.token_log_probs(model, prompts(), ids_of, counted),
        lm.token_log_probs(plain, prompts(), ids_of, counted),
        rtol=0,
        atol=1e-9,
    )
    assert (our_logits(model, ids) - our_logits(make("qwen2").double(), ids))[
        mask
    ].abs().max() > 0.1


class Derived(LlamaForCausalLM):
    """A class that could compute anything."""


def replaced(part):
    model = make()
    block = model.model.layers[1]
    setattr(block, part, type("Other", (type(getattr(block, part)),), {})(model.config))
    return model


def shortened(model):
    model.config.num_hidden_layers = 1
    return model


OTHERS = {
    "sliding window": lambda: make("mistral", sliding_window=4),
    "sliding window whatever the layers": lambda: make("mistral", sliding_window=4, **FULL),
    "some layers with a window": lambda: make(
        "qwen2", use_sliding_window=True, sliding_window=4, max_window_layers=1
    ),
    "smollm3 with a window": lambda: make(
        "smollm3", use_sliding_window=True, sliding_window=4, no_rope_layers=[1, 0]
    ),
    "dropout": lambda: make(attention_dropout=0.1),
    "activation": lambda: make(hidden_act="gelu"),
    "attention both ways": lambda: make(is_causal=False),
    "frequencies by length": lambda: rope("dynamic"),
    "granite": lambda: make("granite"),
    "gemma": lambda: make("gemma"),
    "cohere": lambda: make("cohere"),
    "olmo2": lambda: make("olmo2"),
    "arcee": lambda: make("arcee"),
    "mixtral": lambda: make("mixtral", num_local_experts=2),
    "subclass": lambda: Derived(make().config),
    "another MLP": lambda: replaced("mlp"),
    "fewer layers than there are": lambda: shortened(make()),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_run_through_their_own_forward(name):
    model = OTHERS[name]()
    assert not llama.supports(model)
    assert paths._fast_body(model) is None

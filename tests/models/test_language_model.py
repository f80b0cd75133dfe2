"""Every backend against Hugging Face's own forward pass; loading, packing, value head."""

import itertools
import json

import pytest
import torch
from support import forward_log_probs, make_gpt2, make_table, save_reference, with_seed
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

from vbon.batches import Prompts
from vbon.errors import ArtifactError, ConfigError
from vbon.models import generic, gpt2, gpt_neox, llama, tabular
from vbon.models import language_model as lm
from vbon.models.loading import POINTER, resolve
from vbon.models.paths import path_of
from vbon.models.trainable import make_trainable

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13]]


def prompts(lists=PROMPTS):
    return Prompts.from_lists(lists, [str(index) for index in range(len(lists))])


def make_llama():
    config = LlamaConfig(
        vocab_size=20,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        bos_token_id=2,
        eos_token_id=2,
        pad_token_id=0,
        initializer_range=0.3,
    )
    return with_seed(0, lambda: LlamaForCausalLM(config)).eval()


def make_neox(**changes):
    options = {
        "vocab_size": 20,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 32,
        "bos_token_id": 2,
        "eos_token_id": 2,
        "initializer_range": 0.3,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
    }
    config = GPTNeoXConfig(**(options | changes))
    return with_seed(0, lambda: GPTNeoXForCausalLM(config)).eval()


def make_lora():
    """A GPT-2 with low-rank updates that matter."""
    model = make_trainable(make_gpt2(), "lora", lora_rank=3, lora_alpha=4.5, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in filter(lambda p: p.requires_grad, model.parameters()):
            parameter.normal_(0.0, 0.3, generator=generator)
    return model


MODELS = {
    "gpt2": make_gpt2,
    "gpt2, low-rank": make_lora,
    "gpt2, scaled by layer": lambda: make_gpt2(scale_attn_by_inverse_layer_idx=True),
    "llama": make_llama,
    "neox": make_neox,
    "neox, one after the other": lambda: make_neox(use_parallel_residual=False, rotary_pct=1.0),
    "tabular": lambda: make_table(vocab_size=20, longest_prefix=3),
}


def responses(rows, tokens, seed=0, vocab_size=20):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(vocab_size, (rows, tokens), generator=generator)
    lengths = torch.randint(1, tokens + 1, (rows,), generator=generator)
    return ids, torch.arange(tokens) < lengths[:, None]


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=str
)
@pytest.mark.parametrize("make", [make_gpt2, make_lora])
def test_gpt2_forward_is_hugging_faces(make, dtype, tolerance, generator):
    model = make().to(dtype)
    ids = torch.randint(20, (4, 9), generator=generator)
    ours = lm.output_logits(model, lm.hidden_states(model, ids)).view(*ids.shape, -1)
    torch.testing.assert_close(ours, model(ids).logits, rtol=tolerance, atol=tolerance)
    assert ours.std() > 0.5  # logits that are not trivial


@pytest.mark.parametrize("make", [make_gpt2, make_lora])
def test_gpt2_gradients_are_hugging_faces(make, generator):
    model, ids = make().double(), torch.randint(20, (4, 9), generator=generator)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = []
    for logits in (
        lambda: lm.output_logits(model, lm.hidden_states(model, ids)).view(*ids.shape, -1),
        lambda: model(ids).logits,
    ):
        model.zero_grad()
        logits().log_softmax(-1)[..., 3].sum().backward()
        gradients.append([parameter.grad.clone() for parameter in trained])
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)
    assert all(gradient.any() for gradient in gradients[0])


@torch.no_grad()
def test_gpt2_follows_the_settings_of_its_adapters():
    model, ids = make_lora().double(), torch.tensor([[5, 6, 7, 8]])
    layers = [module for module in model.modules() if hasattr(module, "base_layer")]
    adapted = gpt2.hidden_states(model, ids, torch.arange(ids.numel()))
    for layer in layers:
        layer.enable_adapters(False)
    plain = gpt2.hidden_states(model, ids, torch.arange(ids.numel()))
    torch.testing.assert_close(
        plain, generic.hidden_states(model, ids, torch.arange(ids.numel())), rtol=1e-12, atol=1e-12
    )
    assert (plain - adapted).abs().max() > 0.1
    for layer in layers:
        layer.enable_adapters(True)
        layer.merge()
    torch.testing.assert_close(
        gpt2.hidden_states(model, ids, torch.arange(ids.numel())), adapted, rtol=1e-9, atol=1e-9
    )


def test_backends_serve_the_models_they_are_for():
    assert gpt2.supports(make_gpt2())
    assert gpt2.supports(make_lora())
    assert path_of(make_table()).states is tabular.hidden_states
    assert gpt_neox.supports(make_neox())
    assert gpt_neox.supports(make_neox(use_parallel_residual=False))
    assert path_of(make_llama()).states is llama.hidden_states
    strange = make_neox(hidden_act="relu"), make_neox(attention_dropout=0.1)
    for other in (*strange, MODELS["gpt2, scaled by layer"]()):
        assert path_of(other).states is generic.hidden_states
    both_ways = {"is_causal": False}
    for change in ({"resid_pdrop": 0.1}, {"activation_function": "relu"}):
        assert path_of(make_gpt2(**change)).states is generic.hidden_states
    for model in (make_neox(**both_ways), make_gpt2(**both_ways)):
        with pytest.raises(ConfigError, match="attends to later tokens"):
            path_of(model)


def test_generic_backend_is_the_gpt2_backend():
    model, ids = make_gpt2().double(), torch.tensor([[5, 6, 7, 8]])
    fast, slow = (
        gpt2.hidden_states(model, ids, torch.arange(ids.numel())),
        generic.hidden_states(model, ids, torch.arange(ids.numel())),
    )
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("make", [make_gpt2, make_lora])
@pytest.mark.parametrize("backend", [gpt2, generic], ids=["gpt2", "generic"])
def test_both_decoders_of_a_gpt2_agree_with_its_forward(backend, make):
    check_decoder(make().double(), backend.Decoder, PROMPTS, 1e-12)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "lists", [PROMPTS, [[5, 6], [7, 8]], [[5, 6]]], ids=["ragged", "equal", "single"]
)
def test_decoder_agrees_with_the_full_forward(name, lists):
    if name == "tabular":
        lists = [row[:2] for row in lists]
        check_decoder(make_table(20, longest_prefix=4), lm.make_decoder, lists, 1e-12, tokens=3)
    else:
        check_decoder(MODELS[name]().double(), lm.make_decoder, lists, 1e-10)


@torch.no_grad()
def check_decoder(model, make, lists, tolerance, tokens=6, draws=3):
    """Logits before every token of random responses, against unpadded forward passes."""
    ids, _ = responses(len(lists) * draws, tokens)
    decoder = make(model, prompts(lists), draws, tokens)
    hidden = [decoder.hidden] + [decoder.step(ids[:, step]) for step in range(tokens - 1)]
    ours = torch.stack([lm.output_logits(model, state) for state in hidden], 1)
    for row, response in enumerate(ids.tolist()):
        prompt = lists[row // draws]
        logits = model(input_ids=torch.tensor([[*prompt, *response]])).logits
        expected = logits[0, len(prompt) - 1 : -1]
        torch.testing.assert_close(ours[row], expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_token_log_probs_are_those_of_unpadded_forward_passes(name, temperature):
    lists = [row[:2] for row in PROMPTS] if name == "tabular" else PROMPTS
    tokens = 2 if name == "tabular" else 5
    model = MODELS[name]()
    model = model if name == "tabular" else model.double()
    ids, mask = responses(3, tokens)
    with torch.no_grad():
        ours = lm.token_log_probs(model, prompts(lists), ids, mask, temperature)
    assert torch.equal(ours == 0, ~mask)
    for row, prompt in enumerate(lists):
        response = ids[row][mask[row]].tolist()
        expected = forward_log_probs(model, prompt, [response], temperature)[0]
        assert ours[row].sum().item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_the_content_of_padding_changes_nothing(name):
    lists = [row[:2] for row in PROMPTS] if name == "tabular" else PROMPTS
    model, asked = MODELS[name](), prompts(lists)
    ids, mask = responses(3, 2 if name == "tabular" else 5)
    expected = lm.token_log_probs(model, asked, ids, mask)
    beyond = torch.arange(asked.ids.shape[1]) >= asked.lengths[:, None]
    junk = Prompts(asked.ids.masked_fill(beyond, 19), asked.lengths, asked.prompt_id)
    assert torch.equal(lm.token_log_probs(model, junk, ids.masked_fill(~mask, 17), mask), expected)
    wider = torch.nn.functional.pad(ids, (0, 3), value=18)
    mask = torch.nn.functional.pad(mask, (0, 3))
    wide = lm.token_log_probs(model, asked, wider, mask)
    torch.testing.assert_close(wide[:, :-3], expected, rtol=0, atol=1e-6)
    assert not wide[:, -3:].any()


@pytest.mark.parametrize("seed", range(3))
def test_pack_joins_each_prompt_with_its_response(seed):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 6, (4,), generator=generator).tolist()
    lists = [torch.randint(1, 20, (n,), generator=generator).tolist() for n in lengths]
    ids, _ = responses(4, 5, seed)
    packed, index = lm.pack(prompts(lists), ids)
    for row, prompt in enumerate(lists):
        joined = [*prompt, *ids[row].tolist()]
        assert packed[row, : len(joined)].tolist() == joined
        assert not packed[row, len(joined) :].any()
        assert index[row].tolist() == list(range(len(prompt) - 1, len(joined) - 1))


@torch.no_grad()
def test_response_logits_are_of_the_counted_tokens_row_by_row():
    model, asked = make_gpt2(), prompts()
    ids, mask = responses(3, 5)
    logits, hidden = lm.response_logits(model, asked, ids, mask)
    assert len(logits) == len(hidden) == mask.sum()
    torch.testing.assert_close(lm.output_logits(model, hidden), logits)
    expected = []
    for row, prompt in enumerate(PROMPTS):
        joined = torch.tensor([[*prompt, *ids[row][mask[row]].tolist()]])
        expected.append(model(joined).logits[0, len(prompt) - 1 : -1])
    torch.testing.assert_close(logits, torch.cat(expected), rtol=1e-4, atol=1e-5)


def test_value_head_starts_at_zero_and_can_learn(generator):
    model = make_gpt2()
    head, same, other = (lm.make_value_head(model, seed) for seed in (0, 0, 1))
    hidden = torch.randn(4, 3, 32, generator=generator)
    assert head(hidden).shape == (4, 3)
    assert not head(hidden).any()
    assert torch.equal(head.inner.weight, same.inner.weight)
    assert not torch.equal(head.inner.weight, other.inner.weight)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    target = hidden.mean(-1)
    for _ in range(100):
        optimizer.zero_grad()
        (head(hidden) - target).square().mean().backward()
        optimizer.step()
    assert (head(hidden) - target).square().mean() < 0.05 * target.square().mean()


def test_value_table_has_a_number_for_each_prefix():
    model = make_table(vocab_size=4, longest_prefix=3)
    head = lm.make_value_head(model, seed=0)
    hidden = lm.hidden_states(model, torch.tensor([[1, 2, 3], [1, 2, 0]])).view(2, 3, -1)
    head(hidden).sum().backward()
    touched = head.table.grad[head.table.grad != 0]
    assert sorted(touched.tolist()) == [1, 1, 2, 2]  # two prefixes are shared, two are not


def test_tabular_prefixes_have_rows_of_their_own():
    model = make_table(vocab_size=3, longest_prefix=3)
    prefixes = [
        list(row) for length in (1, 2, 3) for row in itertools.product(range(3), repeat=length)
    ]
    rows = {model.rows(torch.tensor([prefix]))[0, -1].item() for prefix in prefixes}
    assert rows == set(range(1, len(model.table)))  # row 0 is the empty prefix


def test_tabular_model_survives_saving(tmp_path):
    model = make_table()
    model.save_pretrained(tmp_path)
    loaded = lm.load_language_model(tmp_path)
    assert torch.equal(loaded.table, model.table)


def test_tabular_model_refuses_prefixes_beyond_its_table():
    with pytest.raises(ConfigError, match="need prefixes of 6 tokens, the table has 4"):
        lm.make_decoder(make_table(20, longest_prefix=4), prompts([[1, 2]]), 1, 5)


def test_dropout_is_off_in_a_loaded_model(tmp_path):
    rates = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.5)
    model = lm.load_language_model(save_reference(tmp_path, **rates))
    assert gpt2.supports(model)
    assert not model.training
    model.train()  # whatever a trainer does
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(model(ids).logits, model(ids).logits)


def test_a_pointer_leads_to_its_model(tmp_path, reference_folder):
    (tmp_path / POINTER).write_text(json.dumps({"id": str(reference_folder)}))
    assert resolve(tmp_path) == reference_folder
    direct, pointed = (lm.load_language_model(path) for path in (reference_folder, tmp_path))
    assert all(
        torch.equal(*pair) for pair in zip(direct.parameters(), pointed.parameters(), strict=True)
    )
    assert len(lm.load_tokenizer(tmp_path)) == direct.config.vocab_size


def damage_nothing(folder):
    folder.rmdir()


def damage_all(folder):
    """Leaves an empty folder."""


def damage_config(folder):
    save_reference(folder)
    (folder / "config.json").write_text('{"model_type": "gp')


def damage_weights(folder):
    weights = save_reference(folder) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


@pytest.mark.parametrize("damage", [damage_nothing, damage_all, damage_config, damage_weights])
def test_a_model_that_cannot_be_loaded_is_named_in_one_line(tmp_path, damage):
    folder = tmp_path / "model"
    folder.mkdir()
    damage(folder)
    with pytest.raises(ArtifactError, match="no language model could be loaded") as error:
        lm.load_language_model(folder)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)
    if damage in (damage_nothing, damage_all):
        with pytest.raises(ArtifactError, match="no tokenizer could be loaded"):
            lm.load_tokenizer(folder)

"""Training changes the chosen parameters only; all others stay equal bit by bit."""

import copy
import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from support import Language, make_gpt2, make_table, settings, with_seed
from transformers import AutoConfig, AutoModelForCausalLM

from vbon.batches import Prompts
from vbon.errors import ConfigError
from vbon.methods.ppo import PPO
from vbon.models import language_model as lm
from vbon.models.trainable import count_trainable, make_trainable, merged
from vbon.training.online import OnlineTrainer

SIZE = {"vocab_size": 20, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
COMMON = {"num_hidden_layers": 3, "max_position_embeddings": 32, "initializer_range": 0.3}
TOKENS = {"bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 0}
PROMPTS = Prompts.from_lists([[5, 6, 7], [8]], ["a", "b"])
LORA = {"lora_rank": 2, "lora_alpha": 6.0, "seed": 0}
LORA_CHOICE = {"trainable": "lora", **LORA}


def build(name):
    """A model of three blocks, of the same size in each architecture."""
    if name == "gpt2":
        return make_gpt2(layers=3)
    config = AutoConfig.for_model(name, **SIZE, **COMMON, **TOKENS)
    return with_seed(0, lambda: AutoModelForCausalLM.from_config(config)).eval()


# Where each architecture keeps its blocks and the norm that follows them.
PLACES = {
    "gpt2": ("transformer.h", "transformer.ln_f"),
    "gpt_neox": ("gpt_neox.layers", "gpt_neox.final_layer_norm"),
    "llama": ("model.layers", "model.norm"),
}


def weights(model):
    """Copies of all named parameters."""
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def changed(before, after):
    """Names of the parameters that differ in any bit."""
    assert before.keys() == after.keys()
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


def train(policy, steps=4):
    """Some updates of the trainable parameters; weight decay would show on others."""
    optimizer = torch.optim.AdamW(policy.parameters(), lr=0.01, weight_decay=0.1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        ids = torch.randint(20, (8, 6), generator=generator)
        optimizer.zero_grad()
        logits = lm.output_logits(policy, lm.hidden_states(policy, ids)).view(*ids.shape, -1)
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        optimizer.step()
    return policy


def log_probs(model):
    """Token log-probs of two fixed responses."""
    ids = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 2]])
    with torch.no_grad():
        return lm.token_log_probs(model, PROMPTS, ids, torch.ones_like(ids, dtype=torch.bool))


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_top_k_trains_the_last_blocks_and_the_final_norm_only(name, top_k):
    policy = build(name)
    before = weights(policy)
    assert make_trainable(policy, "top_k", top_k=top_k) is policy
    blocks, norm = PLACES[name]
    places = (norm + ".", *(f"{blocks}.{index}." for index in range(3 - top_k, 3)))
    promised = {key for key in before if key.startswith(places)}
    assert changed(before, weights(train(policy))) == promised
    assert count_trainable(policy) == sum(before[key].numel() for key in promised)
    assert all((p.grad is None) == (key not in promised) for key, p in policy.named_parameters())


def test_all_trains_every_parameter():
    policy = make_trainable(build("gpt2").requires_grad_(False), "all")
    before = weights(policy)
    assert changed(before, weights(train(policy))) == before.keys()
    assert count_trainable(policy) == policy.num_parameters()  # the tied output layer counts once


def test_no_gradient_work_is_spent_on_frozen_blocks():
    ids, products = torch.tensor([[5, 6, 7, 8]]), []
    for top_k in (1, 2, 3):
        policy = make_trainable(build("gpt2"), "top_k", top_k=top_k)
        nodes, found = [lm.hidden_states(policy, ids).grad_fn], set()
        while nodes:
            node = nodes.pop()
            if node is not None and node not in found:
                found.add(node)
                nodes += [parent for parent, _ in node.next_functions]
        products.append(sum("Addmm" in node.name() for node in found))
    assert products == [4, 8, 12]  # the four linear layers of each trained block


@pytest.mark.parametrize("name", PLACES)
def test_lora_changes_the_blocks_linear_layers_by_its_rank(name):
    reference = build(name).double()
    before = weights(reference)
    policy = make_trainable(copy.deepcopy(reference), "lora", **LORA)
    frozen = {key: p for key, p in policy.named_parameters() if not p.requires_grad}
    start = {key: p.detach().clone() for key, p in frozen.items()}
    expected = log_probs(train(policy))
    assert all(torch.equal(value, start[key]) for key, value in frozen.items())
    assert all(p.grad is None for p in frozen.values())
    plain = merged(policy)
    after = weights(plain)
    blocks, _ = PLACES[name]
    matrices = {key for key, p in before.items() if key.startswith(blocks) and p.ndim == 2}
    assert changed(before, after) == matrices
    added = [torch.linalg.svdvals(after[key] - before[key]) for key in matrices]
    assert all(values[2] < 1e-9 * values[0] for values in added)
    sizes = sum(sum(before[key].shape) * LORA["lora_rank"] for key in matrices)
    assert count_trainable(policy) == sizes
    torch.testing.assert_close(log_probs(plain), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("choice", [LORA_CHOICE, {"trainable": "top_k", "top_k": 1}], ids=str)
def test_the_merged_policy_is_saved_as_the_reference_is(name, choice, tmp_path):
    reference = build(name)
    reference.save_pretrained(tmp_path / "reference")
    policy = train(make_trainable(copy.deepcopy(reference), **choice))
    merged(policy).save_pretrained(tmp_path / "policy")
    files = [
        {path.name: path for path in (tmp_path / folder).iterdir()}
        for folder in ("reference", "policy")
    ]
    assert files[0].keys() == files[1].keys()
    configs = [json.loads(each["config.json"].read_text()) for each in files]
    assert configs[0] == configs[1]
    stored = [load_file(each["model.safetensors"]) for each in files]
    forms = [{key: (t.shape, t.dtype) for key, t in each.items()} for each in stored]
    assert forms[0] == forms[1]
    loaded = lm.load_language_model(tmp_path / "policy")
    assert type(loaded) is type(reference)
    torch.testing.assert_close(log_probs(loaded), log_probs(policy), rtol=0, atol=1e-5)
    assert (log_probs(loaded) - log_probs(reference)).abs().max() > 0.01  # it has learnt something


def test_the_policy_can_be_trained_after_merging():
    policy = train(make_trainable(build("gpt2"), "lora", **LORA))
    before, expected = weights(policy), log_probs(policy)
    plain = merged(policy)
    assert not hasattr(plain, "peft_config")
    assert not changed(before, weights(policy))
    assert torch.equal(log_probs(policy), expected)
    assert changed(before, weights(train(policy)))
    assert merged(plain) is plain


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize(
    "choice",
    [{}, {"trainable": "top_k", "top_k": 2}, LORA_CHOICE],
    ids=["all", "top_k", "lora"],
)
def test_training_starts_at_the_reference(name, choice):
    reference = build(name)
    policy = make_trainable(copy.deepcopy(reference), **choice)
    assert type(policy) is type(reference)
    assert not any(module.training for module in policy.modules())
    assert torch.equal(log_probs(policy), log_probs(reference))


def test_lora_starts_from_its_seed_alone():
    def start(seed):
        policy = make_trainable(build("gpt2"), "lora", **{**LORA, "seed": seed})
        return torch.cat([p.flatten() for p in policy.parameters() if p.requires_grad])

    state = torch.get_rng_state()
    first = start(0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert torch.equal(start(0), first)
    assert not torch.equal(start(1), first)


@pytest.mark.parametrize("choice", [{"trainable": "top_k", "top_k": 1}, LORA_CHOICE], ids=str)
def test_the_online_loop_keeps_what_is_frozen(choice):
    reference = make_gpt2(vocab_size=4, eos_token_id=3, bos_token_id=3).requires_grad_(False)
    environment = Language().environment(reference=reference, cdf=None)
    before = weights(reference)
    policy = make_trainable(copy.deepcopy(reference), **choice)
    loop = settings(learning_rate=0.01, weight_decay=0.1)
    rows = list(OnlineTrainer(policy, PPO(kl_coef=0.1), environment, loop, seed=0))
    assert rows[-1]["kl"] > 0
    if choice is LORA_CHOICE:
        promised = {key for key, p in before.items() if ".h." in key and p.ndim == 2}
    else:
        promised = {key for key in before if key.startswith(("transformer.h.1", "transformer.ln"))}
    assert changed(before, weights(merged(policy))) == promised
    assert not changed(before, weights(reference))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"trainable": "top_k", "top_k": 0}, "top_k is 0; the model has 3 blocks"),
        ({"trainable": "top_k", "top_k": 4}, "top_k is 4; the model has 3 blocks"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_one_line(choice, message):
    with pytest.raises(ConfigError, match=message) as error:
        make_trainable(build("gpt2"), **choice)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("trainable", ["top_k", "lora"])
def test_a_tabular_model_is_trained_whole_or_not_at_all(trainable):
    table = make_table()
    with pytest.raises(ConfigError, match=f"trainable is '{trainable}', which needs blocks"):
        make_trainable(table, trainable, top_k=1, **LORA)
    assert count_trainable(make_trainable(table)) == table.table.numel()


def test_a_model_without_its_blocks_is_refused():
    policy = build("gpt2")
    policy.config.n_layer = 5
    with pytest.raises(ConfigError, match="GPT2LMHeadModel has no list of its 5 blocks"):
        make_trainable(policy, "top_k", top_k=1)

"""How an update is computed changes what it costs, and no update."""

import pytest
import torch
from support import make_gpt2, offline_settings, settings
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

from vbon.errors import ConfigError
from vbon.methods.registry import get_method
from vbon.models.language_model import hidden_states
from vbon.models.trainable import make_trainable
from vbon.training.anchored import make_online_trainer
from vbon.training.compute import Compute
from vbon.training.offline import OfflineTrainer

ONLINE = {"ppo": {"kl_coef": 0.5}, "rloo": {"kl_coef": 0.5}, "bond": {"updates": 2}}
OFFLINE = {"dpo": {"kl_coef": 0.5}, "bonbon": {"n": 3}, "bon_sft": {"n": 3}}
WHITEN = ("batch", "minibatch")


def policy_of(seed=0):
    return make_gpt2(seed, vocab_size=4, layers=2, eos_token_id=3)


def trained_online(language, name, compute, trainable="all", **changes):
    """A policy after two iterations, which has the language's vocabulary."""
    policy = make_trainable(policy_of(), trainable, lora_rank=2, lora_alpha=4, seed=0)
    reference = policy_of().requires_grad_(False)
    environment = language.environment(reference=reference)
    chosen = settings(iterations=2, rollouts=16, draws_per_prompt=8, minibatch=16, **changes)
    method = get_method(name)(**ONLINE[name])
    rows = list(make_online_trainer(policy, method, environment, chosen, 0, compute))
    assert not policy.training
    return policy, rows


def trained_offline(language, name, compute):
    method = get_method(name)(**OFFLINE[name])
    chosen = offline_settings(batch_size=8, monitors=1, learning_rate=0.01)
    policy, examples = policy_of(), language.examples(method.pairing)
    environment = language.environment(reference=policy_of().requires_grad_(False))
    rows = list(OfflineTrainer(policy, method, environment, examples, chosen, 0, compute))
    return policy, rows


def assert_close(first, second, tolerance):
    """Compare what policies say: AdamW makes steps of rounding where a gradient is exactly 0."""
    ids = torch.tensor([[0, 1, 2, 0], [1, 2, 2, 1]])
    with torch.no_grad():
        ours, theirs = (model(input_ids=ids).logits.log_softmax(-1) for model in (first, second))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        *((name, {"whiten": whiten}) for name in sorted(ONLINE) for whiten in WHITEN),
        ("ppo", {"value_model": "separate"}),
    ],
)
def test_gradients_that_are_added_up_give_the_same_online_trajectory(language, name, changes):
    changes = {} if name == "bond" else changes | {"epochs": 2}
    changes["learning_rate"] = 0.001
    whole, rows = trained_online(language, name, Compute(), **changes)
    parts, rows_of_parts = trained_online(language, name, Compute(rows_per_pass=3), **changes)
    assert_close(whole, parts, 2e-4)
    for ours, theirs in zip(rows, rows_of_parts, strict=True):
        for column in ("policy_loss", "value_loss", "grad_norm", "clip_fraction"):
            assert ours[column] == pytest.approx(theirs[column], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("name", sorted(OFFLINE))
def test_gradients_that_are_added_up_give_the_same_offline_trajectory(language, name):
    whole, rows = trained_offline(language, name, Compute())
    parts, rows_of_parts = trained_offline(language, name, Compute(rows_per_pass=3))
    assert_close(whole, parts, 2e-4)
    assert rows[-1]["objective"] == pytest.approx(rows_of_parts[-1]["objective"], rel=1e-4)


@pytest.mark.parametrize(
    ("trainable", "value_model"), [("all", "shared"), ("lora", "shared"), ("all", "separate")]
)
def test_blocks_computed_again_give_the_same_bits(language, trainable, value_model):
    chosen = {"trainable": trainable, "value_model": value_model}
    kept, _ = trained_online(language, "ppo", Compute(), **chosen)
    again, _ = trained_online(language, "ppo", Compute(activation_checkpointing=True), **chosen)
    assert all(
        torch.equal(*pair) for pair in zip(kept.parameters(), again.parameters(), strict=True)
    )


def neox():
    sizes = {"vocab_size": 20, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3}
    return GPTNeoXForCausalLM(GPTNeoXConfig(**sizes, num_attention_heads=2))


def llama():
    sizes = {"vocab_size": 20, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2))


@pytest.mark.parametrize("make", [lambda: make_gpt2(layers=3), neox, llama])
def test_less_is_kept_for_the_gradient(make):
    model, ids = make().eval(), torch.randint(20, (4, 16))

    def kept(compute):
        stored = []
        compute.start(model)
        hooks = (lambda x: stored.append(x.numel()) or x), (lambda x: x)
        with compute.update(model), torch.autograd.graph.saved_tensors_hooks(*hooks):
            hidden_states(model, ids)
        return sum(stored)

    whole = kept(Compute())
    assert 2 * kept(Compute(activation_checkpointing=True)) < whole


@pytest.mark.parametrize("trainable", ["all", "lora"])
def test_half_precision_is_close_and_keeps_weights_in_single(language, trainable):
    _, rows = trained_online(language, "ppo", Compute(), trainable, learning_rate=0.001)
    half, rows_of_half = trained_online(
        language, "ppo", Compute(precision="bf16"), trainable, learning_rate=0.001
    )
    assert all(part.dtype == torch.float32 for part in half.parameters())
    assert rows_of_half[0]["kl"] == pytest.approx(0, abs=1e-6)  # the reference rounds alike
    assert rows_of_half[0]["policy_loss"] == pytest.approx(rows[0]["policy_loss"], abs=0.1)
    for column in ("reward", "response_length"):  # of responses that rounding hardly changes
        assert rows_of_half[-1][column] == pytest.approx(rows[-1][column], abs=0.3)


def test_a_table_has_no_blocks(language):
    with pytest.raises(ConfigError, match="activation_checkpointing: true is not"):
        Compute(activation_checkpointing=True).start(language.policy())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_what_a_processor_gives(language):
    """Models move by themselves; sampled tokens are the same, up to ties of rounding."""
    processor, rows = trained_online(language, "ppo", Compute(), learning_rate=0.001)
    policy = policy_of().cuda()
    environment = language.environment(reference=policy_of().cuda().requires_grad_(False))
    chosen = settings(
        iterations=2, rollouts=16, draws_per_prompt=8, minibatch=16, learning_rate=0.001
    )
    method = get_method("ppo")(**ONLINE["ppo"])
    on_gpu = list(make_online_trainer(policy, method, environment, chosen, 0))
    assert on_gpu[0]["reward"] == pytest.approx(rows[0]["reward"], abs=1e-3)
    assert_close(processor, policy.cpu(), 1e-3)

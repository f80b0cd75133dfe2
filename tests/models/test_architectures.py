"""Many architectures: sampling and training give log-probs of their own forward, or refuse."""

import copy
import importlib.util
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from support import forward_log_probs, offline_settings, settings, tokenizer
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BertConfig,
    CohereConfig,
    Gemma2Config,
    GraniteConfig,
    Mamba2Config,
    MambaConfig,
    MistralConfig,
    MptConfig,
    RobertaConfig,
)

from vbon.batches import Prompts
from vbon.errors import ConfigError
from vbon.methods.bon_sft import BoNSFT
from vbon.methods.ppo import PPO
from vbon.models import paths
from vbon.models.language_model import load_language_model, token_log_probs
from vbon.models.paths import path_of
from vbon.models.trainable import make_trainable, merged
from vbon.pool.draw import draw
from vbon.sampling import sample
from vbon.training.offline import Examples, OfflineTrainer
from vbon.training.online import OnlineTrainer
from vbon.training.trainer import Environment

FILE = Path(__file__).parents[2] / "docs/architectures.py"
SPEC = importlib.util.spec_from_file_location("architectures", FILE)
architectures = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(architectures)
PAGE = architectures.PAGE
REFUSED = {"bert", "camembert", "electra", "roberta", "xlm", "xlm-roberta"}
PROMPTS = Prompts.from_lists([[5, 6, 7], [8], [9, 10, 11, 12, 13, 14]], ["a", "b", "c"])
EOS, TOKENS = 2, 5


def check(model, prompts=PROMPTS, temperature=0.7):
    """Log-probs of sampling and of training are those of the model's forward, one at a time."""
    rollouts = sample(
        model, prompts, draws=2, max_new_tokens=TOKENS, eos_token_id=EOS, seed=0,
        temperature=temperature,
    )  # fmt: skip
    index, responses = rollouts.prompt_index, rollouts.response_lists()
    lists = prompts.id_lists()
    truth = torch.cat(
        [
            forward_log_probs(model, lists[row], [response], temperature)
            for row, response in zip(index.tolist(), responses, strict=True)
        ]
    )
    ids, mask = rollouts.response_ids, rollouts.response_mask
    with torch.no_grad():
        trained = token_log_probs(model, prompts.select(index), ids, mask, temperature)
    torch.testing.assert_close(rollouts.log_prob, truth, rtol=0, atol=1e-4)
    torch.testing.assert_close(trained.double().sum(1), truth, rtol=0, atol=1e-4)


def listed():
    """Outcome of each architecture according to the page."""
    rows = {}
    for part in PAGE.read_text().split("\n## ")[1:]:
        title = part.partition(":")[0]
        path = next(path for path, (text, _) in architectures._PATHS.items() if text == title)
        for name, reason in re.findall(r"`([^`]+)`(?: \((.*?)\)(?=[,.]))?", part.split("\n\n")[2]):
            rows[name] = path, reason
    return rows


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_an_architecture_is_right_or_refused_as_the_page_says(name):
    model = architectures.make(name)
    if name in REFUSED:
        with pytest.raises(ConfigError, match=rf"{type(model).__name__} is refused") as caught:
            path_of(model)
        assert "\n" not in str(caught.value)
    else:
        check(model)
    assert listed()[name] == architectures.outcome(model)


def test_the_page_is_written_by_its_command():
    rows = listed()
    assert rows.keys() == architectures.ARCHITECTURES.keys()
    assert len(rows) - len(REFUSED) >= 40
    assert PAGE.read_text() == architectures.page(rows)


SIZES = {
    **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "initializer_range": 0.3, "eos_token_id": EOS},
}
GROUPED = {**SIZES, "num_key_value_heads": 2, "max_position_embeddings": 64}
DEEP = {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "initializer_range": 0.3}
REPORTED = {
    "cohere": lambda size: CohereConfig(**GROUPED, vocab_size=size, logit_scale=0.0625),
    "granite": lambda size: GraniteConfig(**GROUPED, vocab_size=size, logits_scaling=8.0),
    "gemma2": lambda size: Gemma2Config(
        **GROUPED, vocab_size=size, head_dim=8, final_logit_softcapping=2.0
    ),
    "mistral": lambda size: MistralConfig(**GROUPED, vocab_size=size, sliding_window=4),
    "mpt": lambda size: MptConfig(vocab_size=size, d_model=32, n_layers=2, n_heads=4),
    "mamba": lambda size: MambaConfig(**DEEP, vocab_size=size),
    "mamba2": lambda size: Mamba2Config(
        **DEEP, vocab_size=size, num_heads=8, head_dim=8, n_groups=2
    ),
}
ATTEND_BOTH_WAYS = {
    "bert": lambda size: BertConfig(**SIZES, vocab_size=size),
    "roberta": lambda size: RobertaConfig(**SIZES, vocab_size=size),
}


def saved(make, folder):
    """Folder of a random model of a configuration, with a tokenizer."""
    words = tokenizer()
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(make(len(words))).save_pretrained(folder)
    words.save_pretrained(folder)
    return str(folder)


def drawn(folder, draws=3):
    """The model of a folder, and rows of schema "samples" for prompts of 3, 1 and 5 tokens."""
    lists = [[5, 6, 7], [8], [9, 10, 11, 12, 13]]
    table = pd.DataFrame({"prompt_id": list("abc"), "prompt_ids": lists})
    drawing = {"backend": "native", "max_new_tokens": 6, "prompts_per_batch": 3}
    [(_, rows, _)] = draw(table, folder, {**drawing, "temperatures": [1.0]}, draws, seed=0)
    return load_language_model(folder), table.set_index("prompt_id")["prompt_ids"], rows


@pytest.mark.parametrize("name", REPORTED)
def test_draws_of_the_pool_have_the_log_probs_of_the_model(name, tmp_path, capsys):
    model, prompts, rows = drawn(saved(REPORTED[name], tmp_path))
    for row in rows.itertuples():
        truth = forward_log_probs(model, prompts[row.prompt_id], [list(row.response_ids)])
        assert row.log_prob == pytest.approx(truth.item(), abs=1e-4)
    assert f"log-probs by path {path_of(model).name!r}" in capsys.readouterr().out


@pytest.mark.parametrize("name", ATTEND_BOTH_WAYS)
def test_a_model_that_attends_both_ways_is_refused(name, tmp_path):
    folder = saved(ATTEND_BOTH_WAYS[name], tmp_path)
    with pytest.raises(ConfigError, match="is refused, since it attends to later tokens"):
        drawn(folder)


def test_a_window_beyond_short_sequences_goes_by_length():
    config = MistralConfig(**{**GROUPED, "max_position_embeddings": 4096}, vocab_size=67)
    config.sliding_window = 1024
    model = AutoModelForCausalLM.from_config(config).eval()
    assert path_of(model).name == "by length"


@pytest.mark.parametrize(
    ("changes", "window"),
    [
        ({"sliding_window": 4}, 4),
        ({"sliding_window": None}, None),
        ({"sliding_window": 64}, None),  # as many positions as the model has
        ({"sliding_window": 4, "use_sliding_window": False}, None),
        ({"sliding_window": 4, "layer_types": ["full_attention"] * 2}, None),
        ({"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}, 4),
    ],
)
def test_windows_that_are_active(changes, window):
    config = MistralConfig(**GROUPED, vocab_size=67)
    for key, value in changes.items():
        setattr(config, key, value)
    assert paths.window_of(config) == window


def test_a_cap_is_applied_though_an_untrained_model_does_not_reach_it():
    """The logits of an untrained model are far below the cap; those of a trained one are not."""
    config = Gemma2Config(**GROUPED, vocab_size=67, head_dim=8, final_logit_softcapping=30.0)
    config.initializer_range = 1e-4
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    path_of(model)
    with torch.no_grad():
        model.get_output_embeddings().weight.normal_(0, 5)
    check(model)


def test_measurement_leaves_the_model_and_the_global_generator_as_they_were():
    model = architectures.make("gemma2").train()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    path_of(model)
    assert model.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert "forward" not in vars(model.base_model)


def test_a_path_is_measured_once_per_configuration(monkeypatch):
    first, second = architectures.make("glm"), architectures.make("glm")
    path = path_of(first)
    monkeypatch.setattr(paths, "_choose", lambda model: pytest.fail("measured again"))
    assert path_of(second) is path
    assert path_of(copy.deepcopy(first)).name == path.name


def test_a_forward_that_fails_is_refused_in_one_line():
    model = architectures.make("olmo")
    model.config.vocab_size = 66  # another configuration than any measured before
    model.model.layers[0].mlp.up_proj = torch.nn.Linear(7, 64)
    with pytest.raises(ConfigError, match=r"its forward pass fails \(RuntimeError: ") as caught:
        path_of(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["gemma2", "mamba", "mistral, window", "opt"])
@pytest.mark.parametrize("loop", ["online", "offline"])
def test_training_by_any_path_gives_a_policy_whose_log_probs_are_its_own(name, loop, tmp_path):
    reference = architectures.make(name).requires_grad_(False)
    score = lambda prompts, rollouts: (rollouts.response_ids >= 30).double().sum(1)  # noqa: E731
    environment = Environment(PROMPTS, reference, score, None, EOS, TOKENS, 1.0)
    policy = make_trainable(copy.deepcopy(reference))
    if loop == "online":
        options = settings(iterations=2, rollouts=12, draws_per_prompt=4, minibatch=6)
        list(OnlineTrainer(policy, PPO(kl_coef=0.1), environment, options, 0))
    else:
        rng = np.random.default_rng(0)
        rows = [(name, k) for name in "abc" for k in range(4)]
        table = pd.DataFrame(rows, columns=["prompt_id", "draw"]).assign(log_prob=-5.0)
        table["response_ids"] = [rng.integers(3, 67, 4).tolist() for _ in rows]
        pairs = pd.DataFrame({"prompt_id": list("abc"), "chosen": 1, "rejected": 2, "pair": 0})
        examples = Examples.from_tables(pairs, table, PROMPTS)
        options = offline_settings(batch_size=3)
        OfflineTrainer(policy, BoNSFT(n=3), environment, examples, options, 0).train()
    moved = [
        not torch.equal(a, b)
        for a, b in zip(policy.parameters(), reference.parameters(), strict=True)
    ]
    assert sum(moved) > len(moved) / 2
    policy.save_pretrained(tmp_path)
    check(load_language_model(tmp_path), temperature=1.0)


@pytest.mark.parametrize(
    ("name", "trainable"),
    [
        ("gemma2", "top_k"),
        ("gemma2", "lora"),
        ("jamba", "lora"),  # reads the weights of dt_proj without calling it
        ("llama4_text", "lora"),  # has routers that are linear layers and return more
        ("phimoe", "lora"),
        ("recurrent_gemma", "lora"),  # keeps states with their graph
    ],
)
def test_parts_of_a_slow_model_can_be_trained(name, trainable):
    reference = architectures.make(name)
    policy = make_trainable(copy.deepcopy(reference), trainable, top_k=1, lora_rank=2)
    prompts, ids = PROMPTS.select(torch.tensor([0, 1])), torch.tensor([[20, 21], [22, 23]])
    log_probs = token_log_probs(policy, prompts, ids, ids > 0)
    torch.testing.assert_close(log_probs, token_log_probs(reference, prompts, ids, ids > 0))
    log_probs.sum().backward()
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None
                parameter += 0.05 * parameter.grad.sign()
    check(merged(policy))


def causal(kind, **changes):
    """A random model of a type with the common sizes."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**architectures._SIZES, **changes})
    return AutoModelForCausalLM.from_config(config).eval()


LONG = {"max_position_embeddings": 512, "num_key_value_heads": 2, "head_dim": 8}


@pytest.mark.parametrize(
    "make",
    [
        lambda: causal("mistral", **LONG, sliding_window=80),
        lambda: causal("gemma2", **LONG, sliding_window=80),
        lambda: causal("glm", **LONG, sliding_window=80),  # stated, and not used
        lambda: causal("gpt_neo", **architectures.ARCHITECTURES["gpt_neo"]
                       | {"window_size": 80, "max_position_embeddings": 512}),
    ],
    ids=["mistral", "gemma2", "glm", "gpt_neo"],
)  # fmt: skip
def test_long_windows_are_right_beyond_their_length(make):
    generator = torch.Generator().manual_seed(0)
    lists = [torch.randint(67, (n,), generator=generator).tolist() for n in (90, 3, 78)]
    check(make(), Prompts.from_lists(lists, list("abc")), temperature=1.0)


def test_chunks_of_attention_end_where_the_text_does():
    """Reformer pads long texts to whole chunks."""
    longer = {"max_position_embeddings": 256}
    prompts = Prompts.from_lists([list(range(3, 67)) + [5] * 8, [8]], ["a", "b"])
    check(causal("reformer", **architectures.ARCHITECTURES["reformer"] | longer), prompts)


@pytest.mark.parametrize("positions", [2, 3, 6])
def test_contexts_of_a_few_tokens_are_no_fault(positions):
    assert path_of(causal("gpt2", max_position_embeddings=positions)).name == "fast"


def test_weights_that_are_not_numbers_are_refused():
    model = causal("llama", rms_norm_eps=1e-4)
    with torch.no_grad():
        model.model.norm.weight[0] = torch.nan
    with pytest.raises(ConfigError, match="LlamaForCausalLM is refused, since its log-probs are N"):
        path_of(model)


def test_a_forward_with_random_parts_is_refused():
    model = causal("llama", rms_norm_eps=2e-4)
    model.lm_head.register_forward_hook(lambda _, __, out: out + torch.rand_like(out))
    with pytest.raises(ConfigError, match="gives other log-probs each time"):
        path_of(model)


@pytest.mark.parametrize("name", ["gemma2", "mixtral", "opt", "bloom", "gpt_bigcode"])
def test_a_loaded_model_is_the_same_in_training(name, tmp_path):
    """Modules copy rates of dropout from the configuration when they are made."""
    rates = {"dropout": 0.5, "attention_dropout": 0.5, "hidden_dropout": 0.5, "layerdrop": 0.5}
    rates |= {"attn_pdrop": 0.5, "resid_pdrop": 0.5, "router_jitter_noise": 0.5}
    kind = name.partition(",")[0]
    causal(kind, **{**architectures.ARCHITECTURES[name], **rates}).save_pretrained(tmp_path)
    model, ids = load_language_model(tmp_path), torch.tensor([[5, 6, 7, 8]])
    before = model(ids).logits
    torch.testing.assert_close(model.train()(ids).logits, before)


def test_low_rank_updates_that_the_library_cannot_make_are_one_line():
    with pytest.raises(ConfigError, match="'lora' is not possible for MambaForCausalLM"):
        make_trainable(architectures.make("mamba"), "lora")

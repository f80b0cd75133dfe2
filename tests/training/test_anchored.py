"""The loop with an anchor: exact targets, the expected gradient, and how the anchor follows."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from support import Language, make_gpt2, settings, until_converged

from vbon.batches import Prompts, Scored
from vbon.errors import ConfigError
from vbon.methods.bond import Bond
from vbon.methods.vbon import VBoN
from vbon.models.language_model import token_log_probs
from vbon.models.trainable import make_trainable, merged
from vbon.objectives import oracle
from vbon.training.anchored import AnchoredTrainer, make_online_trainer
from vbon.training.online import OnlineTrainer
from vbon.training.trainer import Environment


def scored_against(reward, anchor_rewards):
    reward = torch.as_tensor(reward, dtype=torch.float64)
    return Scored(reward, reward, reward, reward, torch.as_tensor(anchor_rewards).double())


def mass_above(rewards, log_ref):
    """Reference mass of higher rewards, of every string."""
    return np.array([np.exp(log_ref)[rewards > reward].sum() for reward in rewards])


def jeffreys_loss(log_policy, log_anchor, best, reward, beta, gamma):
    """What the method minimises over strings, its anchor held fixed."""
    policy = log_policy.exp()
    forward = -(best * log_policy).sum()
    price = (policy * (log_policy - log_anchor)).sum()
    return (1 - beta) * forward - beta * (policy * reward).sum() + (beta + gamma) * price


def held_anchor_optimum(log_ref, rewards, beta, gamma):
    """Minimiser of :func:`jeffreys_loss` with the reference as anchor, by descent on logits."""
    best = torch.from_numpy(np.exp(oracle.optimum("best_of_n", log_ref, rewards, n=2)))
    reward = torch.from_numpy(-math.log(16) * mass_above(rewards, log_ref) ** 2)
    anchor = torch.from_numpy(log_ref)
    logits = anchor.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([logits], max_iter=500, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = jeffreys_loss(logits.log_softmax(0), anchor, best, reward, beta, gamma)
        loss.backward()
        return loss

    optimizer.step(closure)
    return logits.detach().log_softmax(0).numpy()


def train_against_reference(language, beta, gamma=0.0):
    """Log-probs of a policy whose anchor stays at the reference, [prompts, strings]."""
    method = Bond(updates=60, anchor_rate=0, backward_weight=beta, regularisation=gamma)
    policy, _ = language.train(method, until_converged())
    return language.log_probs(policy).numpy()


def problems(language):
    return list(zip(language.log_ref.numpy(), language.rewards, strict=True))


@pytest.mark.parametrize("levels", [None, 1.0], ids=["distinct", "tied"])
def test_the_expected_reward_is_the_squared_mass_above(levels):
    """Over every pair of draws; a response that ties with the worse of them pays nothing."""
    language = Language(levels=levels)
    for log_ref, rewards in problems(language):
        p = np.exp(log_ref)
        strings = range(len(p))
        pairs = np.array(list(itertools.product(strings, strings)))
        weights = p[pairs].prod(1)
        for string in strings:
            held = scored_against(np.full(len(pairs), rewards[string]), rewards[pairs])
            mean = weights @ Bond(updates=1, backward_weight=0.25).reward(held).numpy()
            above = mass_above(rewards, log_ref)[string]
            assert mean == pytest.approx(-0.25 * math.log(16) * above**2, abs=1e-6)


def test_the_reward_is_calibrated_at_the_median_and_pays_two_thirds_nothing():
    """-log 16 / 4 = log(1/2); a third of an anchor's own draws are below two others."""
    rewards = np.arange(101.0)
    pairs = np.array(list(itertools.product(rewards, rewards)))
    reward = Bond(updates=1, backward_weight=1.0).reward
    means = [reward(scored_against(np.full(len(pairs), r), pairs)).mean().item() for r in rewards]
    assert means[50] == pytest.approx(math.log(0.5), rel=0.03)
    assert np.mean(means) / -math.log(16) == pytest.approx(1 / 3, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("levels", [None, 1.0], ids=["distinct", "tied"])
def test_imitation_alone_reaches_best_of_two(levels):
    language = Language(levels=levels)
    trained = train_against_reference(language, beta=0)
    for ours, problem in zip(trained, problems(language), strict=True):
        best = oracle.optimum("best_of_n", *problem, n=2)
        assert oracle.total_variation(problem[0], best) > 0.2
        assert oracle.total_variation(ours, best) < 0.05


@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_the_reward_alone_reaches_its_tilted_reference(gamma):
    language = Language()
    trained = train_against_reference(language, 1.0, gamma)
    for ours, (log_ref, rewards) in zip(trained, problems(language), strict=True):
        tilted = log_ref - math.log(16) * mass_above(rewards, log_ref) ** 2 / (1 + gamma)
        best = tilted - logsumexp(tilted)
        assert oracle.total_variation(log_ref, best) > 0.1
        assert oracle.total_variation(ours, best) < 0.05


@pytest.mark.slow
def test_regularisation_keeps_the_policy_near_the_anchor():
    """The opposite sign, as the paper's algorithm prints it, would raise the KL instead."""
    language = Language()
    found = []
    for gamma in (0.0, 1.0):
        trained = train_against_reference(language, 0.5, gamma)
        for ours, problem in zip(trained, problems(language), strict=True):
            best = held_anchor_optimum(*problem, 0.5, gamma)
            assert oracle.total_variation(ours, best) < 0.05
            assert oracle.kl(ours, problem[0]) == pytest.approx(
                oracle.kl(best, problem[0]), rel=0.3
            )
            found.append(oracle.kl(ours, problem[0]))
    for prompt in range(2):
        plain, held = found[prompt::2]
        assert plain > 2 * held


def moved_trainer(method, **changes):
    """A trainer whose policy has left the anchor."""
    language = Language()
    chosen = settings(rollouts=512, draws_per_prompt=256, lam=1.0, **changes)
    trainer = make_online_trainer(language.policy(), method, language.environment(), chosen, 0)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        table = trainer.policy.table
        table += 0.7 * torch.randn(table.shape, generator=generator)
    return language, trainer


def exact_gradient(language, trainer, beta, gamma):
    """Gradient of the loss, a mean over prompts of sums over all strings."""
    strings = [torch.tensor(response) for response in language.responses]
    ids = torch.nn.utils.rnn.pad_sequence(strings, batch_first=True)
    mask = torch.arange(ids.shape[1]) < torch.tensor([len(row) for row in strings])[:, None]
    total = 0.0
    for prompt, (log_ref, rewards) in enumerate(problems(language)):
        asked = language.prompts.select(torch.full((len(ids),), prompt))
        log_policy = token_log_probs(trainer.policy, asked, ids, mask).double().sum(1)
        best = torch.from_numpy(np.exp(oracle.optimum("best_of_n", log_ref, rewards, n=2)))
        reward = torch.from_numpy(-math.log(16) * mass_above(rewards, log_ref) ** 2)
        anchor = torch.from_numpy(log_ref)
        total = total + jeffreys_loss(log_policy, anchor, best, reward, beta, gamma) / 2
    return torch.autograd.grad(total, trainer.policy.table)[0].double()


@pytest.mark.slow
@pytest.mark.parametrize(("beta", "gamma"), [(0.3, 0.0), (0.5, 0.7)])
def test_the_expected_gradient_is_that_of_the_loss(beta, gamma):
    """Mean of 60 batches; squared standard errors have mean 1 only with both right weights."""
    method = Bond(updates=60, backward_weight=beta, regularisation=gamma)
    language, trainer = moved_trainer(method)
    found = []
    for step in range(60):
        batch, _ = trainer._collect(step)
        loss = trainer._losses(batch, torch.arange(512), batch.advantages)[0]
        tokens = batch.rollouts.response_mask.sum() / 512
        found.append(torch.autograd.grad(loss * tokens, trainer.policy.table)[0].double())
    found = torch.stack(found)
    reached = (found != 0).sum(0) > 20
    mean, error = found.mean(0)[reached], found.std(0)[reached] / math.sqrt(len(found))

    def misfit(beta, gamma):
        expected = exact_gradient(language, trainer, beta, gamma)[reached]
        return (((mean - expected) / error) ** 2).mean().item()

    assert reached.sum() > 100
    assert misfit(beta, gamma) < 1.5
    assert misfit(beta + 0.2, gamma) > 3
    assert misfit(beta, gamma + 0.2) > 3


def test_each_response_has_its_own_draws_of_the_anchor_and_the_best_is_imitated():
    language, trainer = moved_trainer(Bond(updates=1))
    seen = []
    look_up = trainer._advantages
    trainer._advantages = lambda *parts: seen.append(parts) or look_up(*parts)
    batch, _ = trainer._collect(0)
    prompts, rollouts, scored, _, log_probs_ref, log_probs_anchor = seen[0]
    assert scored.anchor_rewards.shape == (512, 2)
    assert torch.equal(scored.reward, language.score(prompts, rollouts))
    assert torch.equal(scored.anchor_rewards.amax(1), language.score(prompts, batch.best))
    assert torch.equal(log_probs_ref, log_probs_anchor)  # before the first update


def test_of_equal_draws_of_the_anchor_the_first_is_taken(monkeypatch):
    drawn = []
    sample = Environment.sample

    def recorded(self, *parts):
        drawn.append(sample(self, *parts))
        return drawn[-1]

    monkeypatch.setattr(Environment, "sample", recorded)
    _, trainer = moved_trainer(Bond(updates=1))
    trainer.environment = dataclasses.replace(
        trainer.environment,
        score=lambda prompts, rollouts: torch.zeros(len(rollouts)).double(),
        cdf=None,
    )
    best = trainer._collect(0)[0].best.response_ids
    assert torch.equal(best, drawn[1].response_ids[::2, : best.shape[1]])


def gpt2_trainer(method, **capacity):
    environment = Environment(
        Prompts.from_lists([[5, 6, 7], [8]], ["a", "b"]),
        make_gpt2(scale=0.15).requires_grad_(False),
        lambda prompts, rollouts: (rollouts.response_ids >= 10).double().mean(1),
        None,
        eos_token_id=2,
        max_new_tokens=5,
    )
    policy = make_trainable(make_gpt2(scale=0.15), **capacity)
    chosen = settings(rollouts=16, draws_per_prompt=8, learning_rate=3e-3)
    return make_online_trainer(policy, method, environment, chosen, 0)


CAPACITIES = {
    "all": {},
    "top_k": {"trainable": "top_k", "top_k": 1},
    "lora": {"trainable": "lora", "lora_rank": 2, "lora_alpha": 4.0},
}


@pytest.mark.parametrize("capacity", CAPACITIES)
def test_the_anchor_goes_its_part_of_the_way_after_each_update(capacity):
    trainer = gpt2_trainer(Bond(updates=4, anchor_rate=0.25), **CAPACITIES[capacity])
    reference = trainer.environment.reference
    before = {name: value.clone() for name, value in reference.state_dict().items()}
    expected = dict(before)
    for _ in trainer:
        policy = merged(trainer.policy).state_dict()
        expected = {name: 0.75 * value + 0.25 * policy[name] for name, value in expected.items()}
        anchor = trainer.anchor.state_dict()
        assert anchor.keys() == expected.keys()
        for name, value in anchor.items():
            torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-7)
    moved = [name for name in before if not torch.equal(anchor[name], before[name])]
    frozen = [name for name in before if torch.equal(policy[name], before[name])]
    assert moved
    assert not set(moved) & set(frozen)
    assert (capacity == "all") == (not frozen)
    assert all(torch.equal(value, reference.state_dict()[name]) for name, value in before.items())


def test_the_anchor_approaches_a_policy_that_stands_still():
    language, trainer = moved_trainer(Bond(updates=1, anchor_rate=0.1))
    for _ in range(7):
        trainer._follow()
    left = 0.9**7
    expected = left * language.reference.table + (1 - left) * trainer.policy.table
    torch.testing.assert_close(trainer.anchor.table, expected.detach(), rtol=1e-5, atol=1e-6)


def test_without_an_anchor_rate_the_anchor_stays_the_reference():
    trainer = gpt2_trainer(Bond(updates=3, anchor_rate=0))
    list(trainer)
    ours, theirs = trainer.anchor.state_dict(), trainer.environment.reference.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
def test_an_anchor_that_follows_leads_further_than_best_of_two():
    language, reached = Language(), []
    for rate in (0.0, 0.1):
        policy, rows = language.train(Bond(updates=60, anchor_rate=rate), until_converged())
        pairs = zip(language.log_probs(policy).numpy(), problems(language), strict=True)
        reached.append([oracle.kl(ours, log_ref) for ours, (log_ref, _) in pairs])
        assert (rows[-1]["kl"] > rows[-1]["kl_anchor"]) == (rate > 0)
    assert (np.array(reached[1]) > 2 * np.array(reached[0])).all()


def test_the_method_decides_the_loop():
    """However the config divides iterations into updates, and with advantages as they are."""
    language = Language()
    chosen = settings(iterations=9, epochs=3, minibatch=8, whiten="minibatch")
    trainer = make_online_trainer(
        language.policy(), Bond(updates=4), language.environment(), chosen, 0
    )
    assert isinstance(trainer, AnchoredTrainer)
    rows = list(trainer)
    assert len(rows) == trainer.updates == 4
    assert trainer.episodes == rows[-1]["episodes"] == 4 * chosen.rollouts
    assert all(np.isfinite(list(row.values())).all() for row in rows if row.pop("log_below"))
    assert all(row["clip_fraction"] == 0 for row in rows)
    plain, _ = language.train(Bond(updates=4), settings())
    assert torch.equal(plain.table, trainer.policy.table)


def test_a_short_run_is_the_beginning_of_a_long_one():
    language = Language()
    short, long = (language.train(Bond(updates=u), settings())[1] for u in (2, 5))
    for row, other in zip(short, long, strict=False):
        assert {**row, "seconds": 0} == {**other, "seconds": 0}


def test_tokens_of_all_three_draws_are_counted(monkeypatch):
    counted = []
    sample = Environment.sample

    def recorded(self, *parts):
        rollouts = sample(self, *parts)
        counted.append((len(rollouts), int(rollouts.response_mask.sum())))
        return rollouts

    monkeypatch.setattr(Environment, "sample", recorded)
    trainer = gpt2_trainer(Bond(updates=2))
    list(trainer)
    assert [rows for rows, _ in counted] == [16, 32] * 2
    assert trainer.sampled_tokens == sum(tokens for _, tokens in counted)


def test_a_discount_is_refused():
    language = Language()
    environment = language.environment()
    with pytest.raises(ConfigError, match=r"budgets\.bond\.gamma: 0\.9 is not allowed"):
        make_online_trainer(language.policy(), Bond(updates=1), environment, settings(gamma=0.9), 0)


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("anchor_rate", 1.1),
        ("anchor_rate", -0.1),
        ("backward_weight", 2),
        ("regularisation", -1),
        ("updates", 0),
    ],
)
def test_settings_out_of_range_are_refused(field, bad):
    with pytest.raises(ConfigError, match=rf"methods\.bond\.{field}: {bad!r} is not allowed"):
        Bond(**({"updates": 2} | {field: bad}))


def test_a_response_without_an_anchor_is_refused():
    zero = torch.zeros(2).double()
    with pytest.raises(TypeError, match="anchor_rewards"):
        Bond(updates=1).reward(Scored(zero, zero, zero, zero))


def test_the_shape_of_the_method_chooses_the_loop():
    language = Language()
    parts = language.environment(), settings(), 0
    assert type(make_online_trainer(language.policy(), VBoN(n=2), *parts)) is OnlineTrainer

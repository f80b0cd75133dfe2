"""The policy-gradient loop: against exact optima, hand-made gradients and invariances."""

import ast
import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import forward_log_probs, make_gpt2, save_reference, settings, until_converged

from vbon.batches import Prompts, Rollouts, Scored
from vbon.methods.base import Online
from vbon.methods.ppo import PPO
from vbon.methods.vbon import VBoN
from vbon.models.language_model import load_language_model
from vbon.objectives import oracle
from vbon.objectives.policy_gradient import whiten
from vbon.pool.cdf import EstimatedCDF
from vbon.training.online import OnlineSettings, OnlineTrainer
from vbon.training.stored import StoredDraws
from vbon.training.trainer import Diverged, Environment

HIGH = 3.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scaled(Online):
    """PPO with reward and KL coefficient multiplied by the same factor."""

    kl_coef: float
    factor: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "kl_coef", self.kl_coef * self.factor)

    def reward(self, scored):
        return scored.reward * self.factor


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def exact_kl(language, policy):
    """KL to the reference of both prompts, mean, by enumeration."""
    ours = language.log_probs(policy)
    pairs = zip(ours.numpy(), language.log_ref.numpy(), strict=True)
    return sum(oracle.kl(*pair) for pair in pairs) / 2


def count_high_tokens(prompts, rollouts):
    """A reward that a GPT-2 can learn: tokens with high ids, without the response's length."""
    counted = (rollouts.response_ids >= 10) & rollouts.response_mask
    return HIGH * counted.double().sum(1) / rollouts.response_mask.sum(1)


def gpt2_environment(**changes):
    parts = {
        "prompts": Prompts.from_lists([[5, 6, 7], [8], [9, 10, 11, 12]], ["a", "b", "c"]),
        "reference": make_gpt2(scale=0.15).requires_grad_(False),
        "score": count_high_tokens,
        "cdf": None,
        "eos_token_id": 2,
        "max_new_tokens": 5,
    }
    return Environment(**(parts | changes))


def stored_draws(environment, draws=16):
    """Draws of the reference with their rewards."""
    rollouts = environment.sample(environment.reference, environment.prompts, draws, 5)
    prompts = environment.prompts.select(rollouts.prompt_index)
    reward = environment.rewards(prompts, rollouts)
    unused = torch.full_like(reward, torch.nan)
    scored = Scored(reward, unused, unused, rollouts.log_prob)
    lengths = rollouts.response_mask.sum(1)
    return StoredDraws(rollouts.prompt_index, rollouts.response_ids, lengths, scored, draws)


def train_gpt2(chosen, seed=0, method=None, **changes):
    """Train a copy of the reference; return the trainer and the history."""
    environment = gpt2_environment(**changes)
    if chosen.warm_start or chosen.tilt_floor:
        environment = dataclasses.replace(environment, stored=stored_draws(environment))
    policy = make_gpt2(scale=0.15)
    trainer = OnlineTrainer(policy, method or PPO(kl_coef=0.1), environment, chosen, seed)
    return trainer, list(trainer)


def gpt2_settings(**changes):
    return settings(**({"learning_rate": 3e-3, "draws_per_prompt": 8, "rollouts": 24} | changes))


@pytest.mark.slow
def test_tabular_policy_reaches_best_of_n(language):
    method = VBoN(n=4)
    policy, _ = language.train(method, until_converged())
    for prompt, ours in enumerate(language.log_probs(policy)):
        problem = language.log_ref[prompt].numpy(), language.rewards[prompt]
        best = oracle.optimum("best_of_n", *problem, n=4)
        assert oracle.total_variation(problem[0], best) > 0.3
        assert oracle.total_variation(ours.numpy(), best) < 0.05


def test_tabular_policy_reaches_best_of_n_with_ties(tied_language):
    policy, _ = tied_language.train(VBoN(n=4), until_converged())
    for prompt, ours in enumerate(tied_language.log_probs(policy)):
        problem = tied_language.log_ref[prompt].numpy(), tied_language.rewards[prompt]
        best = oracle.optimum("best_of_n", *problem, n=4)
        assert oracle.total_variation(ours.numpy(), best) < 0.05


def test_a_huge_kl_coef_keeps_the_policy_at_the_reference(language):
    chosen = until_converged(iterations=40)
    held, _ = language.train(PPO(kl_coef=1e4), chosen)
    free, _ = language.train(PPO(kl_coef=0.1), chosen)
    assert exact_kl(language, held) < 1e-3
    assert exact_kl(language, free) > 0.5


@pytest.mark.parametrize("constant", [0.0, 1.0, 0.3, -0.7])
def test_a_constant_reward_moves_nothing_but_noise(language, constant):
    def score(prompts, rollouts):
        return torch.full((len(rollouts),), constant, dtype=torch.float64)

    chosen = until_converged(iterations=40)
    policy, rows = language.train(PPO(kl_coef=0.1), chosen, score=score, cdf=None)
    assert exact_kl(language, policy) < 5e-3  # real rewards at this coefficient: above 0.5
    assert rows[-1]["reward"] == pytest.approx(constant)
    assert rows[0]["value_loss"] == pytest.approx(constant**2 / 2, rel=1e-5)
    assert rows[-1]["value_loss"] <= 0.05 * rows[0]["value_loss"] + 1e-3


def padded(rollouts, extra):
    wider = {
        name: F.pad(getattr(rollouts, name), (0, extra))
        for name in ("response_ids", "response_mask", "token_log_probs", "values")
    }
    return dataclasses.replace(rollouts, **wider)


def test_padding_changes_no_advantage(language):
    environment = language.environment()
    trainer = OnlineTrainer(language.policy(), VBoN(n=4), environment, settings(), 0)
    batch, _ = trainer._collect(0)
    rollouts, prompts = batch.rollouts, batch.prompts
    index = torch.tensor([language.prompts.prompt_id.index(name) for name in prompts.prompt_id])
    values = torch.randn(rollouts.values.shape, generator=torch.Generator().manual_seed(0))
    rollouts = dataclasses.replace(rollouts, values=values * rollouts.response_mask)
    reward = language.score(prompts, rollouts)
    log_probs_ref = rollouts.token_log_probs - 0.1 * rollouts.response_mask
    scored = trainer._look_up(index, reward, log_probs_ref)
    terminal = trainer._terminal_rewards(index, scored)
    refs = [log_probs_ref] * 2
    narrow, stats = trainer._advantages(prompts, rollouts, scored, terminal, *refs)
    refs = [F.pad(log_probs_ref, (0, 5))] * 2
    wide, wide_stats = trainer._advantages(prompts, padded(rollouts, 5), scored, terminal, *refs)
    torch.testing.assert_close(wide.advantages[:, :-5], narrow.advantages, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(wide.targets[:, :-5], narrow.targets)
    assert not wide.advantages[:, -5:].any()
    assert wide_stats == pytest.approx(stats, abs=1e-6)
    assert narrow.advantages[rollouts.response_mask].std(correction=0).item() == pytest.approx(1)


@pytest.mark.parametrize("scale", [2.0**-4, 2.0**6])
def test_scaling_reward_and_kl_coef_together_changes_no_policy(language, scale):
    """With whitened advantages and values at 0 only the epsilon of whitening can tell."""
    chosen = settings(iterations=10, epochs=2, minibatch=16, value_coef=0.0)

    def trained(kl_coef, factor):
        method = Scaled(kl_coef=kl_coef, factor=factor)
        return language.log_probs(language.train(method, chosen)[0]).exp()

    plain, scaled = trained(0.1, 1.0), trained(0.1, scale)
    moved = (plain - language.log_ref.exp()).abs().max()
    assert moved > 0.05
    assert (plain - scaled).abs().max() < 1e-4 * moved
    assert (plain - trained(0.1 / scale, scale)).abs().max() > 1e-2 * moved


@pytest.mark.parametrize("scale", [2.0**-4, 2.0**6])
def test_scaling_changes_no_gradient_of_a_shared_trunk(scale):
    """Where the value loss reaches the policy, as long as it has no weight."""
    gradients = []
    for factor in (1.0, scale):
        method, chosen = Scaled(kl_coef=0.1, factor=factor), gpt2_settings(value_coef=0.0)
        policy = make_gpt2(scale=0.15)
        trainer = OnlineTrainer(policy, method, gpt2_environment(), chosen, 0)
        trainer._step(trainer._collect(0)[0], torch.arange(24))
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in policy.parameters()]))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def policy_gradient_by_hand(trainer, batch, rows):
    """Gradient of minus the mean of advantage times log-prob over the rows' counted tokens."""
    policy, mask = trainer.policy, batch.rollouts.response_mask
    policy.zero_grad()
    terms = []
    for row in rows:
        prompt = batch.prompts.ids[row, : batch.prompts.lengths[row]].tolist()
        response = batch.rollouts.response_ids[row][mask[row]].tolist()
        logits = policy(torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1]
        chosen = logits.log_softmax(1).gather(1, torch.tensor(response)[:, None]).squeeze(1)
        terms.append(batch.advantages[row][mask[row]] * chosen)
    torch.cat(terms).mean().neg().backward()
    return torch.cat([parameter.grad.flatten() for parameter in policy.parameters()])


def test_the_first_step_follows_the_policy_gradient():
    environment, chosen = gpt2_environment(), gpt2_settings(value_coef=0.0)
    trainer = OnlineTrainer(make_gpt2(scale=0.15), PPO(kl_coef=0.1), environment, chosen, 0)
    batch, _ = trainer._collect(0)
    total = len(batch.rollouts)
    expected = policy_gradient_by_hand(trainer, batch, range(total))
    trainer._step(batch, torch.arange(total))
    ours = torch.cat([parameter.grad.flatten() for parameter in trainer.policy.parameters()])
    assert expected.norm() > 1e-2
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-5)


def gradients_of(model):
    return torch.cat([part.grad.flatten() for part in model.parameters()])


def test_a_value_model_of_its_own_keeps_the_value_loss_off_the_policy():
    found = {}
    for value_model in ("shared", "separate"):
        for value_coef in (0.0, 1.0):
            chosen = gpt2_settings(value_model=value_model, value_coef=value_coef)
            environment = gpt2_environment()
            trainer = OnlineTrainer(make_gpt2(scale=0.15), PPO(kl_coef=0.1), environment, chosen, 0)
            with torch.no_grad():
                trainer.baseline.head.outer.weight.fill_(0.1)  # or no state would have a gradient
            trainer._step(trainer._collect(0)[0], torch.arange(24))
            found[value_model, value_coef] = gradients_of(trainer.policy)
            if value_model == "separate":
                assert bool(gradients_of(trainer.baseline.model).any()) == (value_coef > 0)
                moved = weights(trainer.baseline.model) != weights(environment.reference)
                assert bool(moved.any()) == (value_coef > 0)
    assert torch.equal(found["separate", 0.0], found["separate", 1.0])
    torch.testing.assert_close(found["separate", 0.0], found["shared", 0.0], rtol=1e-3, atol=1e-5)
    assert (found["shared", 0.0] - found["shared", 1.0]).norm() > 0.01


def test_a_value_model_starts_as_the_reference_and_is_asked_about_every_rollout():
    """While the policy is the reference too, the sampler sees the states that it sees."""
    batches = []
    for value_model in ("shared", "separate"):
        chosen = gpt2_settings(value_model=value_model)
        trainer = OnlineTrainer(
            make_gpt2(scale=0.15), PPO(kl_coef=0.1), gpt2_environment(), chosen, 0
        )
        with torch.no_grad():
            trainer.baseline.head.outer.weight.fill_(0.1)
        batches.append(trainer._collect(0)[0])
    shared, separate = batches
    assert torch.equal(shared.rollouts.response_ids, separate.rollouts.response_ids)
    assert shared.values[shared.rollouts.response_mask].std() > 0.01
    torch.testing.assert_close(shared.values, separate.values, rtol=1e-4, atol=1e-5)


def test_minibatches_are_token_means_that_add_up_to_the_batch():
    chosen = gpt2_settings(learning_rate=1e-12)  # so that parameters stay where they are
    environment = gpt2_environment()
    trainer = OnlineTrainer(make_gpt2(scale=0.15), PPO(kl_coef=0.1), environment, chosen, 0)
    batch, _ = trainer._collect(0)
    tokens, gradients, losses = [], [], []
    for index in (torch.arange(24), torch.arange(10), torch.arange(10, 24)):
        losses.append(trainer._step(batch, index)[:2])
        gradients.append(torch.cat([p.grad.flatten() for p in trainer._parameters]))
        tokens.append(batch.rollouts.response_mask[index].sum())
    for whole, *parts in (gradients, losses):
        joined = (tokens[1] * parts[0] + tokens[2] * parts[1]) / tokens[0]
        torch.testing.assert_close(joined, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("minibatch", "sizes"), [(24, [24]), (10, [10, 10, 4])])
def test_every_epoch_uses_each_rollout_once(minibatch, sizes, monkeypatch):
    seen = []
    step = OnlineTrainer._step

    def recorded(self, batch, index):
        seen.append(index.tolist())
        return step(self, batch, index)

    monkeypatch.setattr(OnlineTrainer, "_step", recorded)
    trainer, rows = train_gpt2(gpt2_settings(iterations=2, epochs=3, minibatch=minibatch))
    assert [len(index) for index in seen] == sizes * 6
    epochs = np.concatenate(seen).reshape(6, 24)
    assert (np.sort(epochs, axis=1) == np.arange(24)).all()
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 6  # a new order each time
    assert trainer.updates == len(seen)
    assert trainer.episodes == rows[-1]["episodes"] == 48


def test_each_pass_over_the_prompts_takes_every_prompt_once(language):
    asked = []

    def score(prompts, rollouts):
        asked.append(prompts.prompt_id)
        return count_high_tokens(prompts, rollouts)

    train_gpt2(gpt2_settings(iterations=3, rollouts=16, draws_per_prompt=8), score=score)
    flat = [name for names in asked for name in names[::8]]
    assert all(names[start] == names[start + 7] for names in asked for start in (0, 8))
    assert Counter(flat[:3]) == Counter(flat[3:]) == Counter("abc")


def test_rewards_arrive_with_the_last_token_only(language):
    method = PPO(kl_coef=0.5)
    environment = language.environment()
    trainer = OnlineTrainer(language.policy(), method, environment, settings(gamma=0.5), 0)
    ids = torch.tensor([[0, 3, 0], [1, 2, 0]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    log_probs = torch.tensor([[-1.0, -2.0, 0.0], [-1.0, -1.0, -1.0]])
    log_probs_ref = torch.tensor([[-1.5, -1.0, 0.0], [-1.0, -1.0, -3.0]])
    rollouts = Rollouts(
        torch.tensor([0, 1]), ids, mask, mask[:, 2], log_probs, torch.zeros_like(log_probs)
    )
    reward = torch.tensor([4.0, -2.0], dtype=torch.float64)
    scored = Scored(reward, reward - 5, reward - 5, log_probs_ref.double().sum(1))
    refs = [log_probs_ref] * 2
    batch, row = trainer._advantages(language.prompts, rollouts, scored, reward, *refs)
    # Token rewards: -0.5 * [0.5, -1] + [0, 4] and -0.5 * [0, 0, 2] + [0, 0, -2].
    assert row["objective"] == pytest.approx((-0.25 + 4.5 - 3.0) / 2)
    assert row["kl"] == pytest.approx((-0.5 + 2.0) / 2)
    decay = 0.5 * 0.95
    expected = [[-0.25 + decay * 4.5, 4.5, 0.0], [decay**2 * -3.0, decay * -3.0, -3.0]]
    torch.testing.assert_close(batch.targets, torch.tensor(expected))
    torch.testing.assert_close(batch.advantages, whiten(batch.targets, mask))


def test_the_reference_and_its_log_probs_never_change():
    environment = gpt2_environment()
    before = {name: value.clone() for name, value in environment.reference.state_dict().items()}
    policy = make_gpt2(scale=0.15)
    list(OnlineTrainer(policy, PPO(kl_coef=0.1), environment, gpt2_settings(), 0))
    after = environment.reference.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not torch.equal(weights(policy), weights(environment.reference))
    assert all(parameter.grad is None for parameter in environment.reference.parameters())


def test_dropout_is_off_in_training(tmp_path):
    """Log-probs of the first update are those of sampling, though the saved model had dropout."""
    rates = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.5)
    reference = load_language_model(save_reference(tmp_path, **rates)).requires_grad_(False)
    policy = load_language_model(tmp_path)
    environment = gpt2_environment(reference=reference)
    tight = gpt2_settings(clip_policy=1e-4)
    trainer = OnlineTrainer(policy, PPO(kl_coef=0.1), environment, tight, 0)
    first = next(iter(trainer))
    assert first["clip_fraction"] == 0
    assert first["kl"] == pytest.approx(0, abs=1e-5)


def test_sampling_and_training_see_the_same_log_probs_at_every_temperature():
    for temperature in (0.5, 1.0):
        _, rows = train_gpt2(gpt2_settings(clip_policy=1e-4), temperature=temperature)
        assert rows[0]["clip_fraction"] == 0
        assert rows[0]["kl"] == pytest.approx(0, abs=1e-5)


def test_the_seed_decides_everything():
    first, again, other = (train_gpt2(gpt2_settings(), seed)[0] for seed in (0, 0, 1))
    assert torch.equal(weights(first.policy), weights(again.policy))
    assert torch.equal(weights(first.baseline.head), weights(again.baseline.head))
    assert not torch.equal(weights(first.policy), weights(other.policy))


def make_trainer(seed):
    chosen = gpt2_settings(rollouts=96, draws_per_prompt=32)
    environment = gpt2_environment()
    return OnlineTrainer(make_gpt2(scale=0.15), PPO(kl_coef=0.1), environment, chosen, seed)


def responses_to(name, batch):
    return batch.rollouts.response_ids[[item == name for item in batch.prompts.prompt_id]]


def test_the_seed_decides_rollouts_order_and_value_head_each_on_its_own():
    trainers = [make_trainer(seed) for seed in (0, 0, 1)]
    heads = [trainer.baseline.head.inner.weight for trainer in trainers]
    batches = [trainer._collect(0)[0] for trainer in trainers]
    orders = [[trainer._next_prompts(3).tolist() for _ in range(8)] for trainer in trainers]
    for name in "abc":
        drawn = [responses_to(name, batch) for batch in batches]
        assert torch.equal(drawn[0], drawn[1])
        assert not torch.equal(drawn[0], drawn[2])
    assert orders[0] == orders[1] != orders[2]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_the_global_generator_decides_nothing():
    torch.manual_seed(1)
    first, _ = train_gpt2(gpt2_settings())
    torch.manual_seed(2)
    second, _ = train_gpt2(gpt2_settings())
    assert torch.equal(weights(first.policy), weights(second.policy))


BASE = gpt2_settings(
    epochs=2, minibatch=12, clip_value=0.2, clip_reward=2.5, weight_decay=1e-3, warm_start=6
)
CHANGED = {
    "iterations": 2,
    "rollouts": 16,
    "draws_per_prompt": 4,
    "epochs": 1,
    "minibatch": 24,
    "learning_rate": 1e-3,
    "schedule": "linear",
    "adam_beta2": 0.9,
    "weight_decay": 0.5,
    "gamma": 0.9,
    "lam": 0.5,
    "clip_policy": 0.01,
    "clip_value": 0.01,
    "clip_reward": 0.5,
    "value_coef": 0.1,
    "value_target": "response",
    "value_model": "separate",
    "value_trains_trunk": False,
    "max_grad_norm": 0.1,
    "whiten": "minibatch",
    "warm_start": 4,
    "warm_start_batch": 4,
    "warm_start_rate": 0.02,
    "tilt_floor": 0.1,
    "prompt_scale": 1.0,
    "reward_tail": 1.0,
}


@pytest.fixture(scope="module")
def base_weights():
    return weights(train_gpt2(BASE)[0].policy)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(OnlineSettings)])
def test_every_setting_matters(name, base_weights):
    assert getattr(BASE, name) != CHANGED[name]
    trainer, _ = train_gpt2(dataclasses.replace(BASE, **{name: CHANGED[name]}))
    assert not torch.equal(weights(trainer.policy), base_weights)


@pytest.mark.parametrize("path", ["benchmarks/ppo.py", "benchmarks/gpu/ppo.py"])
def test_benchmarks_give_every_setting(path):
    tree = ast.parse((Path(__file__).parents[2] / path).read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    (call,) = (c for c in calls if getattr(c.func, "id", "") == "OnlineSettings")
    given = {keyword.arg for keyword in call.keywords}
    assert given == {field.name for field in dataclasses.fields(OnlineSettings)}


UNEQUAL = {"prompt_scale": 1.0, "reward_tail": 1.0}


def test_unequal_rewards_of_the_same_order_change_no_method_of_ranks():
    pools = stored_draws(gpt2_environment(), 50).scored.reward.view(3, 50).sort(1).values
    cdf = EstimatedCDF(pools, torch.full((3, 2), torch.nan).double(), "add1")
    same = [
        train_gpt2(gpt2_settings(**changes), method=VBoN(n=4), cdf=cdf)[0].policy
        for changes in ({}, UNEQUAL)
    ]
    assert torch.equal(*map(weights, same))


def test_the_warm_start_fits_the_optimum_of_unequal_rewards():
    fit = {"warm_start": 8, "iterations": 1, "learning_rate": 1e-9}
    plain, other = (
        train_gpt2(gpt2_settings(**fit, **changes), method=PPO(kl_coef=2.0))[0].policy
        for changes in ({}, UNEQUAL)
    )
    assert (weights(plain) - weights(other)).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["clip_value", "clip_reward"])
def test_clipping_can_be_turned_off(name, base_weights):
    trainer, rows = train_gpt2(dataclasses.replace(BASE, **{name: None}))
    assert not torch.equal(weights(trainer.policy), base_weights)
    if name == "clip_reward":
        assert all(row["reward_clipped"] == 0 for row in rows)


def test_advantages_need_not_be_whitened(base_weights):
    trainer, _ = train_gpt2(dataclasses.replace(BASE, whiten="none"))
    assert not torch.equal(weights(trainer.policy), base_weights)


def test_the_share_of_clipped_rewards_is_reported():
    _, rows = train_gpt2(gpt2_settings(clip_reward=HIGH / 2, iterations=1))
    environment = gpt2_environment()
    policy = make_gpt2(scale=0.15)
    trainer = OnlineTrainer(policy, PPO(kl_coef=0.1), environment, gpt2_settings(), 0)
    batch, _ = trainer._collect(0)
    share = (count_high_tokens(batch.prompts, batch.rollouts) > HIGH / 2).double().mean().item()
    assert 0 < share < 1
    assert rows[0]["reward_clipped"] == pytest.approx(share)


def test_gradients_are_scaled_down_to_the_limit():
    _, rows = train_gpt2(gpt2_settings(max_grad_norm=0.1))
    assert all(row["grad_norm"] > 0.1 for row in rows)  # reported before the scaling
    environment = gpt2_environment()
    chosen = gpt2_settings(max_grad_norm=0.1)
    trainer = OnlineTrainer(make_gpt2(scale=0.15), PPO(kl_coef=0.1), environment, chosen, 0)
    trainer._step(trainer._collect(0)[0], torch.arange(24))
    total = torch.cat([parameter.grad.flatten() for parameter in trainer._parameters]).norm()
    assert total.item() == pytest.approx(0.1, rel=1e-4)


def test_learning_rate_falls_linearly_or_stays():
    for schedule, expected in (("linear", [1, 0.75, 0.5, 0.25]), ("constant", [1, 1, 1, 1])):
        _, rows = train_gpt2(gpt2_settings(iterations=4, schedule=schedule))
        rates = [row["learning_rate"] / 3e-3 for row in rows]
        assert rates == pytest.approx(expected)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_reward_that_is_no_number_diverges(bad):
    def score(prompts, rollouts):
        return count_high_tokens(prompts, rollouts) * bad

    with pytest.raises(Diverged, match="after 0 updates"):
        train_gpt2(gpt2_settings(), score=score)


def test_weights_that_overflow_diverge():
    with pytest.raises(Diverged):
        train_gpt2(gpt2_settings(learning_rate=1e38, iterations=5))


def test_the_history_describes_its_rollouts():
    environment = gpt2_environment()
    policy = make_gpt2(scale=0.15)
    trainer = OnlineTrainer(policy, PPO(kl_coef=0.1), environment, gpt2_settings(), 0)
    batch, row = trainer._collect(0)
    rollouts = batch.rollouts
    lengths = [len(response) for response in rollouts.response_lists()]
    assert row["response_length"] == pytest.approx(sum(lengths) / len(lengths))
    assert row["eos_rate"] == pytest.approx(rollouts.finished.double().mean().item())
    reward = count_high_tokens(batch.prompts, rollouts)
    assert row["reward"] == pytest.approx(reward.mean().item())
    assert trainer.sampled_tokens == sum(lengths)
    for index in (0, 10, 23):
        prompt = batch.prompts.ids[index, : batch.prompts.lengths[index]].tolist()
        log_prob = forward_log_probs(policy, prompt, [rollouts.response_lists()[index]])[0]
        assert rollouts.log_prob[index].item() == pytest.approx(log_prob.item(), abs=1e-4)


def test_learning_raises_the_reward():
    chosen = gpt2_settings(iterations=30, rollouts=96, draws_per_prompt=32, minibatch=96)
    _, rows = train_gpt2(chosen)
    assert rows[-1]["reward"] > rows[0]["reward"] + 0.8

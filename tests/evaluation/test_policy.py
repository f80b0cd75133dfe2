"""Measured policies against enumeration, and best-of-n's choice among fresh draws."""

import numpy as np
import pandas as pd
import pytest
import torch
from support import Language, forward_log_probs, make_gpt2

from vbon.artifacts import write_table
from vbon.batches import Prompts
from vbon.errors import ConfigError
from vbon.evaluation.metrics import win_rates
from vbon.evaluation.policy import Evaluator, _divergences, select_responses
from vbon.methods.best_of_n import BestOfN
from vbon.methods.reference import Reference
from vbon.objectives import oracle
from vbon.objectives.best_of_n import kl_upper_bound, log_bon_ratio, win_rate
from vbon.rewards import Rewards, full_texts
from vbon.sampling import sample
from vbon.tasks.language import build_tokenizer

LANGUAGE, LETTERS = Language(), build_tokenizer(3)


def text_rewards(seed):
    """A random reward of every text of the language, as a reward model."""
    rng = np.random.default_rng(seed)
    asked = [prompt for prompt in LANGUAGE.prompt_lists for _ in LANGUAGE.responses]
    texts = full_texts(LETTERS, asked, LANGUAGE.responses * 2)
    table = dict(zip(texts, rng.normal(size=len(texts)), strict=True))
    assert len(table) == len(texts)

    def score(texts):
        reward = np.array([table[text] for text in texts])
        return Rewards(reward, 1 / (1 + np.exp(-reward)))

    return score


def make_evaluator(responses=8, **changes):
    parts = {
        "prompts": LANGUAGE.prompts,
        "reference": LANGUAGE.reference,
        "tokenizer": LETTERS,
        "reward_model": text_rewards(1),
        "evaluator": text_rewards(2),
        "max_new_tokens": LANGUAGE.tokens,
        "temperature": 1.0,
        "seed": 0,
    }
    return Evaluator(responses=responses, **(parts | changes))


def other_policy(seed=5, scale=0.7):
    """A policy some way from the reference."""
    policy = LANGUAGE.policy()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        policy.table += scale * torch.randn(policy.table.shape, generator=generator)
    return policy


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_kl_is_that_of_the_enumeration(temperature):
    """Means of 2,000 responses a prompt; 4 standard errors are allowed."""
    policy = other_policy()
    frame = make_evaluator(2000, temperature=temperature).evaluate(policy)
    ours = LANGUAGE.log_probs(policy, temperature).numpy()
    theirs = LANGUAGE.log_probs(LANGUAGE.reference, temperature).numpy()
    frame["kl_k1"] = frame["log_prob"] - frame["log_prob_ref"]
    spread = {}
    for column in ("kl", "kl_k1", "kl_k3"):
        for row, name in enumerate(LANGUAGE.prompts.prompt_id):
            values = frame.loc[frame["prompt_id"] == name, column]
            exact, error = oracle.kl(ours[row], theirs[row]), values.sem()
            assert exact > 0.1
            assert abs(values.mean() - exact) < 4 * error, (column, name)
        spread[column] = error
    assert spread["kl"] < 0.5 * spread["kl_k1"]  # why it is the primary estimate


def test_reward_and_win_rate_are_those_of_the_enumeration():
    """As above: within 4 standard errors of the sums over all strings."""
    policy, score = other_policy(), text_rewards(1)
    frame = make_evaluator(2000).evaluate(policy)
    for row, name in enumerate(LANGUAGE.prompts.prompt_id):
        asked = [LANGUAGE.prompt_lists[row]] * len(LANGUAGE.responses)
        rewards = score(full_texts(LETTERS, asked, LANGUAGE.responses)).reward
        exact = oracle.metrics(
            LANGUAGE.log_probs(policy)[row].numpy(), LANGUAGE.log_ref[row].numpy(), rewards
        )
        drawn = frame.loc[frame["prompt_id"] == name, "reward"]
        assert abs(drawn.mean() - exact["reward"]) < 4 * drawn.sem()
        p = LANGUAGE.log_ref[row].exp().numpy()
        below = [p[rewards < reward].sum() + p[rewards == reward].sum() / 2 for reward in drawn]
        error = np.std(below, ddof=1) / np.sqrt(len(drawn))
        assert abs(np.mean(below) - exact["win_rate"]) < 4 * error


def test_the_reference_has_kl_zero_and_wins_half():
    """Win rate against an independent pool of 4,000 draws a prompt; 3 standard errors."""
    frame = make_evaluator(1000).evaluate(LANGUAGE.policy())
    assert (frame["kl"] == 0).all()
    assert frame["kl_k3"].abs().max() < 1e-12
    np.testing.assert_allclose(frame["log_prob"], frame["log_prob_ref"], atol=1e-5)
    pool = make_evaluator(4000, seed=1).evaluate(LANGUAGE.policy())
    pools = {name: np.sort(rows.to_numpy()) for name, rows in pool.groupby("prompt_id")["reward"]}
    wins, _ = win_rates(frame["prompt_id"], frame["reward"].to_numpy(), pools)
    error = wins.std(ddof=1) * np.sqrt(1 / 2000 + 1 / 8000)
    assert abs(wins.mean() - 0.5) < 3 * error


def test_rows_describe_their_responses(tmp_path):
    policy = other_policy()
    frame = make_evaluator(4).evaluate(policy)
    write_table(tmp_path / "responses.parquet", frame.assign(sample_seed=0), "responses")
    assert frame["prompt_id"].tolist() == ["short"] * 4 + ["long"] * 4
    assert frame["draw"].tolist() == [0, 1, 2, 3] * 2
    models = {"reward": text_rewards(1), "evaluator_reward": text_rewards(2)}
    for row in frame.itertuples():
        prompt = LANGUAGE.prompt_lists[LANGUAGE.prompts.prompt_id.index(row.prompt_id)]
        ids = list(row.response_ids)
        assert ids in LANGUAGE.responses
        assert row.finished == (ids[-1] == LANGUAGE.eos)
        for column, model in (("log_prob", policy), ("log_prob_ref", LANGUAGE.reference)):
            expected = forward_log_probs(model, prompt, [ids])[0].item()
            assert getattr(row, column) == pytest.approx(expected, abs=1e-5)
        (text,) = full_texts(LETTERS, [prompt], [ids])
        assert row.response == full_texts(LETTERS, [[]], [ids])[0]
        for column, model in models.items():
            assert getattr(row, column) == model([text]).reward[0]
        assert row.reward_prob == models["reward"]([text]).prob[0]


def test_all_policies_are_measured_with_the_same_numbers():
    """Where two policies agree, so do their responses: differences are never luck."""
    evaluator, policy = make_evaluator(50), LANGUAGE.policy()
    with torch.no_grad():
        touched = LANGUAGE.reference.rows(torch.tensor([[1, 2]]))[0, -1]
        policy.table[touched] = torch.tensor([5.0, 0.0, 0.0, 0.0])
    first, second = evaluator.evaluate(LANGUAGE.policy()), evaluator.evaluate(policy)
    same = (first["response_ids"] == second["response_ids"]).groupby(first["prompt_id"]).mean()
    assert same["short"] == 1
    assert same["long"] < 1
    pd.testing.assert_frame_equal(second, evaluator.evaluate(policy))
    other = make_evaluator(50, seed=1).evaluate(policy)
    assert not other["response_ids"].equals(second["response_ids"])


def test_batching_of_the_divergences_changes_nothing():
    policy, reference = make_gpt2(1), make_gpt2(0)
    prompts = Prompts.from_lists([[5, 6, 7], [8]], ["a", "b"])
    rollouts = sample(policy, prompts, draws=20, max_new_tokens=6, eos_token_id=2, seed=0)
    asked = prompts.select(rollouts.prompt_index)
    parts = [_divergences(policy, reference, asked, rollouts, 0.8, size) for size in (7, 64)]
    for small, large in zip(*parts, strict=True):
        np.testing.assert_allclose(small, large, rtol=1e-4, atol=1e-4)


def fresh_draws(prompts=3, draws=10, seed=0, first_draw=100):
    """Scored reference draws in no order."""
    rng = np.random.default_rng(seed)
    rows = [(f"p{index}", first_draw + draw) for index in range(prompts) for draw in range(draws)]
    frame = pd.DataFrame(rows, columns=["prompt_id", "draw"])
    frame["response"] = [f"{name}-{draw}" for name, draw in rows]
    frame["response_ids"] = [[1, 2]] * len(rows)
    frame["finished"] = True
    frame["log_prob"] = -1 - 20 * rng.random(len(rows))
    for column in ("reward", "reward_prob", "evaluator_reward"):
        frame[column] = rng.random(len(rows))
    return frame.sample(frac=1, random_state=1)


def uniform_pools(prompts=3, draws=50, seed=1):
    rng = np.random.default_rng(seed)
    return {f"p{index}": np.sort(rng.random(draws)) for index in range(prompts)}


def test_best_of_n_returns_the_best_of_disjoint_blocks():
    fresh = fresh_draws()
    picked = select_responses(BestOfN(n=3), fresh, uniform_pools(), num_responses=8)
    assert picked["draw"].tolist() == [0, 1, 2] * 3  # 10 draws hold three blocks of 3
    assert picked["response"].is_unique
    ordered = fresh.sort_values(["prompt_id", "draw"])
    for row in picked.itertuples():
        block = ordered[ordered["prompt_id"] == row.prompt_id].iloc[3 * row.draw : 3 * row.draw + 3]
        best = block.loc[block["reward"].idxmax()]
        assert row.response == best["response"]
        assert row.reward == best["reward"]
        assert row.log_prob_ref == best["log_prob"]


def test_best_of_n_reports_its_bound_and_its_log_ratio(tmp_path):
    pools = uniform_pools()
    picked = select_responses(BestOfN(n=3), fresh_draws(), pools, num_responses=8)
    assert picked["kl"].tolist() == [kl_upper_bound(3)] * 9
    assert picked["kl_k3"].isna().all()
    for row in picked.itertuples():
        share = ((pools[row.prompt_id] < row.reward).sum() + 1) / 51
        log_below = min(np.log(share), np.log(-np.expm1(row.log_prob_ref)))
        ratio = log_bon_ratio(log_below, row.log_prob_ref, 3)
        assert row.log_prob - row.log_prob_ref == pytest.approx(ratio)
    write_table(tmp_path / "responses.parquet", picked.assign(sample_seed=0), "responses")


@pytest.mark.parametrize("method", [Reference(), BestOfN(n=1)], ids=["reference", "n=1"])
def test_the_reference_returns_its_first_draws(method):
    fresh = fresh_draws()
    picked = select_responses(method, fresh, uniform_pools(), num_responses=4)
    expected = fresh.sort_values(["prompt_id", "draw"]).groupby("prompt_id").head(4)
    assert picked["response"].tolist() == expected["response"].tolist()
    assert (picked["kl"] == 0).all()
    assert (picked["kl_k3"] == 0).all()
    pd.testing.assert_series_equal(
        picked["log_prob"], picked["log_prob_ref"], check_names=False, check_exact=True
    )


def test_too_few_fresh_draws_are_refused():
    with pytest.raises(ConfigError, match=r"n: 16 draws requested, sampling.fresh_draws gives 10"):
        select_responses(BestOfN(n=16), fresh_draws(), uniform_pools(), num_responses=1)


@pytest.mark.parametrize("n", [2, 4, 8])
def test_best_of_n_wins_as_often_as_in_closed_form(n):
    """400 prompts with pools of 100, 4 responses each; 3 standard errors over prompts."""
    prompts = 400
    fresh, pools = fresh_draws(prompts, 4 * n, seed=n), uniform_pools(prompts, 100, seed=n)
    picked = select_responses(BestOfN(n=n), fresh, pools, num_responses=4)
    assert len(picked) == 4 * prompts
    wins, saturated = win_rates(picked["prompt_id"], picked["reward"].to_numpy(), pools)
    means = wins.reshape(prompts, 4).mean(1)
    error = means.std(ddof=1) / np.sqrt(prompts)
    assert error < 0.01
    assert abs(means.mean() - win_rate(n)) < 3 * error
    share = n / (n + 100)
    spread = saturated.reshape(prompts, 4).mean(1).std(ddof=1) / np.sqrt(prompts)
    assert abs(saturated.mean() - share) < 3 * spread


def test_the_mean_log_ratio_of_best_of_n_is_near_its_kl():
    """k1 of best-of-4 from estimated ranks: the bound is tight for long responses."""
    prompts = 400
    fresh, pools = fresh_draws(prompts, 16), uniform_pools(prompts, 1000)
    fresh["log_prob"] = -60.0
    picked = select_responses(BestOfN(n=4), fresh, pools, num_responses=4)
    ratio = (picked["log_prob"] - picked["log_prob_ref"]).to_numpy().reshape(prompts, 4).mean(1)
    error = ratio.std(ddof=1) / np.sqrt(prompts)
    assert abs(ratio.mean() - kl_upper_bound(4)) < 3 * error + 0.01  # bias of add1 at 1,000 draws


@pytest.mark.parametrize("temperature", [0.25, 0.5, 0.75, 1.0])
def test_the_reference_has_no_kl_to_itself_at_any_temperature(temperature):
    frame = make_evaluator(temperature=temperature).evaluate(LANGUAGE.policy())
    assert frame["kl"].abs().max() < 1e-9
    assert frame["kl_k3"].abs().max() < 1e-9
    np.testing.assert_allclose(frame["log_prob"], frame["log_prob_ref"], atol=1e-5)


@pytest.mark.parametrize("temperature", [0.25, 0.5, 1.0])
def test_kl_is_that_of_both_models_at_the_temperature_of_sampling(temperature):
    policy = other_policy()
    ours, theirs = (LANGUAGE.log_probs(m, temperature) for m in (policy, LANGUAGE.reference))
    exact = (ours.exp() * (ours - theirs)).sum(1)
    frame = make_evaluator(responses=4000, temperature=temperature).evaluate(policy)
    groups = frame.groupby("prompt_id")["kl"]
    means, errors = groups.mean(), groups.sem()
    for name, value in zip(LANGUAGE.prompts.prompt_id, exact.tolist(), strict=True):
        assert abs(means[name] - value) < 4 * errors[name] + 1e-6

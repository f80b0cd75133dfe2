"""The measured columns of a point against loops over every response and pool entry."""

import itertools

import numpy as np
import pandas as pd
import pytest

from vbon.evaluation.metrics import distinct_2, summarise, win_rates


def example(prompts=5, responses=4, draws=30, seed=0):
    """Responses and pools with rewards on a coarse grid, so that many tie."""
    rng = np.random.default_rng(seed)
    names = [f"p{index}" for index in range(prompts)]
    size = prompts * responses
    frame = pd.DataFrame(
        {
            "prompt_id": np.repeat(names, responses),
            "draw": np.tile(np.arange(responses), prompts),
            "response_ids": [
                rng.integers(4, size=rng.integers(1, 6)).tolist() for _ in range(size)
            ],
            "finished": rng.random(size) < 0.5,
            "log_prob": -rng.random(size),
            "log_prob_ref": -rng.random(size) - 1,
            "kl": rng.random(size),
            "kl_k3": rng.random(size),
            "reward": rng.integers(6, size=size).astype(float),
            "reward_prob": rng.random(size),
            "evaluator_reward": rng.integers(6, size=size).astype(float),
        }
    )
    pools, evaluator_pools = (
        {name: np.sort(rng.integers(1, 5, size=draws).astype(float)) for name in names}
        for _ in range(2)
    )
    first = {name: float(rng.choice(pools[name])) for name in names}
    return frame.sample(frac=1, random_state=0, ignore_index=True), pools, evaluator_pools, first


def win_rate_by_hand(reward, pool):
    return sum(1.0 if reward > other else 0.5 if reward == other else 0.0 for other in pool) / len(
        pool
    )


def test_win_rates_count_ties_half():
    frame, pools, _, _ = example()
    wins, saturated = win_rates(frame["prompt_id"], frame["reward"].to_numpy(), pools)
    for row in range(len(frame)):
        pool = pools[frame["prompt_id"][row]]
        assert wins[row] == pytest.approx(win_rate_by_hand(frame["reward"][row], pool))
        assert saturated[row] == (frame["reward"][row] > max(pool))
    assert 0 < saturated.mean() < 1


def test_a_pool_against_itself_wins_half():
    """Exactly, whatever ties it has."""
    pool = np.sort(np.random.default_rng(0).integers(5, size=99).astype(float))
    wins, _ = win_rates(pd.Series(["a"] * 99), pool, {"a": pool})
    assert wins.mean() == pytest.approx(0.5, abs=1e-15)


def test_summary_is_means_over_prompts_and_their_errors():
    frame, pools, evaluator_pools, first = example()
    point = summarise(frame, pools, evaluator_pools, first)
    assert (point["num_prompts"], point["num_responses"]) == (5, 20)
    hand = {
        "kl": frame["kl"],
        "reward": frame["reward"],
        "reward_prob": frame["reward_prob"],
        "evaluator_reward": frame["evaluator_reward"],
        "win_rate": [
            win_rate_by_hand(row.reward, pools[row.prompt_id]) for row in frame.itertuples()
        ],
        "evaluator_win_rate": [
            win_rate_by_hand(row.evaluator_reward, evaluator_pools[row.prompt_id])
            for row in frame.itertuples()
        ],
    }
    for name, values in hand.items():
        by_prompt = pd.Series(np.asarray(values)).groupby(frame["prompt_id"].to_numpy()).mean()
        assert point[name] == pytest.approx(by_prompt.mean())
        assert point[f"{name}_se"] == pytest.approx(by_prompt.std(ddof=1) / np.sqrt(5))
    assert point["kl_k1"] == pytest.approx((frame["log_prob"] - frame["log_prob_ref"]).mean())
    assert point["kl_k3"] == pytest.approx(frame["kl_k3"].mean())
    assert point["response_length"] == np.mean([len(ids) for ids in frame["response_ids"]])
    assert point["eos_rate"] == frame["finished"].mean()


def test_the_authors_win_rate_compares_first_with_first_and_loses_ties():
    frame, pools, evaluator_pools, first = example(prompts=40, seed=1)
    expected = [row.reward > first[row.prompt_id] for row in frame.itertuples() if row.draw == 0]
    tied = [row.reward == first[row.prompt_id] for row in frame.itertuples() if row.draw == 0]
    assert any(tied)
    point = summarise(frame, pools, evaluator_pools, first)
    assert point["win_rate_single"] == pytest.approx(np.mean(expected))


def test_distinct_pairs_are_counted_over_all_responses():
    ids = example(seed=3)[0]["response_ids"]
    pairs = [tuple(pair) for row in ids for pair in itertools.pairwise(row)]
    assert distinct_2(ids) == pytest.approx(len(set(pairs)) / len(pairs))
    assert distinct_2(pd.Series([[1, 1, 1], [1, 1]])) == pytest.approx(1 / 3)
    assert np.isnan(distinct_2(pd.Series([[1], [2]])))

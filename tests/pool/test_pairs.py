"""Pairs of stored draws: by key, by order alone, and the same whatever else there is."""

import itertools

import numpy as np
import pandas as pd
import pytest

from vbon.artifacts import read_table, write_table
from vbon.artifacts.fingerprint import content_hash
from vbon.cli import main
from vbon.errors import ArtifactError, ConfigError, DataError
from vbon.pool.pairs import Pairing, make_pairs

NAMES = ("b", "a", "c")  # not in alphabetical order


def table(draws=12, seed=0, levels=None):
    """Rewards of three prompts."""
    rows = list(itertools.product(NAMES, range(draws)))
    frame = pd.DataFrame(rows, columns=["prompt_id", "draw"])
    rewards = np.random.default_rng(seed).normal(size=len(rows))
    return frame.assign(reward=rewards if levels is None else np.round(rewards / levels) * levels)


def looked_up(pairs, rewards):
    """Rewards of both sides of each pair."""
    keyed = rewards.set_index(["prompt_id", "draw"])["reward"]
    return [
        keyed.loc[list(zip(pairs["prompt_id"], pairs[side], strict=True))].to_numpy()
        for side in ("chosen", "rejected")
    ]


def test_six_draws_give_twelve_distinct_pairs_of_fifteen():
    rewards = table()
    pairs = make_pairs(rewards, Pairing(draws=6, pairs=12), seed=0)
    chosen, rejected = looked_up(pairs, rewards)
    assert (chosen > rejected).all()
    sets = {}
    for name, group in pairs.groupby("prompt_id"):
        assert group["pair"].tolist() == list(range(12))
        assert group[["chosen", "rejected"]].to_numpy().max() <= 5
        sets[name] = {frozenset(row) for row in group[["chosen", "rejected"]].to_numpy().tolist()}
        assert len(sets[name]) == 12
    assert len({frozenset(found) for found in sets.values()}) == 3, "each prompt has its own seed"
    others = make_pairs(rewards, Pairing(draws=6, pairs=12), seed=1)
    assert not pairs.equals(others)


def test_every_pair_is_taken_equally_often():
    """Shares of the 15 pairs over 3000 prompts, within 4 standard errors of 12/15."""
    rewards = np.arange(6.0)
    pairing = Pairing(draws=6, pairs=12)
    found = np.concatenate([pairing.choose(rewards, 0, str(name)) for name in range(3000)])
    _, counts = np.unique(found, axis=0, return_counts=True)
    assert len(counts) == 15
    assert np.abs(counts / 3000 - 0.8).max() < 4 * np.sqrt(0.8 * 0.2 / 3000)


def test_ties_are_dropped_before_pairs_are_drawn():
    rewards = pd.DataFrame({"prompt_id": "p", "draw": range(6), "reward": [1.0, 1, 1, 1, 0, 0]})
    pairs = make_pairs(rewards, Pairing(draws=6, pairs=12), seed=0)
    found = set(map(tuple, pairs[["chosen", "rejected"]].to_numpy().tolist()))
    assert found == {(chosen, rejected) for chosen in range(4) for rejected in (4, 5)}
    assert len(pairs) == 8
    level = rewards.assign(reward=2.0)
    assert not len(make_pairs(level, Pairing(draws=6, pairs=12), seed=0))


@pytest.mark.parametrize("levels", [None, 1.0])
def test_best_and_worst_of_each_block_the_first_of_equals(levels):
    rewards = table(levels=levels)
    pairs = make_pairs(rewards, Pairing(draws=4, blocks=3), seed=0)
    assert len(pairs) == 9
    for _, row in pairs.iterrows():
        mine = rewards[rewards["prompt_id"] == row["prompt_id"]].set_index("draw")["reward"]
        block = mine.loc[4 * row["pair"] : 4 * row["pair"] + 3]
        assert (row["chosen"], row["rejected"]) == (block.idxmax(), block.idxmin())


def test_a_block_of_equal_rewards_is_its_own_opponent():
    pairs = make_pairs(table().assign(reward=0.0), Pairing(draws=4), seed=0)
    assert pairs["chosen"].tolist() == pairs["rejected"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("levels", [None, 1.0])
def test_ranks_are_counts_among_the_other_draws_of_all_blocks(levels):
    rewards, pairing = table(levels=levels), Pairing(draws=4, blocks=3, ranked=True)
    pairs = make_pairs(rewards, pairing, seed=0)
    assert pairing.slug == "ranked-d4-b3"
    assert len(pairs) == 3 * pairing.num_pairs == 36
    assert (pairs["chosen"] == pairs["rejected"]).all()
    for name, group in pairs.groupby("prompt_id"):
        assert group["chosen"].tolist() == list(range(12))
        values = rewards.loc[rewards["prompt_id"] == name, "reward"].to_numpy()
        assert group["num_below"].tolist() == [(values < value).sum() for value in values]
        assert group["num_level"].tolist() == [(values == value).sum() - 1 for value in values]


PAIRINGS = [
    Pairing(draws=4, blocks=2),
    Pairing(draws=6, pairs=12),
    Pairing(draws=6, ranked=True),
]


@pytest.mark.parametrize("pairing", PAIRINGS)
def test_neither_order_of_rows_nor_size_of_rewards_nor_other_prompts_matter(pairing):
    rewards = table()
    pairs = make_pairs(rewards, pairing, seed=0)
    for other in (
        rewards.sample(frac=1, random_state=0),
        rewards.assign(reward=np.exp(rewards["reward"])),
        rewards[rewards["draw"] < pairing.num_draws],
    ):
        pd.testing.assert_frame_equal(make_pairs(other, pairing, seed=0), pairs)
    alone = make_pairs(rewards[rewards["prompt_id"] == "c"], pairing, seed=0)
    mine = pairs[pairs["prompt_id"] == "c"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, mine)


def test_more_blocks_change_none_of_the_first():
    rewards = table()
    for pairing in (Pairing(draws=4), Pairing(draws=4, pairs=3)):
        one = make_pairs(rewards, pairing, seed=0)
        more = make_pairs(rewards, Pairing(draws=4, pairs=pairing.pairs, blocks=3), seed=0)
        both = one.merge(more, on=["prompt_id", "pair", "chosen", "rejected"])
        assert len(both) == len(one)


def test_missing_draws_and_broken_rewards_are_named():
    rewards = table()
    with pytest.raises(ArtifactError, match=r"prompt b has 3 of the draws 0 to 3 of best-n4"):
        make_pairs(rewards.drop(index=1), Pairing(draws=4), seed=0)
    rewards.loc[1, "reward"] = np.nan
    with pytest.raises(DataError, match=r"'reward' is nan for prompt b, draw 1"):
        make_pairs(rewards, Pairing(draws=4), seed=0)
    with pytest.raises(ConfigError, match="num_pairs: 7 is not allowed; 4 draws have 6 pairs"):
        Pairing(draws=4, pairs=7)


def test_the_verb_writes_one_file_a_pairing_with_the_same_content(tmp_path):
    rewards = table().assign(reward_prob=0.5, evaluator_reward=0.0)
    write_table(tmp_path / "rewards.parquet", rewards, "rewards")
    both = '{"best-n4": {"draws": 4}, "random-d6-p12": {"draws": 6, "pairs": 12}}'
    one = '{"best-n4": {"draws": 4}}'
    given = ["--rewards", str(tmp_path / "rewards.parquet"), "--seed", "0"]
    for name, pairings in (("one", one), ("both", both)):
        assert (
            main(["pairs", *given, "--pairings", pairings, "--folder", f"{tmp_path}/{name}"]) == 0
        )
    files = [tmp_path / name / "best-n4.parquet" for name in ("one", "both")]
    assert content_hash(files[0]) == content_hash(files[1])
    found = read_table(tmp_path / "both/random-d6-p12.parquet", "pairs")
    pd.testing.assert_frame_equal(
        found, make_pairs(rewards, Pairing(draws=6, pairs=12), seed=0), check_dtype=False
    )

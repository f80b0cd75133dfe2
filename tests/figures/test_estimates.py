import numpy as np
import pandas as pd
import pytest

from vbon.analysis.excerpts import shown_pools
from vbon.artifacts import write_table
from vbon.cli import main
from vbon.errors import DataError
from vbon.figures.estimates import figure3
from vbon.pool import logf


def tables(prompts=5, draws=120):
    rng = np.random.default_rng(0)
    names = [f"p{index}" for index in range(prompts)]
    index = pd.MultiIndex.from_product([names, range(draws)], names=["prompt_id", "draw"])
    shift = np.repeat([3.0, -2.0, 0.5, 0.0, 1.0], draws)
    rewards = pd.DataFrame({"reward": rng.normal(size=len(index)) + shift}, index).reset_index()
    return rewards, pd.DataFrame({"prompt_id": names, "prompt": [f"this film {n}" for n in names]})


def test_draws_the_estimates_of_three_prompts(tmp_path):
    rewards, prompts = tables()
    shuffled = rewards.sample(frac=1, random_state=1)
    table = figure3(shown_pools(shuffled, prompts), tmp_path / "figure3")
    chosen = table.drop_duplicates("kind").set_index("kind")["prompt_id"]
    assert chosen.to_dict() == {"adversarial": "p1", "neutral": "p2", "positive": "p0"}
    assert sorted(table["m"].unique()) == [10, 25, 50, 100]
    for (name, m), part in table.groupby(["prompt_id", "m"]):
        pool = rewards[(rewards["prompt_id"] == name) & (rewards["draw"] < m)]["reward"]
        expected = logf.estimate(part["reward"].to_numpy(), np.sort(pool), "add1")
        np.testing.assert_allclose(part["log_f"], expected, atol=1e-12)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "figure3.csv"), table)
    assert all((tmp_path / f"figure3.{suffix}").exists() for suffix in ("pdf", "svg", "png"))


@pytest.mark.parametrize("text", [r"a $\frac$ b", "$5 and $6", "x_1^2", "50% & more"])
def test_prompts_are_not_mathematics(tmp_path, text):
    rewards, prompts = tables()
    table = figure3(shown_pools(rewards, prompts.assign(prompt=text)), tmp_path / "figure3")
    assert (table["prompt"] == text).all()
    assert (tmp_path / "figure3.png").exists()


def test_the_command_stores_the_rows_drawn(tmp_path):
    rewards, prompts = tables()
    rewards = rewards.assign(reward_prob=0.5, evaluator_reward=0.0)
    prompts = prompts.assign(prompt_ids=[[1]] * len(prompts), source_id="a", domain="all")
    write_table(tmp_path / "rewards.parquet", rewards, "rewards")
    write_table(tmp_path / "prompts.parquet", prompts, "prompts")
    words = [f"--train-{name}={tmp_path / name}.parquet" for name in ("rewards", "prompts")]
    assert main(["shown-pools", *words, "--output", f"{tmp_path}/shown_pools.csv"]) == 0
    stored = pd.read_csv(tmp_path / "shown_pools.csv", float_precision="round_trip")
    pd.testing.assert_frame_equal(stored, shown_pools(rewards, prompts))


def test_too_few_draws_are_named():
    rewards, prompts = tables(draws=9)
    with pytest.raises(DataError, match="9 draws"):
        shown_pools(rewards, prompts)

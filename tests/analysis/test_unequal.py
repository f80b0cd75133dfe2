"""KLs at equal win rates where rewards are unequal, against closed forms."""

import numpy as np
import pandas as pd
import pytest

from vbon.analysis.tilts import Pools
from vbon.analysis.unequal import COLUMNS, kl_at, mapped, unequal_table
from vbon.rewards.unequal import Inequality

UNEQUAL = Inequality(prompt_scale=0.7, reward_tail=0.0)


@pytest.fixture(scope="module")
def rewards():
    """200 draws for each of 60 prompts."""
    values = np.random.default_rng(0).normal(size=(60, 200))
    rows = [
        {"prompt_id": f"p{p:02}", "draw": d, "reward": values[p, d], "reward_prob": 0.5}
        for p in range(60)
        for d in range(200)
    ]
    return pd.DataFrame(rows)


def runs(method, kl, win_rate, seeds=2):
    rows = [
        {"method": method, "setting": f"s{k}", "seed": seed, "status": "ok", "kl": a, "win_rate": b}
        for k, (a, b) in enumerate(zip(kl, win_rate, strict=True))
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows)


def best_of_n(method, n, factor=1.0):
    """Runs whose KL is a multiple of best-of-n's."""
    return runs(method, factor * (np.log(n) - 1 + 1 / n), n / (n + 1))


GRID = np.array([1.2, 2.0, 4.0, 8.0, 16.0, 32.0])


def test_kl_is_read_off_at_settings_and_between_them():
    kl, rates = np.log(GRID) - 1 + 1 / GRID, GRID / (GRID + 1)
    assert [kl_at(rate, rates, kl) for rate in rates] == pytest.approx(kl.tolist())
    assert kl_at(0.75, rates, kl) == pytest.approx(np.log(3) - 1 + 1 / 3, rel=0.01)
    assert np.isnan(kl_at(0.99, rates, kl))
    assert np.isnan(kl_at(0.75, rates[:1], kl[:1]))


def test_gaps_of_trained_policies_are_their_differences(rewards):
    points = pd.concat([best_of_n("vbon", GRID), best_of_n("ppo", GRID, 1.1)])
    table = unequal_table(rewards, points, {"unequal": (UNEQUAL, best_of_n("ppo", GRID, 2))})
    assert list(table.columns) == COLUMNS
    at = table.set_index(["rewards", "win_rate"]).loc[lambda rows: rows["kl_ppo"].notna()]
    assert len(at) == 8
    for name, factor in (("as they are", 1.1), ("unequal", 2)):
        part = at.loc[name]
        assert part["trained"].to_numpy() == pytest.approx(
            (factor - 1) * part["kl_vbon"].to_numpy()
        )
        assert part["trained_sd"].to_numpy() == pytest.approx(0, abs=1e-12)


def test_one_coefficient_for_all_prompts_costs_kl_where_scales_differ(rewards):
    """Equal normal rewards leave KL-RL at best-of-n's curve within .05; unequal ones do not."""
    points = pd.concat([best_of_n("vbon", GRID), best_of_n("ppo", GRID)])
    table = unequal_table(rewards, points, {"unequal": (UNEQUAL, best_of_n("ppo", GRID))})
    gap = table.pivot(index="win_rate", columns="rewards", values="theory")
    assert gap.loc[[0.65, 0.75], "as they are"].abs().max() < 0.05
    assert (gap.loc[[0.65, 0.75], "unequal"] > 0.08).all()
    assert gap.loc[0.75, "unequal"] > gap.loc[0.65, "unequal"]


def test_mapped_pools_keep_their_ranks_and_so_best_of_n(rewards):
    pools = Pools.of(rewards)
    other = mapped(pools, Inequality(1.0, 2.0))
    assert not np.allclose(other.rewards, pools.rewards)
    assert (np.diff(other.rewards, axis=1) > 0).all()
    for n in (2, 8):
        ours, theirs = pools.means("best_of_n", n), other.means("best_of_n", n)
        assert ours["kl"] == theirs["kl"]
        assert ours["win_rate"] == theirs["win_rate"]

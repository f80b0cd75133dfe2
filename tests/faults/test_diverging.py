"""A loss that is not a number: it costs one run, which the tables name, and nothing else."""

import pandas as pd
import pytest
from checkout import SWEEP_POINTS, change, copy, edit, plan, records, run

pytestmark = [pytest.mark.faults, pytest.mark.long]
FRAGILE = '''"""PPO whose reward stops being a number."""

from dataclasses import dataclass

from vbon.methods.base import Online
from vbon.methods.registry import register

CALLS = []


@register
@dataclass(frozen=True, kw_only=True)
class Fragile(Online):
    """PPO, until it breaks."""

    paper = "none"
    optimum = None

    kl_coef: float
    """Coefficient of the KL divergence."""

    def reward(self, scored):
        """NaN from the third step on."""
        CALLS.append(1)
        broken = self.kl_coef == 1 and len(CALLS) > 2
        return scored.reward * (float("nan") if broken else 1.0)
'''
KEYS = ["method", "setting", "seed"]


def read_points(folder):
    table = pd.read_csv(folder / "results/enumerable/points.csv")
    return table.set_index(KEYS).sort_index()


def test_a_diverged_run_stops_nothing_and_is_mended(swept, tmp_path):
    folder = copy(swept, tmp_path / "checkout")
    before = records(folder)
    method = folder / "my_methods/fragile.py"
    method.parent.mkdir()
    method.write_text(FRAGILE)
    added = ["reference", "best_of_n", "ppo", "vbon", "fragile"]
    change(folder, "run_methods", value=added)
    change(folder, "methods", "fragile", value={"kl_coef": [0.5, 1], "seeds": [0]})
    run(folder, "--cores", "2", VBON_METHODS="my_methods")
    points, undisturbed = read_points(folder), read_points(swept)
    lost = points.loc["fragile", "beta1", 0]
    assert lost["status"] == "diverged"
    assert lost[["kl", "kl_se", "win_rate", "reward", "reward_se", "evaluator_reward"]].isna().all()
    pd.testing.assert_frame_equal(points.drop(index="fragile", level="method"), undisturbed)
    assert points.loc["fragile", "beta0.5", 0]["status"] == "ok"
    assert not (folder / "results/enumerable/runs/fragile/beta1/seed0/responses").exists()
    for name in ("figures/optimum.png", "tables/optimum.md", "pareto.csv"):
        assert (folder / "results/enumerable" / name).stat().st_size > 0
    assert plan(folder, VBON_METHODS="my_methods") == "12 runs, to train: 0"

    edit(method, " and len(CALLS) > 2", " and False")
    assert plan(folder, VBON_METHODS="my_methods") == "12 runs, to train: 2"
    run(folder, "--cores", "2", *SWEEP_POINTS, VBON_METHODS="my_methods")
    points = read_points(folder)
    assert before.items() <= records(folder).items()
    pd.testing.assert_frame_equal(points.drop(index="fragile", level="method"), undisturbed)
    mended, plain = points.loc["fragile"], undisturbed.loc["ppo"]
    pd.testing.assert_frame_equal(mended, plain.loc[mended.index])  # it is PPO now
    print("\ndiverged: 1; runs kept: 10; mended and trained again: 2")

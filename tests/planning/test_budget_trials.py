"""Trials of budgets: their cost by the formulas of cost.py, and limits checked before any work."""

from pathlib import Path

import pytest
import yaml

from vbon.errors import ConfigError
from vbon.planning.config import merge, resolve
from vbon.planning.cost import estimate, shape_of
from vbon.planning.trials import is_trial
from vbon.planning.workflow import Plan
from vbon.tasks.base import ROLES

ROOT = Path(__file__).parent.parent.parent
CONFIG, TUNING = (
    yaml.safe_load((ROOT / name).read_text()) for name in ("config.yaml", "config/tuning.yaml")
)


def plan(*overlays):
    config = CONFIG
    for overlay in overlays:
        config = merge(config, overlay)
    return Plan(resolve(config), has_code=False)


@pytest.fixture(scope="module")
def tuning():
    return plan(TUNING)


def test_every_method_has_as_many_trials_at_each_level(tuning):
    costs = tuning.costs["sentiment"].values()
    methods = {cost["method"] for cost in costs}
    assert methods == {"ppo", "vbon", "dpo", "bonbon", "bon_sft"}
    for level, number in {1: 6, 4: 4}.items():
        cells = [cost for cost in costs if cost["level"] == level]
        assert sorted(cost["method"] for cost in cells) == sorted([*methods] * number)
        assert max(cost["cost"] for cost in cells) <= level


def test_costs_are_those_of_single_runs_in_units_of_the_first_trial(tuning):
    section = tuning.roots["sentiment"].section
    shapes = {role: shape_of(section, role, role == "reference") for role in ROLES}

    def operations(study):
        run = tuning.studied("sentiment", study)[0]
        return estimate(section, [run], shapes).training.flop

    costs = tuning.costs["sentiment"]
    unit = operations("x1-ppo-a")
    for study in ("x1-ppo-a", "x4-dpo-b", "x1-vbon-c", "x1-bon_sft-b"):
        assert costs[study]["cost"] == pytest.approx(operations(study) / unit)
    assert costs["x1-ppo-a"]["tokens"] == 24 * 512 * 16


def test_a_trial_above_its_level_is_refused_before_any_work():
    budget = {"ppo": {"warm_start": 0, "iterations": 25}}
    study = {"run_methods": ["ppo"], "budgets": budget}
    overlay = {"sentiment": {"studies": {"x1-ppo-g": study}}}
    message = r"sentiment\.studies\.x1-ppo-g: a run costs 1\.042 times .* at most 1"
    with pytest.raises(ConfigError, match=message):
        plan(TUNING, overlay)


def test_the_default_configuration_has_no_trials():
    default = plan()
    assert default.costs == {"enumerable": {}, "sentiment": {}, "summarization": {}}
    assert "trials" not in default.tables("sentiment")
    assert not is_trial("figure4")


def test_trials_state_every_key_that_config_yaml_gives_their_method(tuning):
    """Otherwise a trial would change with the choice that it led to."""
    for method, budget in CONFIG["sentiment"]["budgets"].items():
        for cost in tuning.costs["sentiment"].values():
            assert cost["method"] != method or set(budget) <= set(cost["budget"])

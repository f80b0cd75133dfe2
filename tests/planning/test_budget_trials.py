"""Trials of budgets: their cost by the formulas of cost.py, and limits checked before any work."""

from pathlib import Path

import pandas as pd
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
LOOP = {"start", "learning_rate"}
WARM_START = {"warm_start", "warm_start_batch", "warm_start_rate"}
ONLINE = LOOP | WARM_START | {"iterations", "tilt_floor"}
OFFLINE = LOOP | {"updates", "blocks"}


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
    for level, number in {1: 8, 4: 3}.items():
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
    overlay = {"sentiment": {"studies": {"x1-ppo-z": study}}}
    message = r"sentiment\.studies\.x1-ppo-z: a run costs 1\.042 times .* at most 1"
    with pytest.raises(ConfigError, match=message):
        plan(TUNING, overlay)


@pytest.mark.parametrize(
    "study", [{"run_methods": ["vbon"]}, {"run_methods": ["ppo"]}, {"budgets": {"vbon": {}}}]
)
def test_a_trial_needs_runs_and_a_budget_of_its_method(study):
    complete = {"run_methods": ["reference"], "methods": {"vbon": {"n": [3]}}, **study}
    overlay = {"sentiment": {"budgets": {}, "studies": {"x1-vbon-z": complete}}}
    with pytest.raises(
        ConfigError, match=r"studies\.x1-vbon-z: .* run_methods: \[vbon\] and budgets"
    ):
        plan(TUNING, overlay)


def test_the_default_configuration_has_no_trials():
    default = plan()
    assert default.costs == {"enumerable": {}, "sentiment": {}, "summarization": {}}
    assert "trials" not in default.tables("sentiment")
    assert not is_trial("figure4")


def test_trials_depend_on_no_choice_that_they_led_to(tuning):
    """They state every key of the loop that config.yaml chooses, and all others are common."""
    assert all(
        cost["budget"].keys() in (ONLINE, OFFLINE) for cost in tuning.costs["sentiment"].values()
    )
    for method, budget in CONFIG["sentiment"]["budgets"].items():
        assert budget.keys() <= (ONLINE if method in ("ppo", "vbon") else OFFLINE)


@pytest.mark.parametrize("method", ["ppo", "vbon", "vbon_l", "dpo", "bonbon", "bon_sft"])
def test_the_default_budgets_are_the_published_choice(method):
    trials = pd.read_csv(ROOT / "published/tuning/trials.csv").query("level == 1 and best")
    chosen = trials[trials["method"] == method.removesuffix("_l")]  # the bound has vBoN's
    words = chosen["budget"].item().replace("None", "null")
    runs = [run for run in plan().runs_of("sentiment") if run.method == method]
    run = next(run for run in runs if not run.instance.is_reference)
    loop = run.spec.get("online") or run.spec["offline"]
    budget = yaml.safe_load(f"{{{words}}}")
    assert {key: loop[key] for key in budget} == budget

from pathlib import Path

import pytest

from vbon.config import load, merge, resolve
from vbon.errors import ConfigError
from vbon.plan import expand, jobs

ROOT = Path(__file__).parent.parent
DEFAULT = load([ROOT / "config.yaml"])


def runs(overlay: dict | None = None) -> list:
    return expand(resolve(merge(DEFAULT, overlay or {})))


def names(found: list) -> set:
    return {(run.root, run.method, run.setting, run.seed) for run in found}


def test_every_run_has_a_folder_of_its_own():
    found = runs()
    assert len({run.folder for run in found}) == len(found)


def test_one_more_value_adds_its_seeds_and_nothing_else():
    grid = DEFAULT["methods"]["ppo"]["kl_coef"]
    more = runs({"methods": {"ppo": {"kl_coef": [*grid, 0.7]}}})
    added = names(more) - names(runs())
    assert {(method, setting) for _, method, setting, _ in added} == {("ppo", "beta0.7")}
    assert {seed for *_, seed in added} == set(DEFAULT["seeds"])
    assert names(runs()) <= names(more)


def test_another_key_does_not_change_the_spec_of_unaffected_runs():
    before = {run.folder: run.spec for run in runs()}
    after = {run.folder: run.spec for run in runs({"sentiment": {"logf": {"m": 100}}})}
    differing = {folder for folder in before if before[folder] != after[folder]}
    assert differing
    assert all("/sentiment/runs/vbon" in folder for folder in differing)
    assert not any("/n1/" in folder for folder in differing)  # the reference needs no log F
    after = {run.folder: run.spec for run in runs({"figures": {"bootstrap": 20}})}
    assert after == before


def test_slugs_name_the_swept_fields():
    found = {run.setting for run in runs() if run.method in ("ppo", "vbon", "reference")}
    assert {"beta0.05", "beta1", "n4", "default"} <= found


def test_a_method_may_have_seeds_of_its_own():
    found = runs({"methods": {"vbon": {"seeds": [5, 6, 7]}}, "tasks": ["sentiment"]})
    assert {run.seed for run in found if run.method == "vbon"} == {5, 6, 7}
    assert {run.seed for run in found if run.method == "ppo"} == set(DEFAULT["seeds"])


def test_studies_have_roots_of_their_own():
    roots = {run.root for run in runs() if run.task == "enumerable"}
    assert "results/enumerable" in roots
    assert "results/enumerable/studies/tied" in roots


def test_jobs_hold_every_run_once_and_no_more_than_asked_for():
    found = runs()
    grouped = jobs(found, 5)
    assert [run for group in grouped.values() for run in group] == found
    assert max(map(len, grouped.values())) == 5


def test_a_method_without_settings_entry_is_named():
    config = resolve(DEFAULT)
    del config["methods"]["ppo"]
    with pytest.raises(ConfigError, match=r"methods\.ppo: missing"):
        expand(config)

from pathlib import Path

import pytest
import yaml

from vbon.errors import ConfigError
from vbon.planning.config import load, merge, resolve
from vbon.planning.runs import advice, expand, jobs, pair_files
from vbon.tasks.base import evaluation_splits

ROOT = Path(__file__).parent.parent.parent
DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())


def runs(overlay: dict | None = None) -> list:
    return expand(resolve(merge(DEFAULT, overlay or {})))


def names(found: list) -> set:
    return {(run.root, run.method, run.setting, run.seed) for run in found}


def test_every_run_has_a_folder_of_its_own():
    found = runs()
    assert len({run.folder for run in found}) == len(found)


def test_one_more_value_adds_its_seeds_and_nothing_else():
    grid = DEFAULT["methods"]["dpo"]["kl_coef"]
    more = runs({"methods": {"dpo": {"kl_coef": [*grid, 0.7]}}})
    added = names(more) - names(runs())
    assert {(method, setting) for _, method, setting, _ in added} == {("dpo", "beta0.7")}
    assert {seed for *_, seed in added} == set(DEFAULT["seeds"])
    assert names(runs()) <= names(more)


def test_another_key_does_not_change_the_spec_of_unaffected_runs():
    before = {run.folder: run.spec for run in runs()}
    after = {run.folder: run.spec for run in runs({"sentiment": {"logf": {"m": 100}}})}
    differing = {folder for folder in before if before[folder] != after[folder]}
    assert differing
    online = ("/runs/vbon", "/runs/ppo/")  # their warm start reads as many stored draws
    assert all("/sentiment/" in f and any(name in f for name in online) for f in differing)
    assert not any("/n1/" in folder for folder in differing)  # the reference needs no log F
    after = {run.folder: run.spec for run in runs({"figures": {"bootstrap": 20}})}
    assert after == before


OFFLINE = {
    "tasks": ["sentiment"],
    "run_methods": ["ppo", "bon_sft", "dpo", "bonbon"],
    "methods": {
        "ppo": {"kl_coef": [0.1]},
        "bon_sft": {"n": [1, 8]},
        "dpo": {"kl_coef": [0.1]},
        "bonbon": {"n": [8]},
    },
}


def offline_runs(section: dict | None = None, **methods: dict) -> list:
    """Runs under the schema's defaults, which no change of the shipped configuration moves."""
    given = {**OFFLINE, "methods": OFFLINE["methods"] | methods, "sentiment": section or {}}
    return expand(resolve(given))


def test_an_offline_run_reads_pairs_and_samples_and_depends_on_no_log_f():
    listed = offline_runs()
    for run in listed:
        if run.method == "ppo" or run.instance.is_reference:
            assert not {"pairs", "samples"} & set(run.inputs())
            continue
        assert run.inputs()["samples"].endswith("sentiment/reference/samples/train.parquet")
        assert set(run.spec) == {"method", "values", "seed", "offline", "sampling", "rewards"}
        assert run.pairing.blocks == 1
    found = {run.method: Path(run.inputs().get("pairs", "")).stem for run in listed}
    assert found == {"ppo": "", "bon_sft": "best-n8", "dpo": "random-d6-p12", "bonbon": "best-n8"}
    files = pair_files(listed)
    assert files.keys() == {"results/sentiment/reference/pairs"}
    assert set(*files.values()) == {"best-n8", "random-d6-p12"}


def test_a_budget_belongs_to_one_method_and_changes_no_other():
    budgets = {"dpo": {"epochs": 3}, "bonbon": {"blocks": 5}, "ppo": {"iterations": 7}}
    before = {run.folder: run for run in offline_runs()}
    after = {run.folder: run for run in offline_runs({"budgets": budgets})}
    assert before.keys() == after.keys()
    for folder, run in before.items():
        differs = run.spec != after[folder].spec
        assert differs == (run.method in budgets), folder
        for loop in {"online", "offline"} & set(run.spec):
            assert after[folder].spec[loop] == run.spec[loop] | budgets.get(run.method, {})
    stems = {Path(run.inputs().get("pairs", "")).stem for run in after.values()}
    assert stems == {"", "best-n8", "best-n8-b5", "random-d6-p12"}


@pytest.mark.parametrize(
    ("budgets", "words"),
    [
        ({"dop": {}}, ["sentiment.budgets.dop", "no trained method", "dpo"]),
        ({"best_of_n": {}}, ["sentiment.budgets.best_of_n", "no trained method"]),
        ({"dpo": {"iterations": 3}}, ["sentiment.budgets.dpo.iterations: unknown key", "epochs"]),
        ({"ppo": {"iteratons": 3}}, ["sentiment.budgets.ppo.iteratons", "'iterations'"]),
        ({"ppo": {"learning_rate": "fast"}}, ["sentiment.budgets.ppo.learning_rate", "'fast'"]),
        ({"ppo": {"draws_per_prompt": 3}}, ["sentiment.budgets.ppo", "does not divide"]),
    ],
)
def test_a_budget_that_makes_no_sense_is_named_in_one_line(budgets, words):
    with pytest.raises(ConfigError) as error:
        offline_runs({"budgets": budgets})
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_several_gpus_change_no_run():
    base = merge(OFFLINE, {"gpus_per_job": 2})
    assert [run.spec for run in runs(base)] == [run.spec for run in runs(OFFLINE)]


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        ({"bonbon": {"n": [8, 851]}}, ["methods.bonbon.n", "851", "train_draws gives 850"]),
        ({"dpo": {"kl_coef": 1, "num_draws": 900}}, ["methods.dpo.num_draws", "900", "850"]),
    ],
)
def test_more_draws_than_are_stored_are_refused_before_any_work(methods, words):
    with pytest.raises(ConfigError) as error:
        offline_runs(**methods)
    assert all(word in str(error.value) for word in words)


def test_as_many_blocks_are_used_as_there_are_draws_for():
    found = offline_runs({"offline": {"blocks": 12}}, bonbon={"n": [8, 70, 71, 850]})
    blocks = [run.pairing.blocks for run in found if run.method == "bonbon"]
    assert blocks[::2] == [12, 12, 11, 1]
    assert [run.spec["offline"]["blocks"] for run in found if run.method == "bonbon"] == blocks


SIBLINGS = {
    "tasks": ["sentiment"],
    "run_methods": ["rloo", "vbon_rloo", "ppo"],
    "methods": {"rloo": {"kl_coef": [0.1]}, "vbon_rloo": {"n": [1, 4]}},
}


def test_a_method_that_compares_responses_needs_two_of_each_prompt():
    enough = {name: {"draws_per_prompt": 2} for name in ("rloo", "vbon_rloo")}
    assert runs(SIBLINGS | {"sentiment": {"budgets": enough}})
    for name in enough:
        budgets = {**enough, name: {}}
        with pytest.raises(ConfigError) as error:
            runs(SIBLINGS | {"sentiment": {"budgets": budgets}})
        assert f"sentiment.budgets.{name}.draws_per_prompt: 1 is not allowed" in str(error.value)
        assert "\n" not in str(error.value)
    alone = {"run_methods": ["vbon_rloo"], "methods": {"vbon_rloo": {"n": [1]}}}
    assert runs(SIBLINGS | alone)  # the reference is not trained


BOND = {
    "tasks": ["sentiment"],
    "run_methods": ["bond"],
    "methods": {"bond": {"updates": [5, 9]}},
    "seeds": [0],
}


def test_a_method_that_defines_its_loop_depends_on_no_other_length_of_it():
    before = [run for run in runs(BOND) if not run.study]
    assert [run.setting for run in before] == ["updates5", "updates9"]
    for run in before:
        expected = {"iterations": run.values["updates"], "epochs": 1, "whiten": "none"}
        assert run.spec["online"].items() >= expected.items()
        assert run.spec["online"]["minibatch"] == run.spec["online"]["rollouts"]
        assert not {"logf", "samples", "pairs"} & set(run.inputs())
    longer = {"iterations": 999, "epochs": 3, "minibatch": 32, "whiten": "minibatch"}
    after = [run for run in runs(BOND | {"sentiment": {"online": longer}}) if not run.study]
    assert [run.spec for run in after] == [run.spec for run in before]


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ({"gamma": 0.9, "value_target": "to_go"}, "budgets.bond.gamma: 0.9 is not allowed"),
        ({"iterations": 7}, "sentiment.budgets.bond.iterations: 7 is not allowed"),
        ({"whiten": "batch"}, "sentiment.budgets.bond.whiten: 'batch' is not allowed"),
    ],
)
def test_a_budget_against_what_the_method_defines_is_refused(budget, words):
    with pytest.raises(ConfigError) as error:
        runs(BOND | {"sentiment": {"budgets": {"bond": budget}}})
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_slugs_name_the_swept_fields():
    found = {run.setting for run in runs() if run.method in ("ppo", "vbon", "reference")}
    assert {"beta0.05", "beta1", "n4", "default"} <= found


def test_a_method_may_have_seeds_of_its_own():
    found = runs({"methods": {"vbon": {"seeds": [5, 6, 7]}}, "tasks": ["sentiment"]})
    own = [run for run in found if not run.study]  # studies may have others
    assert {run.seed for run in own if run.method == "vbon"} == {5, 6, 7}
    assert {run.seed for run in own if run.method == "dpo"} == set(DEFAULT["seeds"])


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


def test_the_matched_study_gives_every_method_as_many_responses_and_parameters():
    """64 responses to each of the 512 prompts: rollouts, draws for F, or draws for pairs."""
    config = load([ROOT / "config.yaml", ROOT / "config/matched.yaml"])
    prompts = config["sentiment"]["prompts"]["num_train"]
    found = {}
    for run in expand(config):
        if run.study == "matched":
            loop = run.spec.get("online") or run.spec["offline"]
            responses = prompts * run.spec.get("logf", {"m": 0})["m"]
            responses += loop.get("iterations", 0) * loop.get("rollouts", 0)
            responses += prompts * (run.pairing.num_draws if run.pairing else 0)
            found.setdefault(run.method, set()).add((responses, loop["trainable"]))
    assert set(found) == {"bon_sft", "ppo", "dpo", "bonbon", "vbon"}
    assert set.union(*found.values()) == {(64 * 512, "all")}


def vbon_runs(changes, **sentiment):
    given = {"run_methods": ["vbon"], "seeds": [0], "tasks": ["sentiment"]}
    given |= {"methods": {"vbon": {"n": 4, **changes}}, "sentiment": sentiment}
    return expand(resolve(given))


def test_a_method_may_sweep_how_log_f_is_estimated():
    found = vbon_runs({"m": [16, 600], "estimator": ["add1", "shared", "ibs"]})
    inputs = {run.setting: {k: Path(v).stem for k, v in run.inputs().items()} for run in found}
    assert {run.spec["logf"]["m"] for run in found} == {16, 600}
    assert inputs["m16-add1"]["logf"] == inputs["m16-shared"]["logf"] == "train-m16"
    assert inputs["m600-add1"]["logf"] == "train"  # the task's own m
    assert inputs["m16-shared"]["prior"] == "prior-m16"
    assert not {"logf", "prior"} & set(inputs["m16-ibs"])
    assert "prior" not in inputs["m600-add1"]
    assert all(run.values == {"n": 4} for run in found)


@pytest.mark.parametrize(
    ("changes", "sentiment", "message"),
    [
        ({"m": 900}, {}, r"methods\.vbon\.m: 900 draws requested, sentiment\.sampling"),
        ({"m": 1}, {}, r"methods\.vbon\.m: 1 is not allowed.*give 2 or more"),
        ({"estimator": "median"}, {}, r"methods\.vbon\.estimator: 'median' is not allowed"),
        ({"estimator": "posterior"}, {}, r"methods\.vbon\.estimator: 'posterior' is not allowed"),
        ({"mid_ranks": True}, {}, r"methods\.vbon\.mid_ranks: unknown setting; accepted: n, m"),
        (
            {"estimator": "shared"},
            {"prompts": {"num_train": 4}},
            r"methods\.vbon\.estimator: 'shared' learns from 8 training prompts or more",
        ),
        ({}, {"logf": {"mid_ranks": True}}, r"sentiment\.logf\.mid_ranks: unknown key"),
        ({}, {"offline": {"trainer": "trl"}}, r"sentiment\.offline\.trainer: unknown key"),
        (
            {},
            {"rewards": {"transform": "cube"}},
            r"transform: 'cube' .*accepted: identity, exp",
        ),
    ],
)
def test_estimates_that_cannot_be_made_are_refused_by_name(changes, sentiment, message):
    with pytest.raises(ConfigError, match=message):
        vbon_runs(changes, **sentiment)


def test_a_method_without_log_f_has_no_such_settings():
    with pytest.raises(ConfigError, match=r"methods\.ppo\.m: unknown setting; accepted: kl_coef"):
        runs({"methods": {"ppo": {"m": 4}}})


def test_where_f_is_exact_nothing_can_be_estimated():
    with pytest.raises(ConfigError, match=r"methods\.vbon\.m: 8 is not allowed where enumerable"):
        runs({"enumerable": {"methods": {"vbon": {"m": 8}}}})


def test_fewer_draws_than_n_are_advised_against_and_no_others():
    assert advice(runs()) == []
    (line,) = advice(vbon_runs({"n": [8, 40], "m": 16}))
    assert line.startswith("sentiment: vbon n40 estimates log F from m = 16 draws for n = 40")
    assert "above which 71% of best-of-n's responses lie" in line


def test_only_monitored_runs_read_the_evaluator():
    """What no method trains on may still be watched, and then a run depends on it."""
    overlay = {"tasks": ["sentiment", "summarization"]}
    for run in runs(overlay):
        trained = run.instance.trained and not run.instance.is_reference
        watched = run.task == "summarization" and trained
        assert ("evaluator" in run.inputs()) == watched
    plain = runs(overlay | {"summarization": {"rewards": {"monitored": 0}}})
    assert not any("evaluator" in run.inputs() for run in plain)


def test_every_temperature_has_draws_of_its_own():
    config = resolve(merge(DEFAULT, {"tasks": ["summarization"]}))
    splits = evaluation_splits(config["summarization"])
    assert splits == {"test-t0.25": 0.25, "test-t0.5": 0.5, "test-t0.75": 0.75, "test-t1": 1}
    run = expand(config)[0]
    found = [run.evaluation_inputs(split)["samples"] for split in splits]
    assert len(set(found)) == 4
    assert len({run.evaluation_inputs(split)["prompts"] for split in splits}) == 1


@pytest.mark.parametrize("where", ["methods", "sentiment.methods"])
def test_settings_of_a_method_that_is_not_there_are_refused(where):
    overlay: dict = {"methods": {"vbonn": {"n": [4]}}}
    for key in reversed(where.split(".")[:-1]):
        overlay = {key: overlay}
    with pytest.raises(ConfigError, match=rf"^{where}.vbonn: .*did you mean 'vbon'\?"):
        runs(overlay)


def test_a_warm_start_reads_the_draws_that_estimate_log_f():
    methods = {"vbon": {"n": 4, "m": [16, 600]}, "ppo": {"kl_coef": 1}}
    given = {"run_methods": ["vbon", "ppo"], "seeds": [0], "tasks": ["sentiment"]}
    given |= {"methods": methods}
    plain = expand(resolve(given))
    assert not any("stored_draws" in run.spec or "samples" in run.inputs() for run in plain)
    warm = expand(resolve(given | {"sentiment": {"online": {"warm_start": 8}}}))
    assert [run.spec["stored_draws"] for run in warm] == [16, 600, 600]
    assert all({"samples", "rewards"} <= set(run.inputs()) for run in warm)


@pytest.mark.parametrize("setting", [{"warm_start": 8}, {"tilt_floor": 5}])
def test_a_warm_start_or_a_floor_needs_stored_draws(setting):
    (name,) = setting
    assert all("stored_draws" in run.spec for run in vbon_runs({}, online=setting))
    with pytest.raises(ConfigError, match=rf"online\.{name}: {setting[name]} .*estimator: ibs"):
        vbon_runs({}, online=setting, logf={"estimator": "ibs"})


def test_an_informed_start_is_read_by_trained_runs_alone_and_refused_for_languages():
    methods = {"vbon": {"n": [1, 4]}, "dpo": {"kl_coef": 1}, "bond": {"updates": 5}}
    given = {"run_methods": list(methods), "seeds": [0], "tasks": ["sentiment"], "methods": methods}
    loops = {"online": {"start": "informed"}, "offline": {"start": "informed"}}
    plain = expand(resolve(given))
    informed = expand(resolve(given | {"sentiment": loops}))
    assert not any("start" in run.inputs() for run in plain)
    # The reference is not trained, and an anchor starts as the reference.
    assert [run.method for run in informed if "start" in run.inputs()] == ["vbon", "dpo"]
    start = "results/sentiment/models/informed"
    assert {run.inputs().get("start") for run in informed} == {start, None}
    with pytest.raises(ConfigError, match=r"enumerable\.online\.start: 'informed' .*reference"):
        expand(resolve(given | {"tasks": ["enumerable"], "enumerable": loops}))

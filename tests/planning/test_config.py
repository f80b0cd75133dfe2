import copy
import re
from pathlib import Path

import pytest
import yaml
from snakemake.utils import update_config

from vbon.errors import ConfigError, number_hint
from vbon.planning.config import load, merge, resolve, schema
from vbon.planning.runs import expand

ROOT = Path(__file__).parent.parent.parent
DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())


def changed(path: str, value: object) -> dict:
    config = copy.deepcopy(DEFAULT)
    node = config
    *parents, last = path.split(".")
    for key in parents:
        node = node.setdefault(key, {})
    node[last] = value
    return config


def test_shipped_configs_resolve_and_expand():
    over = {"real-gpu.yaml": ["real.yaml"]}
    for file in (None, *sorted((ROOT / "config").glob("*.yaml"))):
        names = [] if file is None else [*over.get(file.name, []), file.name]
        config = load([ROOT / "config.yaml", *(ROOT / "config" / name for name in names)])
        assert expand(config)


def test_merge_is_what_snakemake_does():
    base = {"a": {"x": 1, "y": {"z": [1, 2]}}, "b": [1, 2], "c": 3}
    overlay = {"a": {"y": {"z": [9]}, "w": 5}, "b": [7], "d": {"e": None}}
    theirs = copy.deepcopy(base)
    update_config(theirs, overlay)
    assert merge(base, overlay) == theirs
    assert base["b"] == [1, 2]


def test_resolving_twice_changes_nothing():
    once = resolve(DEFAULT)
    assert resolve(once) == once


def test_every_key_is_described_and_optional_ones_have_defaults():
    def walk(node, path):
        for key, child in node.get("properties", {}).items():
            assert child.get("description"), f"{path}{key} has no description"
            walk(child, f"{path}{key}.")

    walk(schema(), "")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("sentiment.sampling.train_drws", 5, ["sentiment.sampling.train_drws", "'train_draws'"]),
        ("trian", {}, ["trian", "unknown key"]),
        ("sentiment.online.learning_rate", "fast", ["learning_rate", "'fast'", "number"]),
        ("sentiment.online.learning_rate", 0, ["learning_rate", "more than 0"]),
        ("sentiment.online.learning_rate", "1e-4", ["number", "write 1.0e-4"]),
        ("sentiment.rewards.missing_eos", "-.5E1", ["number", "write -0.5e+1"]),
        ("sentiment.logf.m", "1e2", ["sentiment.logf.m", "write 1.0e+2"]),
        ("sentiment.checks.p_positive", ["1e-1", 1], ["p_positive.0", "write 1.0e-1"]),
        ("sentiment.online.schedule", "cosine", ["schedule", "linear, constant"]),
        ("seeds", ["0"], ["seeds.0", "'0'", "integer"]),
        ("seeds", [], ["seeds", "at least one"]),
        ("sentiment.logf.m", 10_000, ["sentiment.logf.m", "train_draws", "850"]),
        ("sentiment.prompts.min_tokens", 1, ["min_tokens", "1", "2 or more"]),
        ("sentiment.prompts.max_tokens", 2, None),
        ("sentiment.online.draws_per_prompt", 3, ["draws_per_prompt", "divide"]),
        ("sentiment.online.value_model", "separate", ["value_trains_trunk: False", "give true"]),
        ("sentiment.evaluator.build.heads", 3, ["build.width: 64", "not a multiple", "heads = 3"]),
        ("sentiment.evaluator.build.widht", 3, ["build.widht: unknown key", "'width'"]),
        ("sentiment.evaluator.build.epochs", -1, ["build.epochs", "0 or more"]),
        ("sentiment.evaluator.build.held_out", 1, ["build.held_out", "less than 1"]),
        ("sentiment.evaluator.build.architecture", "gpt2", ["distilbert, electra"]),
        ("sentiment.evaluation.responses", 10_000, ["responses", "fresh_draws"]),
        ("enumerable.studies.tied.reward", "ranked", ["enumerable.studies.tied.reward", "ranked"]),
        ("enumerable.studies.tied.rewrd", "tied", ["enumerable.studies.tied.rewrd", "'reward'"]),
    ],
)
def test_bad_values_are_named_in_one_line(path, value, words):
    config = changed(path, value)
    if words is None:
        assert resolve(config)
        return
    with pytest.raises(ConfigError) as error:
        resolve(config)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("methods.vbon.n", [0.5], ["methods.vbon.n", "0.5", ">= 1"]),
        ("methods.ppo.kl_coef", [0], ["methods.ppo.kl_coef", "0", "> 0"]),
        ("methods.ppo.kl_coef", [-1.0], ["methods.ppo.kl_coef", "-1.0"]),
        ("methods.ppo.beta", [1.0], ["methods.ppo.beta", "unknown setting", "kl_coef"]),
        ("methods.best_of_n.n", [2.5], ["methods.best_of_n.n", "whole"]),
        ("methods.ppo.seeds", ["0"], ["methods.ppo.seeds", "whole numbers"]),
        ("methods.vbon", {}, ["methods.vbon", "n"]),
        ("run_methods", ["vbonn"], ["vbonn", "known", "vbon_l"]),
    ],
)
def test_bad_method_settings_are_named_before_any_work(path, value, words):
    with pytest.raises(ConfigError) as error:
        expand(resolve(changed(path, value)))
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("text", ["1e-4", "1E5", "-.5e3", "2.e+1", "3", "+7", "1.5", "1e06"])
def test_a_number_written_as_the_hint_says_is_read_as_that_number(text):
    written = number_hint(text).rpartition(" ")[2].rstrip(")")
    assert yaml.safe_load(written) == float(text)


@pytest.mark.parametrize(
    ("task", "section", "words"),
    [
        ("sentiment", {"tokenizer": {"kind": "bpe", "vocab_size": 100}}, "vocab_size: 100 .* 260"),
        ("sentiment", {"tokenizer": {"kind": "bpe", "fill": True}}, "fill: true .* give words"),
        ("sentiment", {"reviews": {"fractions": {"reference": 0.9}}}, "fractions: shares have sum"),
        ("sentiment", {"prompts": {"num_train": 1_000_000}}, r"num_train: 1000000 is more than"),
        ("summarization", {"prompts": {"num_test": 1_000_000}}, "num_test: 1000000 is more than"),
        ("summarization", {"evaluation": {"temperatures": [0.5, 0.50000001, 1]}}, "two are named"),
        ("summarization", {"sampling": {"fresh_draws": 99}}, r"best_of_n\.n: 100 .* gives 99"),
        ("sentiment", {"methods": {"best_of_n": {"n": 100_000}}}, "best_of_n.n: 100000 draws req"),
    ],
)
def test_what_a_later_job_would_refuse_is_refused_at_once(task, section, words):
    overlay = merge(DEFAULT, {"tasks": [task], task: section})
    with pytest.raises(ConfigError, match=words):
        expand(resolve(overlay))


def test_an_empty_grid_is_refused():
    with pytest.raises(ConfigError, match=re.escape("methods.vbon.n")):
        resolve(changed("methods.vbon.n", []))


def test_unreadable_yaml_is_named(tmp_path):
    file = tmp_path / "broken.yaml"
    file.write_text("a: [1, 2")
    with pytest.raises(ConfigError, match=r"broken\.yaml"):
        load([file])


def summarization(**changes):
    return {"tasks": ["summarization"], "summarization": changes}


def test_models_must_have_room_for_prompt_and_response():
    config = load([ROOT / "config.yaml"])
    assert config["summarization"]["reference"]["build"]["architecture"] == "gpt_neox"
    with pytest.raises(
        ConfigError, match=r"summarization\.evaluator\.build\.max_tokens: 80 is too"
    ):
        resolve(merge(DEFAULT, summarization(evaluator={"build": {"max_tokens": 80}})))
    resolve(
        merge(DEFAULT, summarization(evaluator={"id": "some/model", "build": {"max_tokens": 80}}))
    )


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"prompts": {"num_test": 31}}, "summarization.prompts.num_test"),
        ({"evaluation": {"temperatures": [0]}}, "summarization.evaluation.temperatures.0: 0"),
        ({"evaluation": {"sample_seeds": [1, 1]}}, "a value is repeated"),
        ({"evaluation": {"responses": 101}}, "summarization.evaluation.responses: 101 requested"),
        ({"rewards": {"monitored": -1}}, "summarization.rewards.monitored: -1"),
        ({"posts": {"in_domain": []}}, "summarization.posts.in_domain"),
        ({"prompts": {"min_tokens": 3}}, "summarization.prompts.min_tokens: unknown key"),
        ({"reward_model": {"build": {"architecture": "gpt2"}}}, "build.architecture: unknown key"),
    ],
)
def test_summarization_refuses_what_cannot_work(section, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        resolve(merge(DEFAULT, summarization(**section)))


def test_an_overlay_drops_a_study_by_null():
    config = resolve(merge(DEFAULT, {"sentiment": {"studies": {"estimators": None}}}))
    left = {"equivalence", "figure4", "unequal", "heavy_tail"}
    assert set(config["sentiment"]["studies"]) == left


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"fractions": {"train": 0, "test": 0.06}}, "sentiment.reviews.fractions.train: 0 is not"),
        ({"fractions": {"reference": 0, "test": 0.255}}, "sentiment.reviews.fractions.reference"),
        ({"test_source": "other.jsonl"}, "sentiment.reviews.test_source: 'other.jsonl'"),
    ],
)
def test_every_part_that_is_needed_has_texts(section, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        resolve(merge(DEFAULT, {"sentiment": {"reviews": section}}))


def test_models_with_ids_need_no_texts():
    shares = {"reference": 0, "reward_model": 0, "evaluator": 0, "train": 1, "test": 0}
    reviews = {"source": "a.jsonl", "test_source": "b.jsonl", "fractions": shares}
    models = {role: {"id": "./mine"} for role in ("reference", "reward_model", "evaluator")}
    resolve(merge(DEFAULT, {"tasks": ["sentiment"], "sentiment": {"reviews": reviews, **models}}))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"callable": "reward.py"}, "sentiment.reward_model.callable: 'reward.py' is not allowed"),
        ({"callable": "r.py:f", "id": "x/y"}, "sentiment.reward_model.callable: 'r.py:f' is not"),
    ],
)
def test_a_reward_is_a_model_or_a_function(model, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        resolve(merge(DEFAULT, {"sentiment": {"reward_model": model}}))
    with pytest.raises(ConfigError, match=r"sentiment\.reference\.callable: unknown key"):
        resolve(merge(DEFAULT, {"sentiment": {"reference": {"callable": "r.py:f"}}}))


def test_sections_that_share_a_mapping_get_their_own_defaults():
    """As with an anchor in YAML: kinds have different keys."""
    few = {"num_train": 2, "num_test": 4}
    sections = {"sentiment": {"prompts": few}, "summarization": {"prompts": few}}
    runs = {"run_methods": ["reference"], "methods": {}}
    config = resolve({**sections, **runs, "tasks": list(sections)})
    assert config["sentiment"]["prompts"]["min_tokens"] == 2
    assert "min_tokens" not in config["summarization"]["prompts"]
    assert few == {"num_train": 2, "num_test": 4}

"""Files of the user's are inputs: their content decides, and a missing one is refused at once."""

import json
import os
import shutil

import pytest
import yaml
from checkout import BUILT, ROOT

from vbon.artifacts.tables import write_json
from vbon.cli import main
from vbon.errors import ConfigError
from vbon.planning.config import merge, resolve
from vbon.planning.inputs import check_inputs, content, data_inputs, inputs_of, model_inputs
from vbon.planning.phases import phase_specs
from vbon.planning.workflow import Plan

ROW = '{"text": "a fine film of a kind", "label": 1}\n'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with one input of each kind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    files = {
        "my.jsonl": ROW * 100,
        "test/a.csv": "text,label\na,1\n",
        "test/deep/b.csv": "text,label\nb,0\n",
        "home/model/config.json": "{}",
        "home/model/deep/weights.safetensors": "weights",
        "adapter/adapter_config.json": '{"base_model_name_or_path": "~/model"}',
        "adapter/adapter_model.safetensors": "low ranks",
        "reward.py": "def rewards(texts):\n    return [0.0 for _ in texts]\n",
        "Snakefile": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "workflow").symlink_to(ROOT / "workflow")
    return tmp_path


def configured(**models):
    texts = {"source": "my.jsonl", "test_source": "./test"}
    section = {"reviews": texts | {"fractions": BUILT["sentiment"]["reviews"]["fractions"]}}
    return resolve(merge(BUILT, {"sentiment": merge(section, models)}))


MODELS = {
    "reference": {"id": "adapter/"},
    "reward_model": {"callable": "reward.py:rewards"},
    "evaluator": {"id": "~/model"},
}
KEYS = {
    "my.jsonl": "reviews.source",
    "test/a.csv": "reviews.test_source",
    "test/deep/b.csv": "reviews.test_source",
    "home/model/deep/weights.safetensors": "evaluator.id",
    "adapter/adapter_model.safetensors": "reference.id",
    "reward.py": "reward_model.callable",
}


def params(config):
    """What the rules of texts and of models depend on, beside settings and code."""
    plan = Plan(config)
    return {role: plan.inputs_of("sentiment", role) for role in (None, *MODELS)}


def test_the_grammar_and_built_models_have_no_inputs():
    section = resolve(BUILT)["sentiment"]
    assert inputs_of(section) == {}
    assert "inputs" not in phase_specs(resolve(BUILT))["sentiment/tasks.json"]


@pytest.mark.parametrize("name", KEYS)
def test_content_of_every_file_counts_and_its_time_does_not(folder, name):
    config = configured(**MODELS)
    before, phase = params(config), phase_specs(config)["sentiment/tasks.json"]
    os.utime(folder / name, (1, 1))
    shutil.copy(folder / name, folder / "copy")
    (folder / "copy").replace(folder / name)
    assert params(config) == before
    assert phase_specs(config)["sentiment/tasks.json"] == phase
    with open(folder / name, "a") as file:
        file.write("more")
    changed = {role for role, words in params(config).items() if words != before[role]}
    expected = {KEYS[name].rpartition(".")[0]} & set(MODELS) or {None}
    expected |= {"reference"} if name.startswith("home/model") else set()  # the adapter's base
    assert changed == expected
    assert phase_specs(config)["sentiment/tasks.json"] != phase


@pytest.mark.parametrize("name", ["my.jsonl", "adapter", "home/model", "reward.py"])
def test_a_missing_input_is_refused_in_one_line(folder, capsys, name):
    config = configured(**MODELS)
    check_inputs(config)
    place = folder / name
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    if name == "adapter":  # an id of one word may be on the hub
        config["sentiment"]["reference"]["id"] = "./adapter"
    with pytest.raises(ConfigError, match=r"sentiment\.\S+: '.*' does not exist; give a"):
        check_inputs(config)
    with pytest.raises(ConfigError):
        Plan(config)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    for verb in ("check-config", "plan", "workflow"):
        assert main([verb, *["--cores", "1", "-n"] * (verb == "workflow")]) == 1
        message = capsys.readouterr().err
        assert message.startswith(f"vbon {verb}: sentiment.")
        assert len(message.splitlines()) == 1


def test_a_folder_that_is_gone_is_no_id(folder):
    config = configured(reference={"id": "adapter"})
    pointer = folder / "results/sentiment/models/reference/pointer.json"
    write_json(pointer, {"id": "adapter", "content": "abc"})
    check_inputs(config)
    shutil.rmtree(folder / "adapter")
    with pytest.raises(ConfigError, match=r"the folder 'adapter', of which .* does not exist"):
        check_inputs(config)
    write_json(pointer, {"id": "adapter", "revision": "abc"})
    check_inputs(config)


def test_data_files_are_named_by_their_key(folder):
    section = configured()["sentiment"]
    assert data_inputs(section) == {
        "reviews.source": ["my.jsonl"],
        "reviews.test_source": ["test/a.csv", "test/deep/b.csv"],
    }
    hashes = content(data_inputs(section))
    assert list(map(len, hashes.values())) == [1, 2]
    assert json.loads(Plan(configured()).inputs_of("sentiment")) == hashes
    assert Plan(configured(), has_code=False).inputs_of("sentiment") is None
    assert data_inputs({**section, "reviews": {"source": "me/set:train"}}) == {}


def test_adapters_of_adapters_and_of_the_hub(folder):
    section = {"reference": {"id": "adapter"}}
    assert model_inputs(section, "reference") == {
        "reference.id": ["adapter", str(folder / "home/model")]
    }
    file = folder / "adapter/adapter_config.json"
    for text in ('{"base_model_name_or_path": "me/base"}', "[]", "{", '{"other": 1}'):
        file.write_text(text)
        assert model_inputs(section, "reference") == {"reference.id": ["adapter"]}
    file.write_text('{"base_model_name_or_path": "../second"}')
    shutil.copytree(folder / "adapter", folder / "second")
    (folder / "second/adapter_config.json").write_text('{"base_model_name_or_path": "../adapter"}')
    paths = model_inputs(section, "reference")["reference.id"]
    assert [os.path.normpath(path) for path in paths] == ["adapter", "second"]
    assert model_inputs({"reference": {"id": "me/adapter"}}, "reference") == {}


OWN = {
    "tasks": ["sums"],
    "run_methods": ["reference"],
    "methods": {"reference": {}},
    "seeds": [0],
    "sums": {
        "kind": "prompts",
        "prompts": {"source": "sums.csv", "num_train": 3, "num_test": 1},
        "reference": {"id": "home/model"},
        "reward_model": {"callable": "reward.py:rewards"},
    },
}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"reward_model": {"callable": "reward.py:mine"}}, "has no function 'mine'; it has rew"),
        ({"prompts": {"prompt_column": "question"}}, r"source: sums\.csv, line 2: no column 'que"),
        ({"prompts": {"num_test": 2}}, "'sums.csv' has 4 distinct prompts, 5 are requested; give"),
        ({"prompts": {"test_source": "one.csv", "num_train": 4, "num_test": 2}}, "'one.csv' has 1"),
        ({"prompts": {"source": "blank.csv"}}, r"source: 'blank\.csv' has no rows; give"),
        ({"prompts": {"source": ""}}, "source: '' does not exist; give a file that ends in"),
        ({"prompts": {"test_source": ""}}, "test_source: '' does not exist; give a file that"),
        ({"prompts": {"source": " "}}, "source: ' ' is no id of a dataset; give a file"),
        ({"prompts": {"source": "https://a.org/b.csv"}}, r"b\.csv' is no id of a dataset; give"),
        ({"prompts": {"source": "empty"}}, "source: 'empty' has no data files; give a file that"),
        ({"prompts": {"source": "test:dev"}}, "has no data files of split 'dev'; give a file that"),
        ({"prompts": {"source": "pointer.csv"}}, r"source: 'pointer\.csv' is a pointer of Git LFS"),
        ({"reference": {"id": ""}}, r"id: '' has no config\.json; give a folder with a model, or"),
        ({"reference": {"id": ".."}}, r"id: '\.\.' has no config\.json; give a folder"),
        ({"reference": {"id": "a b"}}, "id: 'a b' is no id of a model; give a folder"),
        ({"reference": {"id": "cloned"}}, "'cloned' has a file model.safetensors that is a "),
        ({"reference": {"id": None, "gguf": "empty"}}, "gguf: 'empty' is no file; give a .gguf"),
    ],
)  # fmt: skip
def test_an_input_that_cannot_work_is_refused_in_one_line(folder, section, message):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n"
    prompts = "prompt\na\nb\nc\nc\nd\n"
    files = {"sums.csv": prompts, "one.csv": "prompt\na\na\n", "blank.csv": "prompt\n"}
    files |= {"cloned/config.json": "{}", "cloned/model.safetensors": pointer}
    for name, text in {**files, "pointer.csv": pointer, "empty/README.md": ""}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    check_inputs(resolve(OWN))
    with pytest.raises(ConfigError, match=rf"^sums\..*{message}") as caught:
        check_inputs(resolve(merge(OWN, {"sums": section})))
    assert "\n" not in str(caught.value)


def test_first_rows_of_other_kinds_are_checked(folder):
    with pytest.raises(ConfigError, match=r"^sentiment\.reviews\.source: my\.jsonl, line 1: no co"):
        check_inputs(configured(reviews={"label_column": "stars"}))
    posts = {"kind": "posts", "posts": {"source": "my.jsonl"}}
    with pytest.raises(ConfigError, match=r"^mine\.posts\.source: my\.jsonl, line 1: no column"):
        check_inputs(resolve({**OWN, "tasks": ["mine"], "mine": posts}))


@pytest.mark.parametrize("place", ["/proc/x", "reward.py/x"])
def test_results_that_cannot_be_created_are_refused(folder, place):
    config = {**configured(), "results_dir": place}
    with pytest.raises(ConfigError, match=f"^results_dir: '{place}' cannot be created"):
        check_inputs(config)
    check_inputs({**config, "results_dir": "new/deep"})
    assert not (folder / "new").exists()

"""Configuration files and values: what is refused before any work, and what is read the same."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from vbon.cli import main
from vbon.errors import ConfigError
from vbon.planning.config import load, merge, resolve
from vbon.planning.runs import expand
from vbon.planning.values import read_yaml, results_folder

ROOT = Path(__file__).parent.parent.parent
DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())
LANGUAGE = {"tasks": ["enumerable"], "run_methods": ["reference", "vbon"]}


def resolved(overlay):
    return resolve(merge(DEFAULT, overlay))


def nested(path, value):
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


def refusal(call, *arguments):
    """The message of a refusal, which is one line."""
    with pytest.raises(ConfigError) as error:
        call(*arguments)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seeds: [0]\nseeds: [1]\n", "line 2: 'seeds' is already given in line 1"),
        ("a:\n  b: 1\n  'b': 2\n", "line 3: 'b' is already given in line 2"),
        ("a: {b: 1, c: 2, b: 3}\n", "line 1: 'b' is already given in line 1"),
        ("a:\n- b: 1\n  b: 1\n", "line 3: 'b' is already given in line 2"),
        ('{"a": 1,\n"a": 2}', "line 2: 'a' is already given in line 1"),
        ("a: &a {b: 1}\nc:\n  <<: *a\n  <<: *a\n", "line 4: '<<' is already given in line 3; give"),
        ("a: " + "{a: " * 3000 + "1" + "}" * 3000, "nested too deeply"),
        ("a: " + "[" * 3000, "nested too deeply"),
        ("a: &a [*a]\n", "nested too deeply"),
        ("a: 2020-13-45\n", "cannot be read as YAML"),
        ("a: " + "9" * 5000 + "\n", "cannot be read as YAML"),
        ("a: !!python/object/apply:os.getcwd []\n", "cannot be read as YAML"),
        ("a: [1\n", "cannot be read as YAML"),
        ("a: {64: {}}\n", "a.64: 64 is not allowed as a name; write it in quotes"),
        ("a: {~: 1}\n", "None is not allowed as a name"),
        ("[a]\n", "contains list, expected keys and values"),
        ("", "contains NoneType, expected keys and values"),
    ],
)
def test_files_are_refused_with_their_name_and_line(tmp_path, text, words):
    file = tmp_path / "overlay.yaml"
    file.write_text(text)
    message = refusal(read_yaml, file)
    assert message.startswith(f"{file}: ")
    assert words in message


def test_files_of_another_encoding_are_refused(tmp_path):
    file = tmp_path / "overlay.yaml"
    file.write_bytes("seed: 0\n# größer\n".encode("latin-1"))
    assert f"{file}: line 2: is not UTF-8" in refusal(read_yaml, file)
    file.write_bytes("seed: 1\n".encode("utf-16"))
    assert f"{file}: is UTF-16; save the file in UTF-8" in refusal(read_yaml, file)
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")
    assert f"{file}: is a pointer of Git LFS" in refusal(read_yaml, file)
    assert "does not exist" in refusal(read_yaml, tmp_path / "absent.yaml")
    assert "Is a directory" in refusal(read_yaml, tmp_path)


def test_merge_keys_anchors_and_byte_order_marks_are_read(tmp_path):
    file = tmp_path / "overlay.yaml"
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [*a, {z: 4}], x: 5}\nd: *a\n"
    file.write_text(text)
    assert read_yaml(file) == yaml.safe_load(text)
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_yaml(file) == yaml.safe_load(text)
    file.write_text('{"a": {"x": 1}, "b": [true, null, "é"]}', encoding="utf-8")
    assert read_yaml(file) == {"a": {"x": 1}, "b": [True, None, "é"]}


def test_files_are_read_as_utf8_whatever_the_locale(tmp_path):
    file = tmp_path / "größer.yaml"
    overlay = LANGUAGE | {"results_dir": "résultats"}
    text = yaml.safe_dump(overlay, allow_unicode=True) + "# ∆\n"
    file.write_text(text, encoding="utf-8")
    posix = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "vbon.cli", "check-config", str(file)]
    environment = os.environ | posix | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr.decode()
    assert yaml.safe_load(done.stdout.decode())["results_dir"] == "résultats"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", 1.0),
        ("seeds", [0.0, 1]),
        ("runs_per_job", 2.0),
        ("figures.bootstrap", 100.0),
        ("sentiment.sampling.train_draws", 850.0),
        ("sentiment.reviews.num_reviews", 36000.0),
        ("sentiment.budgets.ppo.rollouts", 512.0),
        ("sentiment.studies.figure4.online.rollouts", 512.0),
        ("summarization.evaluation.sample_seeds", [0.0, 1.0]),
        ("methods.dpo.num_draws", [8.0]),
    ],
)
def test_whole_numbers_may_be_written_with_a_point(path, value):
    whole = [int(number) for number in value] if isinstance(value, list) else int(value)
    ours, theirs = (resolved(nested(path, number)) for number in (value, whole))
    assert repr([run.spec for run in expand(ours)]) == repr([run.spec for run in expand(theirs)])
    if not path.startswith(("methods", "sentiment.budgets")):  # laid over the section by runs
        assert repr(ours) == repr(theirs)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("runs_per_job", 2.5, "runs_per_job: 2.5 is not allowed"),
        ("sentiment.sampling.temperature", float("nan"), "sentiment.sampling.temperature: nan"),
        ("sentiment.online.learning_rate", float("inf"), "sentiment.online.learning_rate: inf"),
        ("sentiment.rewards.missing_eos", float("-inf"), "sentiment.rewards.missing_eos: -inf"),
        ("sentiment.checks.num_texts", [float("nan"), None], "sentiment.checks.num_texts.0: nan"),
        ("methods.vbon.n", [float("inf")], "methods.vbon.n.0: inf"),
        ("enumerable.logit_scale", float("inf"), "enumerable.logit_scale: inf"),
        ("sentiment.checks.num_texts", [1, 0], "sentiment.checks.num_texts: [1, 0] is not allowed"),
        ("seeds", [2**31], "2147483647 or less"),
        ("summarization.evaluation.sample_seeds", [3_000_000_000], "2147483647 or less"),
        ("methods.vbon.seeds", [2**31], "whole numbers from 0 to 2147483647"),
        ("enumerable.studies", {"../../../evil": {}}, "enumerable.studies: '../../../evil'"),
        ("enumerable.studies", {"a/b": {}}, "enumerable.studies: 'a/b'"),
        ("enumerable.studies", {"": {}}, "enumerable.studies: ''"),
        ("enumerable.studies", {"..": {}}, "enumerable.studies: '..'"),
        ("enumerable.studies", {"a(b": {}}, "enumerable.studies: 'a(b'"),
        ("enumerable.studies", {"a{b}": {}}, "enumerable.studies: 'a{b}'"),
        ("enumerable.studies", {"a\n": {}}, "enumerable.studies: 'a\\n'"),
        ("enumerable.studies", {"runs": {}}, "enumerable.studies: 'runs'"),
        ("tasks", ["../evil"], "'../evil' is not allowed"),
        ("tasks", [1], "1 is not allowed"),
    ],
)
def test_values_and_names_are_refused_in_one_line(path, value, words):
    assert words in refusal(lambda: expand(resolved(nested(path, value))))


def test_names_of_tasks_are_those_of_folders():
    for name in ("report", "plan", "none"):
        overlay = {"tasks": [name], name: {"kind": "reviews"}}
        assert f"tasks: '{name}' is not allowed" in refusal(resolved, overlay)
    assert resolved({"enumerable": {"studies": {"t0.5-b_2": {}}}})


def test_folders_of_results_are_as_paths_begin_with_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "home/me"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    usual = {
        "./x": "x",
        "x/": "x",
        "a//b/./c/../d": "a/b/d",
        "../x": "../x",
        "~/x": f"{home}/x",
        str(tmp_path / "x"): f"{tmp_path}/x",
        "my results": "my results",
        "//data/x/": "/data/x",
    }
    for name, folder in usual.items():
        assert results_folder(name) == folder
        assert results_folder(folder) == folder
        paths = [run.folder for run in expand(resolved({**LANGUAGE, "results_dir": name}))]
        assert all(path.startswith(f"{folder}/enumerable/") for path in paths)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (".", "contains this folder"),
        ("..", "contains this folder"),
        ("/", "contains this folder"),
        ("x/..", "contains this folder"),
        ("here", "contains this folder"),
        ("~", "contains the home folder"),
        ("~/..", "contains the home folder"),
        ("vbon", "is in vbon"),
        ("./workflow/rules/", "is in workflow"),
        (".git", "is in .git"),
        ("r{x}", "contains '{'"),
        ("a*", "contains '*'"),
        ("a,b", "contains ','"),
        ("a\nb", "contains '\\n'"),
        (" ", "is not allowed, since it is blank"),
        ("file", "is a file"),
        ("~nobody-of-this-name/x", "no such user"),
    ],
)
def test_folders_that_are_not_for_results_are_refused(tmp_path, monkeypatch, capsys, name, words):
    folder = tmp_path / "checkout"
    folder.mkdir()
    (tmp_path / "home/me").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home/me"))
    monkeypatch.chdir(folder)
    (folder / "file").touch()
    (folder / "here").symlink_to(tmp_path)
    config = copy.deepcopy(DEFAULT) | LANGUAGE | {"results_dir": name}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["check-config"]) == 1
    message = capsys.readouterr().err
    assert message.startswith("vbon check-config: results_dir: ")
    assert words in message
    assert len(message.splitlines()) == 1


def test_overlays_are_read_with_the_same_care(tmp_path):
    (tmp_path / "twice.yaml").write_text("sentiment: {}\nsentiment: {}\n")
    message = refusal(load, [ROOT / "config.yaml", tmp_path / "twice.yaml"])
    assert "twice.yaml: line 2: 'sentiment' is already given in line 1; give each key" in message


def test_a_folder_that_no_file_system_takes_is_refused():
    with pytest.raises(ConfigError, match="cannot be a folder"):
        results_folder("r" * 300)

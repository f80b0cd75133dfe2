"""Copies of a checkout, installed packages, and folders of the system that cannot be written."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from checkout import ROOT, make_checkout

from vbon.artifacts.snapshots import check_cache
from vbon.cli import main
from vbon.errors import ArtifactError


def called(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess:
    """Run ``vbon`` in a folder, as the installed command does: the folder itself has no code."""
    settings = {"capture_output": True, "text": True, "cwd": folder}
    command = [sys.executable, "-P", "-m", "vbon.cli", *words]
    return subprocess.run(command, env=os.environ | variables, **settings)


def test_a_copied_checkout_does_not_run_the_code_of_the_original(tmp_path):
    copy = make_checkout(tmp_path / "copy", code=True)
    done = called(copy, "methods", PYTHONPATH=str(ROOT))
    assert done.returncode == 1
    assert f"has its own package, and the code of {ROOT / 'vbon'} would run" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert called(copy, "methods", PYTHONPATH=str(copy)).returncode == 0
    link = tmp_path / "link"
    link.symlink_to(copy)
    assert called(copy, "methods", PYTHONPATH=str(link)).returncode == 0


def test_folders_without_a_package_run_the_installed_one(tmp_path):
    assert called(make_checkout(tmp_path / "a"), "methods", PYTHONPATH=str(ROOT)).returncode == 0


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Folder of a package that was installed from a wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("vbon", "workflow"):
        shutil.copytree(ROOT / name, folder / "source" / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    options = ["--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(folder)]
    subprocess.run([*command, str(folder / "source")], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder / "site-packages")
    return folder / "site-packages"


@pytest.mark.slow
def test_a_package_installed_from_a_wheel_works(installed, tmp_path):
    """All that commands read is in the wheel; only the rules are in the checkout."""
    path = {"PYTHONPATH": str(installed)}
    shutil.copy(ROOT / "config.yaml", tmp_path / "whole.yaml")
    (tmp_path / "mine.yaml").write_text("seeds: [7]\n")
    done = called(tmp_path, "check-config", "whole.yaml", "mine.yaml", **path)
    assert done.returncode == 0, done.stderr
    assert "seeds: [7]" in done.stdout
    assert called(tmp_path, "texts", "--help", **path).returncode == 0
    for words, message in (
        (["check-config"], "config.yaml: does not exist; give the path of a configuration, or"),
        (["check-config", "no.yaml"], "no.yaml: does not exist"),
        (["plan", "mine.yaml"], "config: 'tasks' is a required property"),
        (["workflow", "--cores", "1"], "there is no Snakefile in this folder; start in a checkout"),
    ):
        done = called(tmp_path, *words, **path)
        assert done.returncode == 1
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
    package = [str(path) for path in installed.rglob("*") if "dist-info" not in str(path)]
    inside = {str(Path(path).relative_to(installed)) for path in package if Path(path).is_file()}
    tracked = subprocess.check_output(["git", "ls-files", "vbon"], cwd=ROOT, text=True).split()
    assert {name for name in tracked if name.startswith("vbon/")} <= inside


@pytest.mark.parametrize(
    ("variables", "cache", "named", "remedy"),
    [
        ({"HOME": ""}, "hub", "HOME", "HF_HOME"),
        ({"HOME": "", "HF_HOME": ""}, "datasets", "HF_HOME", "HF_HOME"),
        ({"HF_HUB_CACHE": "", "HF_HOME": ""}, "hub", "HF_HUB_CACHE", "HF_HUB_CACHE"),
        ({"HOME": ""}, "snakemake", "HOME", "XDG_CACHE_HOME"),
        ({"XDG_CACHE_HOME": ""}, "snakemake", "XDG_CACHE_HOME", "XDG_CACHE_HOME"),
    ],
)
def test_a_cache_that_cannot_be_written_is_named(
    tmp_path, monkeypatch, variables, cache, named, remedy
):
    (tmp_path / "file").touch()  # not a folder: the superuser may write into any
    for name in ("HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in variables:
        monkeypatch.setenv(name, str(tmp_path / "file"))
    folder = tmp_path / "file/cache"
    with pytest.raises(ArtifactError) as error:
        check_cache(cache, folder)
    message = str(error.value)
    assert f"the cache {folder} cannot be written (Not a directory)" in message
    assert f"{named} = '{tmp_path / 'file'}': set {remedy} to a folder" in message
    check_cache(cache, tmp_path / "good")


def test_verbs_name_the_cache_that_they_cannot_write(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    folder = str(tmp_path / "file/cache")
    monkeypatch.chdir(make_checkout(tmp_path / "checkout"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", folder)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folder)
    monkeypatch.setenv("XDG_CACHE_HOME", folder)
    shares = {"reference": 0, "reward_model": 0, "evaluator": 0, "train": 1, "test": 0}
    reviews = {"source": "me/x:train", "revision": None, "fractions": shares, "test_source": None}
    task = {"kind": "reviews", "reviews": {**reviews, "text_column": "a", "label_column": "b"}}
    for words in (
        ["prefetch", "--sources", '{"a.reference.id": ["model", "me/x", null]}'],
        ["texts", "--task", json.dumps(task), "--seed", "0"],
        ["workflow", "--cores", "1"],
    ):
        output = ["--output", "texts.parquet"] if words[0] == "texts" else []
        assert main([*words, *output]) == 1
        printed = capsys.readouterr().err
        assert "cannot be written (Not a directory)" in printed
        assert len(printed.splitlines()) == 1


def recorded(folder: Path) -> subprocess.CompletedProcess:
    """Call ``make record`` with an environment whose DVC only prints its arguments."""
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".venv/.complete").touch()
    dvc = folder / ".venv/bin/dvc"
    dvc.write_text('#!/bin/sh\n[ "$1" = config ] && exec cat .dvc/no_scm\necho called "$@"\n')
    dvc.chmod(0o755)
    shutil.copy(ROOT / "Makefile", folder)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}  # a caller's
    environment["GIT_CEILING_DIRECTORIES"] = str(folder.parent)
    command = ["make", "record", "--old-file=.venv/.complete"]
    settings = {"cwd": folder, "capture_output": True, "text": True, "env": environment}
    return subprocess.run(command, **settings)


def test_recording_without_git_says_what_to_do(tmp_path):
    done = recorded(tmp_path / "plain")
    assert done.returncode != 0
    assert "called" not in done.stdout
    assert "run `git init`, or `.venv/bin/dvc config core.no_scm true`" in done.stderr


@pytest.mark.parametrize("kind", ["git", "no_scm"])
def test_recording_with_git_or_without_it_on_purpose(tmp_path, kind):
    folder = tmp_path / kind
    folder.mkdir()
    if kind == "git":
        subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    else:
        (folder / ".dvc").mkdir()
        (folder / ".dvc/no_scm").write_text("true\n")
    done = recorded(folder)
    assert (done.returncode, done.stdout.strip()) == (0, "called repro"), done.stderr

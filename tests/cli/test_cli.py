import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vbon.cli
from vbon.artifacts.steps import steps
from vbon.cli import VERBS, main

STEPS = [step.verb for step in steps().values()]


def test_help_lists_every_verb(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in [*VERBS, *STEPS])


@pytest.mark.parametrize("verb", [*VERBS, *STEPS])
def test_every_verb_explains_itself(verb, capsys):
    try:
        code = main([verb, "--help"])
    except SystemExit as ended:
        code = ended.code
    assert code in (0, None)
    assert "usage: vbon" in capsys.readouterr().out


def test_an_unknown_verb_lists_the_known(capsys):
    assert main(["trian"]) == 2
    message = capsys.readouterr().err
    assert all(verb in message for verb in [*VERBS, *STEPS])


@pytest.mark.parametrize("file", sorted(Path(vbon.cli.__file__).parent.glob("*.py")))
def test_a_verb_computes_nothing(file):
    """Numbers, models and seeds are the business of steps, also where an import is in a function.

    A verb parses, calls and prints.
    """
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {(node.module or "").partition(".")[0], *(alias.name for alias in node.names)}
    assert names.isdisjoint({"numpy", "torch", "pandas", "transformers", "derive_seed", "seeding"})


def test_an_error_is_one_line_and_code_one(tmp_path, capsys):
    missing = tmp_path / "rewards.parquet"
    code = main(
        ["logf", "--rewards", str(missing), "--draws", "4", "--output", str(tmp_path / "x")]
    )
    error = capsys.readouterr().err
    assert code == 1
    assert error.count("\n") == 1
    assert "rewards.parquet" in error
    assert not (tmp_path / "x").exists()


def test_methods_are_listed_with_paper_and_settings(capsys):
    assert main(["methods"]) == 0
    shown = capsys.readouterr().out
    assert "ppo:" in shown
    assert "settings: kl_coef" in shown
    assert "needs: logf" in shown


def test_the_command_is_installed():
    done = subprocess.run([sys.executable, "-m", "vbon.cli", "--version"], capture_output=True)
    assert done.returncode == 0

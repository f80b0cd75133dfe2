"""Steps: their words, their shell commands, their provenance, and the code that each depends on."""

import ast
import functools
import importlib.util
import json
import shutil
import sys
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vbon.artifacts import fingerprint, read_provenance, steps, write_table
from vbon.artifacts.fingerprint import code_fingerprint, content_hash
from vbon.artifacts.steps import (
    Input,
    Inputs,
    Job,
    Model,
    Named,
    Optional,
    Output,
    Outputs,
    Runs,
    Step,
    find_step,
    optional_table,
    table,
)
from vbon.errors import ArtifactError, VbonError
from vbon.tasks.registry import Section, make_task

CODE = "vbon.seeding:derive_seed"
"""Stands for the code of steps that are declared here, outside the package."""
REWARDS = pd.DataFrame(
    {"prompt_id": ["a", "a"], "draw": [0, 1], "reward": [1.0, 2.0], "reward_prob": 0.5}
).assign(evaluator_reward=0.0)


def declared(function, **options):
    """A step that is in no registry."""
    return Step(function, work=CODE, **options)


def received(annotation, *words):
    """Value that a function gets for its parameter ``it`` of one type, from a command line."""
    values = []

    def toy(it):
        values.append(it)

    toy.__annotations__["it"] = annotation
    declared(toy).main(["--it", *words])
    return values[0]


@pytest.mark.parametrize(
    ("annotation", "words", "value"),
    [
        (int, ["3"], 3),
        (float, ["3"], 3.0),
        (str, ["3"], "3"),
        (list[str], ["a", "b"], ["a", "b"]),
        (list[str], [], []),
        (list[float], ["0.5", "1"], [0.5, 1.0]),
        (list, ['[{"n": 2}]'], [{"n": 2}]),
        (dict[str, Any], ['{"n": [2, null]}'], {"n": [2, None]}),
        (Input, ["a.parquet"], "a.parquet"),
        (Optional, ["a.parquet"], "a.parquet"),
        (Optional, [], None),
        (Inputs, ["a", "b"], ["a", "b"]),
        (Inputs, [], []),
        (Named, ["x=a", "y/z=b=c"], {"x": "a", "y/z": "b=c"}),
        (Named, [], {}),
        (Model, ["m/reference/card.json"], "m/reference"),
        (Model, ["m/reference"], "m/reference"),
        (Runs, ["r/seed0/run.json", "0.done", "r/seed1/run.json"], ["r/seed0", "r/seed1"]),
        (Output, ["a.csv"], "a.csv"),
        (Outputs, ["a", "b"], ["a", "b"]),
    ],
)  # fmt: skip
def test_words_become_values(annotation, words, value):
    assert received(annotation, *words) == value


@pytest.mark.parametrize(
    ("annotation", "words", "message"),
    [
        (int, ["three"], "invalid int value: 'three'"),
        (dict[str, Any], ["{n: 2}"], "not JSON"),
        (list, ["2,"], "not JSON"),
        (Named, ["a.parquet"], "'a.parquet' is not name=path"),
    ],
)
def test_words_that_are_no_value_are_refused(annotation, words, message, capsys):
    with pytest.raises(SystemExit):
        received(annotation, *words)
    assert message in capsys.readouterr().err


def test_a_section_becomes_its_task():
    task = received(Section, json.dumps({"kind": "enumerable", "num_prompts": 3}))
    assert (task.kind, task.num_prompts["test"]) == ("enumerable", 3)


def test_tables_are_read_from_parquet_or_csv(tmp_path):
    write_table(tmp_path / "rewards.parquet", REWARDS, "rewards")
    frame = received(table("rewards", ["draw", "reward"]), f"{tmp_path}/rewards.parquet")
    pd.testing.assert_frame_equal(frame, REWARDS[["draw", "reward"]], check_dtype=False)
    REWARDS.to_csv(tmp_path / "rewards.csv", index=False)
    frame = received(table("rewards"), f"{tmp_path}/rewards.csv")
    pd.testing.assert_frame_equal(frame, REWARDS, check_dtype=False)
    frame = received(optional_table("rewards"), f"{tmp_path}/rewards.parquet")
    pd.testing.assert_frame_equal(frame, REWARDS, check_dtype=False)
    assert received(optional_table("rewards")) is None
    (tmp_path / "small.csv").write_text("a,b\n1,2\n")
    assert received(table("lead"), f"{tmp_path}/small.csv").to_dict("list") == {"a": [1], "b": [2]}
    with pytest.raises(ArtifactError, match="table 'rewards' version 1, expected 'prompts'"):
        received(table("prompts"), f"{tmp_path}/rewards.parquet")


def test_python_and_the_command_line_give_equal_values():
    calls = []

    def toy(runs: Runs, models: Named, folder: Model, settings: dict[str, Any], m: int = 4):
        calls.append((runs, models, folder, settings, m))

    toy = declared(toy)
    words = ["--runs", "a/run.json", "--models", "x=y", "--folder", "b/card.json"]
    toy.main([*words, "--settings", '{"n": 2}'])
    toy(runs=["a/run.json"], models={"x": "y"}, folder="b/card.json", settings={"n": 2})
    assert calls[0] == calls[1] == (["a"], {"x": "y"}, "b", {"n": 2}, 4)


def test_missing_and_unknown_parameters_are_named(capsys):
    def toy(first: int, second: Input, third: int = 0):
        raise AssertionError

    toy = declared(toy)
    with pytest.raises(
        VbonError, match=r"step toy: unknown \['other'\], missing \['first', 'second'\]"
    ):
        toy(other=1)
    with pytest.raises(SystemExit):
        toy.main(["--first", "1"])
    assert "required: --second" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        toy.main(["--first", "1", "--second", "a", "--other", "1"])
    assert "unrecognized arguments: --other" in capsys.readouterr().err


def test_a_table_that_is_returned_is_written_with_its_provenance(tmp_path):
    def toy(rewards: table("rewards"), draws: int) -> pd.DataFrame:
        return rewards.head(draws)

    write_table(tmp_path / "rewards.parquet", REWARDS, "rewards")
    paths = {"rewards": f"{tmp_path}/rewards.parquet", "output": f"{tmp_path}/toy.csv"}
    declared(toy)(draws=1, **paths)
    assert pd.read_csv(tmp_path / "toy.csv")["reward"].tolist() == [1.0]
    record = json.loads((tmp_path / "toy.json").read_text())
    assert record["settings"] == {"draws": 1}
    assert record["paths"] == {"rewards": paths["rewards"]}
    assert record["code"] == code_fingerprint(CODE)


def test_the_shell_command_names_what_the_rule_has():
    def toy(runs: Runs, tables: Named, n: int, scoring: dict[str, Any], csv: Output, job: Job):
        pass

    step = declared(toy)
    assert step.shell() == (
        "vbon toy --runs {input.runs:q} --tables {params.tables:q} --n {params.n:q} "
        "--scoring {params.scoring:q} --csv {output.csv:q} > {log:q} 2>&1"
    )
    assert "--n {threads} " in step.shell(n="{threads}")
    assert step.shell(log="").endswith("--csv {output.csv:q} ")

    def two_words(output: Output):
        pass

    assert declared(two_words).shell(log="") == "vbon two-words --output {output:q} "


def test_the_words_of_each_step_are_those_of_its_shell_command():
    for step in steps.steps().values():
        words = step.shell(log="").split()
        assert words[:2] == ["vbon", step.verb]
        options = {option for action in step.parser()._actions for option in action.option_strings}
        assert {word for word in words if word.startswith("--")} == options - {"-h", "--help"}
        assert step.summary.endswith(".")
        assert find_step(step.verb) is step
    assert find_step("no-such-step") is None


def job_of(values, **options):
    """A call of a step that has inputs of every sort and two settings."""

    def toy(
        one: Input, other: Optional, several: Inputs, named: Named, runs: Runs, seed: int,
        settings: dict[str, Any], output: Output,
    ):  # fmt: skip
        pass

    return Job(declared(toy, **options), values)


@pytest.fixture
def call(tmp_path):
    """A call whose inputs exist."""
    for name in ("one", "first", "second", "x"):
        (tmp_path / name).write_text(name)
    run = tmp_path / "runs/ppo/beta1/seed0"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    return job_of(
        {
            "one": f"{tmp_path}/one",
            "other": None,
            "several": [f"{tmp_path}/first", f"{tmp_path}/second"],
            "named": {"split": f"{tmp_path}/x"},
            "runs": [str(run)],
            "seed": 3,
            "settings": {"n": 2},
            "output": f"{tmp_path}/out",
        }
    )


def test_provenance_is_settings_inputs_and_code_and_no_outputs(call, tmp_path):
    record = call.provenance()
    assert record["settings"] == {"seed": 3, "settings": {"n": 2}}
    assert record["paths"] == {
        "one": f"{tmp_path}/one",
        "several0": f"{tmp_path}/first",
        "several1": f"{tmp_path}/second",
        "split": f"{tmp_path}/x",
        "ppo/beta1/seed0": f"{tmp_path}/runs/ppo/beta1/seed0/run.json",
    }
    assert record["inputs"] == {k: content_hash(path) for k, path in record["paths"].items()}
    assert (record["code"], record["modules"]) == (code_fingerprint(CODE), [CODE])


def test_provenance_of_one_of_several_files_has_its_changes(call, tmp_path):
    record = call.provenance(one=None, several=[f"{tmp_path}/second"], seed=None, temperature=0.5)
    assert record["settings"] == {"settings": {"n": 2}, "temperature": 0.5}
    assert set(record["paths"]) == {"several0", "split", "ppo/beta1/seed0"}
    assert record["paths"]["several0"] == f"{tmp_path}/second"
    assert call.provenance()["settings"]["seed"] == 3


def test_each_file_of_a_step_has_provenance_of_its_own(tmp_path):
    write_table(tmp_path / "rewards.parquet", REWARDS, "rewards")
    pairings = {"best-n2": {"draws": 2}}
    paths = {"rewards": f"{tmp_path}/rewards.parquet", "folder": f"{tmp_path}/pairs"}
    steps.steps()["pairs"](pairings=pairings, seed=0, **paths)
    record = read_provenance(tmp_path / "pairs/best-n2.parquet")
    assert record["settings"] == {"pairings": {"draws": 2}, "seed": 0}
    assert record["paths"] == {"rewards": paths["rewards"]}


class Copy:
    """A copy of the package's source that is edited, and what each step reaches in it."""

    def __init__(self, folder: Path):
        package = folder / "vbon"
        shutil.copytree(fingerprint.PACKAGE, package, ignore=shutil.ignore_patterns("*.pyc"))
        # Loaded from the copy, it hashes the copy, and its types are not checked at each call.
        spec = importlib.util.spec_from_file_location(
            "hashes_of_copy", package / "artifacts/fingerprint.py"
        )
        self.hashes, self.package = importlib.util.module_from_spec(spec), package
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, spec.name, self.hashes)
            spec.loader.exec_module(self.hashes)
        self.hashes._file = functools.cache(self.hashes._file)  # no file comes or goes
        self.roots = {name: step.roots() for name, step in steps.steps().items()}
        self.reached = {name: self.hashes.reached(*roots) for name, roots in self.roots.items()}
        self.steps_of = defaultdict(set)
        for step, places in self.reached.items():
            for place in places:
                self.steps_of[place].add(step)
        self.before = self.codes(self.roots)

    def codes(self, roots: dict[str, tuple[str, ...]]) -> dict[str, str]:
        """Hash of the code of each step."""
        return {name: self.hashes.code_fingerprint(*places) for name, places in roots.items()}

    def functions(self, file: Path) -> dict[str, ast.FunctionDef]:
        """Functions and methods of a file by the names that fingerprints give them."""
        found = {}
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                found[node.name] = node
            elif isinstance(node, ast.ClassDef):
                methods = [child for child in node.body if isinstance(child, ast.FunctionDef)]
                found |= {f"{node.name}.{child.name}": child for child in methods}
        return found

    @contextmanager
    def edited(self, file: Path, name: str):
        """One more statement in a function, as long as the block lasts."""
        text, node = file.read_text(), self.functions(file)[name]
        lines = text.splitlines(keepends=True)
        lines.insert(node.end_lineno, f"{' ' * node.body[-1].col_offset}0\n")
        file.write_text("".join(lines))
        module = self.hashes._module
        edited = module.__wrapped__(file)  # all others are cached
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                self.hashes, "_module", lambda path: edited if path == file else module(path)
            )
            yield
        file.write_text(text)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return Copy(tmp_path_factory.mktemp("copy"))


SHARED = {"sample": {"languages"}, "score": {"languages"}, "logf": {"languages"}}
"""Steps all of whose definitions others reach: a language is written with its pool."""


@pytest.mark.parametrize("name", steps.steps())
def test_an_edit_makes_exactly_one_step_out_of_date(copy, name):
    def rank(place):
        file, function = place
        return len(outdated(place)), function == name, str(file), function

    def outdated(place):
        file, function = place
        whole = (file, function.partition(".")[0])  # a class changes with its methods
        return copy.steps_of[place] | copy.steps_of[whole]

    files = {file for file, _ in copy.reached[name]}
    functions = {(file, function) for file in files for function in copy.functions(file)}
    place = min(functions & copy.reached[name], key=rank)
    with copy.edited(*place):
        codes = copy.codes(copy.roots)
    changed = {step for step, code in codes.items() if code != copy.before[step]}
    assert changed == outdated(place)
    assert changed == {name} | SHARED.get(name, set())


@pytest.mark.parametrize(
    ("kind", "file", "function", "counts"),
    [
        ("reviews", "reviews", "Reviews.texts", {"texts"}),
        ("reviews", "reviews", "load_reviews", {"texts"}),
        ("reviews", "grammar", "write_reviews", {"texts"}),
        ("reviews", "texts", "assign_parts", {"texts"}),
        ("reviews", "base", "TextTask.prompts", {"prompts"}),
        ("reviews", "texts", "make_prompts", {"prompts"}),
        ("reviews", "base", "TextTask.train_model", {"build"}),
        ("reviews", "reviews", "Reviews.quantities", {"data"}),
        ("reviews", "base", "TextTask.check", set()),
        ("reviews", "posts", "Posts.texts", set()),
        ("posts", "posts", "Posts.texts", {"texts"}),
        ("posts", "posts", "Posts.prompts", {"prompts"}),
        ("posts", "posts", "prompt_texts", {"prompts", "build"}),
        ("enumerable", "enumerable", "Enumerable.write", {"languages"}),
        ("enumerable", "language", "make_rewards", {"languages"}),
    ],
)
def test_a_step_depends_on_the_methods_of_a_task_that_it_calls(copy, kind, file, function, counts):
    registry, task = steps.steps(), make_task({"kind": kind})
    names = ("texts", "prompts", "build", "data", "languages")
    roots = {name: registry[name].roots(task=task) for name in names}
    before = copy.codes(roots)
    with copy.edited(copy.package / f"tasks/{file}.py", function):
        after = copy.codes(roots)
    assert {name for name in roots if before[name] != after[name]} == counts


def test_another_kind_of_task_is_other_code():
    code = steps.steps()["texts"].code
    reviews, posts = (make_task({"kind": kind}) for kind in ("reviews", "posts"))
    assert len({code(), code(task=reviews), code(task=posts)}) == 3
    assert code(task=reviews) == code(task=make_task({"kind": "reviews", "reviews": {}}))

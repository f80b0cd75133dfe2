"""What a change makes anew, and what it leaves alone: counted before, seen afterwards.

Each test changes one thing in a finished checkout with a package of its own. ``vbon plan`` says how
many runs are to be trained; afterwards the records on disk tell which were: a record holds the
run's seconds, and the inode of a file that was written again is another.
"""

import ast

import pytest
from checkout import (
    BUILT_POINTS,
    SWEEP_POINTS,
    change,
    copy,
    edit,
    plan,
    planned_jobs,
    records,
    run,
    stamps,
)

pytestmark = [pytest.mark.workflow, pytest.mark.long]


def redone(before, after):
    """Paths of what was made again or is new, up to the part that tells kinds apart."""
    return {path for path, stamp in after.items() if before.get(path) != stamp}


def retrained(before, after):
    """Folders of runs that were carried out, below ``runs/``."""
    return {path.split("/runs/")[1] for path in redone(before, after)}


def tell(what, counted, folders):
    print(f"\n{what}: {counted}; carried out: {sorted(folders) or 'none'}")


def test_a_changed_coefficient_trains_its_own_runs(swept, tmp_path):
    folder = copy(swept, tmp_path / "checkout")
    before, files = records(folder), stamps(folder)
    change(folder, "methods", "ppo", "kl_coef", value=[0.5, 2])
    counted = plan(folder)
    run(folder, "--cores", "2", *SWEEP_POINTS)
    done = retrained(before, records(folder))
    tell("beta of PPO from 1 to 2", counted, done)
    assert counted == "10 runs, to train: 2"
    assert done == {"ppo/beta2/seed0", "ppo/beta2/seed1"}
    others = {path for path in redone(files, stamps(folder)) if "beta2" not in path}
    assert not {path for path in others if "/runs/" in path or "/reference/" in path}
    assert plan(folder) == "10 runs, to train: 0"


def test_a_changed_list_of_seeds_trains_the_new_seeds(swept, tmp_path):
    folder = copy(swept, tmp_path / "checkout")
    before = records(folder)
    change(folder, "seeds", value=[1, 5])
    counted = plan(folder)
    run(folder, "--cores", "2", *SWEEP_POINTS)
    done = retrained(before, records(folder))
    tell("seeds from 0, 1 to 1, 5", counted, done)
    assert counted == "10 runs, to train: 4"
    assert done == {f"{setting}/seed5" for setting in ("ppo/beta0.5", "ppo/beta1", "vbon/n2",
                                                       "vbon/n4")}  # fmt: skip


def test_a_changed_reward_model_reruns_scoring_and_what_follows(built, tmp_path):
    folder = copy(built, tmp_path / "checkout")
    before, files = records(folder), stamps(folder)
    change(folder, "sentiment", "reward_model", "build", "epochs", value=2)
    counted = plan(folder)
    run(folder, "--cores", "2", *BUILT_POINTS)
    done, again = retrained(before, records(folder)), redone(files, stamps(folder))
    tell("another reward model", counted, done)
    assert counted == "3 runs, to train: 2"
    assert done == {"ppo/beta0.5/seed0", "vbon/n4/seed0"}
    root = "sentiment/reference"
    for path in ("shards/rewards-train-0", "shards/rewards-train-1", "rewards/train",
                 "shards/rewards-test-0", "rewards/test", "logf/train"):  # fmt: skip
        assert f"{root}/{path}.parquet" in again
    assert {f"sentiment/points.{suffix}" for suffix in ("csv", "parquet")} <= again
    responses = {path for path in files if path.endswith("responses/test.parquet")}
    assert len(responses) == 3
    assert responses <= again
    kept = ("/samples", "/models/reference/", "/models/evaluator/", "/prompts/", "/data/")
    assert not {path for path in again if any(part in path for part in kept)}
    assert plan(folder) == "3 runs, to train: 0"
    assert not planned_jobs(folder, *BUILT_POINTS)


def test_comments_and_docstrings_rerun_nothing(swept, tmp_path):
    folder = copy(swept, tmp_path / "checkout")
    before = stamps(folder)
    modules = sorted((folder / "vbon").rglob("*.py"))
    for file in modules:
        text = file.read_text()
        if text.startswith('"""'):
            text = '"""Said otherwise. ' + text.removeprefix('"""')
        file.write_text(f"# A new comment.\n{text}\n# Another.\n")
    for file in [folder / "config.yaml", folder / "Snakefile", *folder.glob("workflow/rules/*")]:
        file.write_text(file.read_text() + "\n# A new comment.\n")
    counted = plan(folder)
    assert not planned_jobs(folder)
    run(folder, "--cores", "2")
    again = redone(before, stamps(folder))
    tell(f"comments and docstrings of {len(modules)} modules", counted, again)
    assert counted == "10 runs, to train: 0"
    assert not again


@pytest.mark.parametrize(
    ("module", "function", "counted", "trained"),
    [
        ("best_of_n", "log_bon_ratio", "to train: 1", {"vbon/n4/seed0"}),  # PPO does not call it
        ("kl", "kl_full", "to train: 0", set()),  # measures policies, trains none
    ],
)
def test_a_changed_objective_reruns_its_users(built, tmp_path, module, function, counted, trained):
    folder = copy(built, tmp_path / "checkout")
    before, files = records(folder), stamps(folder)
    path = folder / f"vbon/objectives/{module}.py"
    tree = ast.parse(path.read_text())
    [definition] = [node for node in tree.body if getattr(node, "name", "") == function]
    definition.body.insert(1, ast.parse("changed = True").body[0])  # after the docstring
    path.write_text(ast.unparse(tree))
    planned = plan(folder)
    run(folder, "--cores", "2", *BUILT_POINTS)
    done, again = retrained(before, records(folder)), redone(files, stamps(folder))
    tell(f"{function} of objectives/{module}.py", planned, done)
    assert planned == f"3 runs, {counted}"
    assert trained <= done <= trained | {"reference/default/seed0"}
    responses = {path for path in files if path.endswith("responses/test.parquet")}
    assert responses <= again
    parts = ("/models/", "/prompts/", "/reference/", "/data/")
    assert not {path for path in again if any(f"sentiment{part}" in path for part in parts)}
    assert plan(folder) == "3 runs, to train: 0"


def test_a_changed_style_redraws_only(swept, tmp_path):
    folder = copy(swept, tmp_path / "checkout")
    before = stamps(folder)
    edit(folder / "vbon/figures/style.py", "DPI = 200\n", "DPI = 100\n")
    counted = plan(folder)
    assert planned_jobs(folder) == {"figure": 1, "all": 1, "total": 2}
    run(folder, "--cores", "2")
    again = redone(before, stamps(folder))
    tell("pixels of a figure", counted, again)
    assert counted == "10 runs, to train: 0"
    figure = "enumerable/figures/optimum"
    assert again == {f"{figure}.{suffix}" for suffix in ("pdf", "svg", "png", "csv", "json")}

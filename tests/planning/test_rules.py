"""What the rules ask: tables, figures, evidence, shards, draws and measured files of a config."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from vbon.artifacts.fingerprint import content_hash
from vbon.artifacts.steps import steps
from vbon.errors import VbonError
from vbon.planning.analysis_values import NAMED, VALUES, Values
from vbon.planning.config import merge, resolve
from vbon.planning.drawing import Drawing
from vbon.planning.workflow import Plan

ROOT = Path(__file__).parent.parent.parent
DEFAULT = yaml.safe_load((ROOT / "config.yaml").read_text())
SMALL = {
    "tasks": ["sentiment"],
    "run_methods": ["reference", "best_of_n", "vbon"],
    "methods": {"reference": {}, "best_of_n": {"n": [4]}, "vbon": {"n": [2, 4]}},
    "seeds": [0, 1],
    "sentiment": {"sampling": {"train_draws": 600}},
}
"""A configuration without studies, and with too few draws for table 1."""
COMMON = {"excerpts", "cards", "claims", "missing"}
OF_TEXTS = COMMON | {"data", "matched_kl", "attainment", "orderings", "inference"}
OF_TEXTS |= {"distances", "oracle_curves", "prompt_means", "bands"}


def plan(*overlays, **options):
    config = {}
    for overlay in overlays:
        config = merge(config, overlay)
    return Plan(resolve(config), **options)


@pytest.fixture(scope="module")
def whole():
    """The plan of the shipped configuration."""
    return plan(DEFAULT, has_code=False)


def test_tables_follow_from_the_kind_and_from_what_is_run(whole):
    trained = {"histories", "convergence"}
    studied = {"equivalence", "estimators", "table1", "unequal"}
    assert set(whole.table_names("sentiment")) == OF_TEXTS | trained | studied | {"shown_pools"}
    summaries = COMMON | {"data", "histories", "lead", "section6", "monitored"}
    examples = {"table2", "table4", "table5", "table6", "table7"}
    assert set(whole.table_names("summarization")) == summaries | examples
    exact = {"optimum", "pools", "exact_and_bound", "limits", "curves"}
    assert set(whole.table_names("enumerable")) == COMMON | {"histories"} | exact

    assert set(plan(SMALL).table_names("sentiment")) == OF_TEXTS | trained | {"shown_pools"}
    untrained = plan(SMALL, {"run_methods": ["reference", "best_of_n"]})
    assert set(untrained.table_names("sentiment")) == OF_TEXTS | {"shown_pools"}
    draws = {"sentiment": {"sampling": {"train_draws": 850}}}
    assert "table1" in plan(SMALL, draws).table_names("sentiment")
    colder = {"summarization": {"evaluation": {"temperatures": [0.25, 1]}}}
    assert plan(DEFAULT, colder).examples("summarization") == ["table4", "table7"]


def test_each_table_is_made_by_one_step(whole):
    for task in whole.tasks:
        names = whole.table_names(task)
        assert len(names) == len(set(names))
        assert set(whole.rendered(task)) < set(names)
    outputs = whole.outputs(steps()["matched"])
    assert outputs == {
        "matched_kl": "results/{task}/tables/matched_kl.csv",
        "attainment": "results/{task}/tables/attainment.csv",
    }
    assert whole.outputs(steps()["claims"]) == {"output": "results/{task}/tables/claims.csv"}


TABLES = plan(DEFAULT, has_code=False).table_steps()


@pytest.mark.parametrize("name", TABLES)
def test_every_parameter_of_a_table_has_a_value(whole, name):
    step = steps()[name]
    needed = [*step.named("input"), *step.named("setting")]
    assert set(needed) <= set(VALUES)
    inputs, params = Values(whole).inputs(step), Values(whole).params(step)
    assert set(inputs) == set(step.named("input"))
    assert set(params) - {"code"} >= set(step.named("setting"))
    for task in (task for task in whole.tasks if name in whole.tables(task)):
        wildcards = SimpleNamespace(task=task)
        for function in inputs.values():
            files = function(wildcards)
            files = [files] if isinstance(files, str) else files
            assert all(path.startswith(f"results/{task}/") for path in files)
        for key in set(params) - {"code"}:
            words = params[key](wildcards)
            assert isinstance(words, str | int | float | list)
            if key in NAMED:
                files = Values(whole).value(task, key)
                assert words == [f"{k}={path}" for k, path in files.items()]


def test_every_value_is_a_parameter_of_a_step_of_the_analysis():
    analysis = [step for step in steps().values() if step.phase == "analysis"]
    assert set(VALUES) <= {name for step in analysis for name in step.parameters}
    rules = {"pareto": set(), "headline": set(), "example": {"split"}}  # beside those of tables
    for name, wildcards in rules.items():
        step = steps()[name]
        assert {*step.named("input"), *step.named("setting")} - wildcards <= set(VALUES)


def test_settings_are_one_word_of_json(whole):
    params = Values(whole).params(steps()["estimators"])
    wildcards = SimpleNamespace(task="sentiment")
    assert json.loads(params["scoring"](wildcards)) == whole.config["sentiment"]["rewards"]
    assert params["n"](wildcards) == 8
    with pytest.raises(KeyError):
        Values(whole).value("sentiment", "mood")


def test_claims_rest_on_the_tables_that_are_made(whole):
    folder, value = "results/sentiment", Values(whole).value
    assert value("sentiment", "evidence") == {
        "points": f"{folder}/points.parquet",
        "costs": f"{folder}/costs.parquet",
        "orderings": f"{folder}/tables/orderings.csv",
        "table1": f"{folder}/tables/table1.csv",
        "figure4": f"{folder}/studies/figure4/points.parquet",
    }
    small = Values(plan(SMALL)).value("sentiment", "evidence")
    assert set(small) == {"points", "costs", "orderings"}
    assert set(value("summarization", "evidence")) == {"points", "costs", "section6"}
    assert set(value("enumerable", "evidence")) == {"identity", "invariance"}
    assert value("sentiment", "groups") == ["tradeoff", "draws", "cost"]


def test_figures_follow_from_the_kind_and_its_studies(whole):
    trade_off = ["figure2a", "figure2b", "figure3", "figure6", "figure7a", "figure7b"]
    drawing = Drawing(whole)
    assert drawing.figures("sentiment") == [*trade_off, "figure4", "estimators"]
    assert drawing.figures("summarization") == ["figure5a", "figure5b", "overoptimisation"]
    assert drawing.figures("enumerable") == ["optimum"]
    small = Drawing(plan(SMALL))
    assert small.figures("sentiment") == trade_off
    assert set(drawing.tables("sentiment", "figure6")) == {
        "points", "attainment", "equivalence", "missing"
    }  # fmt: skip
    assert set(small.tables("sentiment", "figure6")) == {"points", "attainment", "missing"}
    made = {f"results/sentiment/tables/{name}.csv" for name in small.plan.table_names("sentiment")}
    drawn = {path for paths in small.sources.values() for path in paths if "/tables/" in path}
    assert drawn <= made


def test_shards_divide_the_prompts(whole):
    size = {"summarization": {"sampling": {"prompts_per_shard": 100}}}
    sharded = plan(DEFAULT, size, has_code=False)
    assert sharded.num_shards("summarization", "train") == 3  # of 256 prompts
    assert sharded.num_shards("summarization", "test") == 2  # of 128
    folder = "results/summarization/reference/shards"
    assert sharded.shards("summarization", "samples", "test-t0.5") == [
        f"{folder}/samples-test-t0.5-0.parquet",
        f"{folder}/samples-test-t0.5-1.parquet",
    ]
    assert len(sharded.seconds(sharded.roots["summarization"])) == 2 * 3
    assert whole.seconds(whole.roots["enumerable"]) == [
        f"results/enumerable/reference/seconds/{kind}-train-0.json"
        for kind in ("samples", "rewards")
    ]


def test_draws_are_those_of_log_f_and_fresh_ones_for_the_test(whole):
    assert whole.draws("sentiment", "train") == 850
    assert whole.draws("sentiment", "test") == 600 + 512
    assert whole.draws("summarization", "test") == 64 + 3 * 100  # by three sample seeds
    assert whole.used_draws("sentiment", "train") == 600
    assert whole.used_draws("summarization", "test-t0.5") == 64
    assert whole.drawn_together("sentiment") == {"train": {"train": 1.0}, "test": {"test": 1.0}}
    assert whole.drawn_together("summarization")["test"] == {
        "test-t0.25": 0.25, "test-t0.5": 0.5, "test-t0.75": 0.75, "test-t1": 1
    }  # fmt: skip
    temperatures = ["test-t0.25", "test-t0.5", "test-t0.75", "test-t1"]
    assert whole.sets_of_draws == sorted(["train", "test", *temperatures])


def test_runs_are_measured_in_their_jobs():
    few = plan(SMALL, {"runs_per_job": 4, "methods": {"best_of_n": {"seeds": [0]}}})
    measured = few.measured("sentiment")
    folder = "results/sentiment/runs"
    records = [path for path in measured if path.endswith("/run.json")]
    assert sorted(records) == sorted(
        [f"{folder}/reference/default/seed{seed}/run.json" for seed in (0, 1)]
        + [f"{folder}/best_of_n/n4/seed0/run.json"]
        + [f"{folder}/vbon/n{n}/seed{seed}/run.json" for n in (2, 4) for seed in (0, 1)]
    )
    marks = measured[len(records) :]
    assert marks == [f"results/sentiment/evaluated/{name}" for name in few.jobs]
    groups = [run.folder for group in few.jobs.values() for run in group]
    assert sorted(groups) == sorted(path.removesuffix("/run.json") for path in records)
    assert max(map(len, few.jobs.values())) <= 4
    first = next(iter(few.jobs.values()))
    assert few.marks(first[:1]) == marks[:1]


def test_runs_of_a_study_are_its_own(whole):
    records = whole.records(whole.studied("sentiment", "figure4"))
    assert len(records) == 6 * 3
    assert all(path.startswith("results/sentiment/studies/figure4/") for path in records)
    assert not set(records) & set(whole.measured("sentiment"))
    assert set(records) <= set(whole.measured("sentiment/studies/figure4"))


def files(plan, task):
    """Every file of a task that the workflow names."""
    drawing, wildcards = Drawing(plan), SimpleNamespace(task=task)
    found = [*drawing.comparisons(task), *drawing.reported(task).values()]
    found += [path for path in drawing.sources if path.startswith(f"{plan.folder(task)}/")]
    found += [*plan.measured(task), *plan.seconds(plan.roots[task])]
    for split in ("train", *plan.tasks[task].splits):
        found += [
            path for kind in ("samples", "rewards") for path in plan.shards(task, kind, split)
        ]
    for name, step in plan.tables(task).items():
        found += [path.format(task=task) for path in plan.outputs(step).values()]
        for function in Values(plan).inputs(step).values():
            paths = function(wildcards)
            found += [paths] if isinstance(paths, str) else paths
        assert name in plan.steps
    runs = plan.runs_of(task)
    found += [path for run in runs for path in run.inputs().values()]
    return set(found)


def test_two_sections_of_one_kind_share_no_file():
    section = {"kind": "reviews"}
    both = plan({**SMALL, "tasks": ["imdb", "films"], "imdb": section, "films": section})
    assert both.text_tasks == ["imdb", "films"]
    assert both.tables("imdb") == both.tables("films")
    imdb, films = files(both, "imdb"), files(both, "films")
    assert len(imdb) == len(films) > 50
    assert not imdb & films
    assert {path.replace("imdb", "films") for path in imdb} == films
    assert both.having("data") == "imdb|films"
    assert both.having("optimum") == "none"
    assert {name.split("/")[0] for name in Drawing(both).shown} == {"imdb", "films"}


def test_a_partial_sweep_needs_a_finished_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VbonError, match="no run is finished yet"):
        plan(SMALL, {"partial": True})
    everything = plan(SMALL, {"partial": True}, is_alone=True)
    assert len(everything.runs) == len(everything.planned)
    assert everything.missing("sentiment") == []


def test_code_is_hashed_only_where_the_workflow_was_started(whole):
    group = next(iter(whole.jobs.values()))
    assert whole.code("merge") is whole.code_of_group("train", group) is None
    assert whole.code_of_languages() is None
    started = plan({**SMALL, "tasks": ["enumerable"]})
    assert started.code("merge") == steps()["merge"].code()
    languages = steps()["languages"].code(task=started.tasks["enumerable"])
    assert started.code_of_languages() == languages != started.code("languages")
    methods = {run.method: run for run in started.runs}
    codes = {started.code_of_group("train", [methods[name]]) for name in ("reference", "vbon")}
    assert len(codes) == 2


def alone(*overlays):
    return Drawing(plan(SMALL, *overlays, is_alone=True, has_code=False))


def write(path):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("a\n1\n")


def test_figures_alone_are_drawn_from_the_tables_that_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert alone().drawable() == []
    copies, left_out = alone().notes()
    assert copies == [
        f"{t}: results/{t} has no tables; using published/{t}" for t in SMALL["tasks"]
    ]
    assert any(line.startswith("left out: results/sentiment/figures/figure3") for line in left_out)
    write("results/sentiment/tables/shown_pools.csv")
    drawing = alone()
    drawn = {f"results/sentiment/figures/figure3.{s}" for s in ("pdf", "svg", "png", "csv")}
    assert set(drawing.drawable()) == drawn
    assert drawing.drawable("results/other") == []
    copies, left_out = drawing.notes()
    assert copies == []
    assert any("figures/figure2a, since results/sentiment/points" in line for line in left_out)
    assert list(drawing.shown) == ["sentiment/figures/figure3"]
    assert "results/sentiment/points.parquet" in drawing.not_shown


def test_copies_and_then_published_tables_are_used(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = "results/sentiment/studies/estimators/points.parquet"
    write("published/sentiment/studies/estimators/points.csv")
    write("published/sentiment/tables/shown_pools.csv")
    drawing = alone()
    assert drawing.published == ["sentiment"]
    assert drawing.stored(path) == "published/sentiment/studies/estimators/points.csv"
    assert drawing.drawable()
    assert "using published/sentiment" in drawing.notes()[0][0]
    write("results/sentiment/studies/estimators/points.csv")
    assert alone().stored(path) == "results/sentiment/studies/estimators/points.csv"
    write(path)
    assert alone().stored(path) == path
    write("results/sentiment/tables/shown_pools.csv")
    assert alone().published == []  # results has a table of it
    table = "elsewhere/sentiment/tables/shown_pools.csv"
    assert alone({"results_dir": "elsewhere"}).stored(table) == table
    assert Drawing(plan(SMALL)).stored("results/absent.parquet") == "results/absent.parquet"


def test_jobs_run_the_functions_of_the_configuration_alone(tmp_path, monkeypatch):
    file = tmp_path / "mine.py"
    file.write_text("def f(texts): return [0.0] * len(texts)")
    given = {"tasks": ["sentiment"], "run_methods": ["reference"], "methods": {"reference": {}}}
    given |= {"seeds": [0], "sentiment": {"reward_model": {"callable": f"{file}:f"}}}
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    environment = Plan(resolve(given)).environment
    assert environment == {"VBON_FUNCTIONS": content_hash(file), "PYTHONHASHSEED": "0"}
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    plain = Plan(resolve(given | {"sentiment": {}})).environment
    assert plain == {"VBON_FUNCTIONS": "", "PYTHONHASHSEED": "7"}

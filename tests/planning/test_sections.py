"""Several tasks of one kind, each a section under a name of its own."""

import json
from pathlib import Path

import pytest
import yaml

from vbon.cli import main
from vbon.errors import ConfigError
from vbon.planning.config import resolve
from vbon.planning.hub import hub_sources
from vbon.planning.runs import expand
from vbon.planning.workflow import Plan

BASE = {
    "run_methods": ["reference", "vbon"],
    "seeds": [0],
    "methods": {"reference": {}, "vbon": {"n": [2]}},
}
TWO = BASE | {
    "tasks": ["films", "books"],
    "films": {"kind": "reviews", "prompts": {"num_train": 8, "num_test": 4}},
    "books": {"kind": "reviews", "reference": {"id": "me/model"}},
}


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder with the configuration of two sections."""
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(yaml.safe_dump(TWO))
    return tmp_path


def test_two_sections_of_a_kind_have_their_own_settings_runs_and_folders():
    config = resolve(TWO)
    assert config["films"]["prompts"]["num_train"] == 8
    assert config["books"]["prompts"]["num_train"] == 512
    assert {run.folder for run in expand(config)} == {
        f"results/{name}/runs/{run}/seed0"
        for name in ("films", "books")
        for run in ("reference/default", "vbon/n2")
    }
    plan = Plan(config, has_code=False)
    assert plan.text_tasks == ["films", "books"]
    assert list(plan.tables("films")) == list(plan.tables("books"))
    assert not set(map(str, plan.jobs)) & {"films", "books"}
    assert len(plan.jobs) == 2  # a job has the runs of one task


def test_a_section_that_no_task_names_is_checked_and_not_run():
    config = resolve(TWO | {"tasks": ["films"]})
    assert {run.task for run in expand(config)} == {"films"}
    with pytest.raises(ConfigError, match=r"^books\.prompts\.zzz: unknown key"):
        resolve(TWO | {"tasks": ["films"], "books": {"kind": "reviews", "prompts": {"zzz": 1}}})


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"prompts": {"max_tokens": 1}}, "films.prompts.max_tokens: 1 is not allowed"),
        ({"prompts": {"min_tokens": 9}}, "films.prompts.max_tokens: 8 is below films.prompts."),
        (
            {"reviews": {"sources": "x"}},
            "films.reviews.sources: unknown key; did you mean 'source'",
        ),
        ({"logf": {"m": 999}}, "films.logf.m: 999 draws requested, films.sampling.train_draws"),
        ({"posts": {}}, "films.posts: unknown key"),
        ({"kind": "revews"}, "films.kind: 'revews' is unknown; did you mean 'reviews'? accepted: "),
        ({"kind": 3}, "films.kind: 3 is unknown; accepted: enumerable, posts, prompts, reviews"),
        ({"kind": ["posts"]}, "films.kind: ['posts'] is unknown; did you mean 'posts'?"),
        ({"kind": None}, "films.kind: missing, but tasks lists films; add a section films that"),
        ({"studies": {"a": {"logf": {"m": 0}}}}, "films.studies.a.logf.m: 0 is not allowed"),
    ],
)
def test_errors_name_the_section_in_one_line(section, words):
    with pytest.raises(ConfigError) as error:
        resolve(TWO | {"films": {"kind": "reviews"} | section})
    assert str(error.value).startswith(words)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("section", [{}, {"films": {}}, {"films": {"prompts": {"num_test": 4}}}])
def test_a_task_without_a_kind_is_refused_with_the_remedy(section):
    with pytest.raises(ConfigError) as error:
        resolve(BASE | {"tasks": ["films"], **section})
    assert str(error.value) == (
        "films.kind: missing, but tasks lists films; add a section films that gives its kind; "
        "accepted: enumerable, posts, prompts, reviews, and files in the folder that VBON_TASKS "
        "names"
    )


def test_a_misspelt_top_level_key_is_not_taken_for_a_section():
    with pytest.raises(ConfigError, match=r"^sead: unknown key; did you mean 'seed'\?"):
        resolve(TWO | {"sead": 1})


def test_verbs_for_people_read_both_sections(checkout, capsys, monkeypatch):
    assert main(["check-config"]) == 0
    shown = capsys.readouterr().out
    assert "# films: 1 runs of the sweep, 1 of selection alone, 0 of studies" in shown
    assert "# books: no estimate, since me/model is not at hand; describe it by" in shown
    assert resolve(yaml.safe_load(shown)) == resolve(TWO)
    assert main(["plan"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "films reference default seed0 to make"
    assert shown[-1] == "4 runs, to train: 2"

    assert list(hub_sources(resolve(TWO))) == ["books.reference.id"]
    fetched = []
    monkeypatch.setattr(
        "vbon.planning.hub.fetch", lambda place, *source: fetched.append((place, *source)) or "abc"
    )
    assert main(["prefetch", "--output", "hub.json"]) == 0
    assert fetched == [("books.reference.id", "model", "me/model", None)]
    assert json.loads(Path("hub.json").read_text())["books.reference.id"]["commit"] == "abc"


def test_an_unknown_kind_ends_a_verb_with_one_line(checkout, capsys):
    Path("config.yaml").write_text(yaml.safe_dump(TWO | {"films": {"kind": "film"}}))
    for verb in ("check-config", "plan", "prefetch"):
        assert main([verb]) == 1
        error = capsys.readouterr().err
        assert error == (
            f"vbon {verb}: films.kind: 'film' is unknown; accepted: enumerable, posts, prompts, "
            "reviews\n"
        )

from pathlib import Path

import pytest

from vbon.planning.config import load
from vbon.planning.hub import hub_sources, is_hub_id, unpinned

ROOT = Path(__file__).parent.parent.parent


def sources(name):
    return load([ROOT / "config.yaml", ROOT / "config" / name])


def test_folders_are_not_asked_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models/mine").mkdir(parents=True)
    assert not is_hub_id("models/mine")
    assert not is_hub_id(str(tmp_path))
    assert is_hub_id("models/other")


def test_what_the_embedded_benchmark_takes_from_the_hub_is_nothing():
    assert hub_sources(load([ROOT / "config.yaml"])) == {}


@pytest.mark.parametrize(
    ("name", "places", "unknown"),
    [
        ("paper-sentiment.yaml", 5, ["sentiment.reference.revision"]),
        (
            "paper-summarization.yaml",
            5,
            [f"summarization.{x}.revision" for x in ("reference", "reward_model", "evaluator")]
            + ["summarization.posts.revision"],
        ),
    ],
)
def test_what_is_not_pinned_is_told_once_a_key(name, places, unknown):
    config = sources(name)
    assert len(hub_sources(config)) == places
    assert [line.split(":")[0] for line in unpinned(config)] == unknown

"""What an artifact says of its making, and what is said of one that was changed."""

import json

import pandas as pd
import pytest

from vbon.artifacts import write_table
from vbon.artifacts.fingerprint import provenance
from vbon.artifacts.measured import measured
from vbon.artifacts.tables import write_csv, write_json, write_record
from vbon.cli import main
from vbon.planning.runs import Run

REWARDS = pd.DataFrame({"text": ["a", "b"], "reward": [0.5, 1.5]})


@pytest.fixture
def world(tmp_path):
    """A table, a table made of it, a figure of that, and a run."""
    source, derived = tmp_path / "rewards.parquet", tmp_path / "tables/mean.csv"
    made = provenance({"seed": 3, "reviews": 7}, {}, ("vbon.tasks.reviews",))
    write_table(source, REWARDS, "text_rewards", made)
    made = provenance({"bootstrap": 20}, {"rewards": source}, ("vbon.seeding", "vbon.errors"))
    derived.parent.mkdir()
    write_csv(derived, pd.DataFrame({"mean": [1.0]}), made)
    derived.with_suffix(".png").write_bytes(b"picture")
    run = tmp_path / "runs/ppo/beta1/seed2"
    (run / "policy").mkdir(parents=True)
    (run / "policy/weights").write_text("weights")
    names = {"status": "ok", "method": "ppo", "setting": "beta1", "seed": 2, "spec": {"lam": 0.5}}
    took = measured()
    spent = {"train_seconds": took.pop("seconds"), "seconds": {"sample": 1}}
    write_record(run / "run.json", {**made, **names, **took, **spent})
    return tmp_path


def describe(capsys, *paths):
    code = main(["describe", *map(str, paths)])
    said = capsys.readouterr()
    return code, said.out if code == 0 else said.err


def test_a_table_says_settings_code_machine_and_time(world, capsys):
    code, text = describe(capsys, world / "rewards.parquet")
    assert code == 0
    for words in ("text_rewards, version 1", "reviews: 7", "seed: 3", "torch 2.", "at most"):
        assert words in text
    assert "the same as that of vbon.tasks.reviews" in text
    assert "(from" not in text


@pytest.mark.parametrize("suffix", [".csv", ".png"])
def test_what_has_no_footer_is_described_by_its_card(world, capsys, suffix):
    code, text = describe(capsys, world / f"tables/mean{suffix}")
    assert code == 0
    assert "(from" in text
    assert "bootstrap: 20" in text
    assert f"rewards: {world / 'rewards.parquet'}" in text
    assert "still the same" in text


@pytest.mark.parametrize("part", ["", "run.json", "policy", "policy/weights"])
def test_a_run_is_described_from_anywhere_in_it(world, capsys, part):
    code, text = describe(capsys, world / "runs/ppo/beta1/seed2" / part)
    assert code == 0
    assert "ppo beta1 seed 2: ok" in text
    assert "lam: 0.5" in text


def test_inputs_that_changed_since_or_are_gone_are_told(world, capsys):
    write_table(world / "rewards.parquet", REWARDS.assign(reward=0.0), "text_rewards")
    assert "CHANGED since" in describe(capsys, world / "tables/mean.csv")[1]
    (world / "rewards.parquet").unlink()
    assert "gone" in describe(capsys, world / "tables/mean.csv")[1]


def test_code_that_is_not_todays_is_told(world, capsys):
    card = world / "tables/mean.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"code": "older"}))
    assert "not the same as that of vbon.seeding, vbon.errors" in describe(capsys, card)[1]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("rewards.parquet", "is damaged"),
        ("tables/mean.csv", "mean.csv is not what was written"),
        ("runs/ppo/beta1/seed2/policy/weights", "policy is not what was written"),
    ],
)
def test_what_was_changed_by_hand_is_refused(world, capsys, path, words):
    text = (world / path).read_bytes()
    (world / path).write_bytes(text[:-1])
    code, said = describe(capsys, world / path)
    assert code == 1
    assert words in said


def test_what_nothing_tells_of_is_refused(world, capsys):
    (world / "notes.txt").write_text("notes")
    assert "has no provenance" in describe(capsys, world / "notes.txt")[1]
    assert "does not exist" in describe(capsys, world / "nothing")[1]


def test_everything_that_is_known_as_json(world, capsys):
    assert main(["describe", "--json", str(world / "tables/mean.csv")]) == 0
    known = json.loads(capsys.readouterr().out)
    assert known["settings"] == {"bootstrap": 20}
    assert known["paths"] == {"rewards": str(world / "rewards.parquet")}
    assert set(known["measured"]) == {"seconds", "peak_memory_mb", "hardware", "written"}


def test_aggregation_refuses_a_run_of_another_spec(world, capsys):
    from vbon.errors import ArtifactError
    from vbon.evaluation.steps import _record_of

    run = world / "runs/ppo/beta1/seed2"
    asked = Run("t", "", "ppo", "beta1", 2, str(world), str(world), "train", {}, {"lam": 0.5})
    assert _record_of(str(run), asked.spec_hash)["setting"] == "beta1"
    with pytest.raises(ArtifactError, match=r"seed2/run\.json: its spec is not the one.*describe"):
        _record_of(str(run), "another hash")


@pytest.mark.parametrize("path", ["/dev/zero", "/usr", "/proc/self/mem", "/nowhere", "\x00"])
def test_a_record_does_not_choose_what_is_read(world, capsys, monkeypatch, path):
    """Its inputs and modules are names by a stranger: devices and whole disks are not read."""
    monkeypatch.chdir(world)
    (world / "link").symlink_to("/dev/zero")
    record = {"inputs": {"a": "x", "b": "y"}, "paths": {"a": path, "b": "link"}, "code": "x"}
    record |= {"modules": [f"{path}:f" if "/" in path else path, "/dev/zero"], "key": "k"}
    write_json(world / "evil/card.json", record)
    code, text = describe(capsys, world / "evil/card.json")
    assert code == 0
    assert "made with a module that is not here" in text
    assert text.count("not compared: it is not below this folder") + text.count(", gone") == 2


def test_a_record_does_not_control_the_terminal(world, capsys):
    escape = "\x1b[2J\x9b\x07"
    record = {"key": "k", "inputs": {escape: escape}, "paths": {}, "versions": {escape: escape}}
    write_json(world / "evil/card.json", record | {"modules": 3, "code": escape, "weights": escape})
    code, text = describe(capsys, world / "evil/card.json")
    assert code == 0
    assert text.isprintable() or not set(text) & set("\x1b\x9b\x07")


@pytest.mark.parametrize("field", ["paths", "versions", "inputs", "measured", "written", "schema"])
@pytest.mark.parametrize("value", [None, [], 3, "text"])
def test_fields_that_are_missing_or_of_another_type(world, capsys, field, value):
    made = provenance({"seed": 3}, {"rewards": world / "rewards.parquet"}, ("vbon.seeding",))
    record = {**made, "status": "ok", field: value}
    write_json(world / "odd/run.json", record)
    code, text = describe(capsys, world / "odd/run.json")
    assert code == 0
    assert "seed: 3" in text

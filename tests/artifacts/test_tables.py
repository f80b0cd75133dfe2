"""Tables on disk: complete or absent, with the columns of their schema, and reproducible."""

import json
import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vbon.artifacts import SCHEMAS, read_provenance, read_table, write_table
from vbon.artifacts import tables as tables_module
from vbon.artifacts.fingerprint import content_hash
from vbon.artifacts.tables import (
    atomic_path,
    check_table,
    damaged_parts,
    read_either,
    read_record,
    write_json,
    write_record,
)
from vbon.errors import ArtifactError

EXAMPLES = {
    pa.string(): ["x", "y"],
    pa.bool_(): [True, False],
    pa.int32(): [0, 1],
    pa.int64(): [0, 2**40],
    pa.float64(): [0.5, np.nan],
    pa.list_(pa.int32()): [[1, 2], [3]],
    pa.list_(pa.float64()): [[0.5], [0.25, 1.5]],
}


def example(schema):
    """Two rows of a schema, keys distinct."""
    spec = SCHEMAS[schema]
    frame = pd.DataFrame({name: EXAMPLES[kind] for name, kind in spec.columns.items()})
    for key in spec.keys:
        if spec.columns[key] == pa.float64():
            frame[key] = [0.5, 1.0]
    return frame


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_table_comes_back_as_it_was(tmp_path, schema):
    frame, path = example(schema), tmp_path / "deep" / "table.parquet"
    write_table(path, frame, schema, {"seed": 3})
    back = read_table(path, schema)
    assert list(back.columns) == list(SCHEMAS[schema].columns)
    for name, values in frame.items():
        if isinstance(values[0], list):
            assert [list(row) for row in back[name]] == values.tolist()
        else:
            np.testing.assert_array_equal(back[name], values)
    made = read_provenance(path)
    assert made.pop("file") == path.name
    took = made.pop("measured")
    assert set(took) == {"seconds", "peak_memory_mb", "hardware", "written"}
    assert took["peak_memory_mb"] > 10
    assert made.pop("content") == content_hash(path)
    assert made == {"schema": schema, "version": SCHEMAS[schema].version, "seed": 3}
    types = {field.name: field.type for field in pq.read_schema(path)}
    assert types == SCHEMAS[schema].columns


def test_the_same_rows_give_the_same_content_and_except_for_times_the_same_bytes(
    tmp_path, monkeypatch
):
    paths = [tmp_path / name / "test.parquet" for name in ("a", "b")]
    for path in paths:
        write_table(path, example("responses"), "responses", {"b": 1, "a": 2})
    assert content_hash(paths[0]) == content_hash(paths[1])
    monkeypatch.setattr(tables_module, "measured", dict)
    for path in paths:
        write_table(path, example("responses"), "responses", {"b": 1, "a": 2})
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_further_columns_are_kept_and_can_be_chosen(tmp_path):
    frame, path = example("history").assign(extra=[1.0, 2.0]), tmp_path / "t.parquet"
    write_table(path, frame, "history")
    assert read_table(path, "history")["extra"].tolist() == [1.0, 2.0]
    assert list(read_table(path, "history", ["extra", "step"]).columns) == ["extra", "step"]
    with pytest.raises(ArtifactError, match="column 'loss' is missing"):
        read_table(path, "history", ["step", "loss"])


@pytest.mark.parametrize("column", SCHEMAS["samples"].columns)
def test_a_missing_column_is_named_and_nothing_is_written(tmp_path, column):
    path = tmp_path / "t.parquet"
    with pytest.raises(ArtifactError, match=rf"lacks column '{column}'; nothing written"):
        write_table(path, example("samples").drop(columns=column), "samples")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("schema", ["rewards", "strings"])
def test_repeated_keys_are_refused(tmp_path, schema):
    frame = pd.concat([example(schema)] * 2, ignore_index=True)
    with pytest.raises(ArtifactError, match="repeats a key"):
        write_table(tmp_path / "t.parquet", frame, schema)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("column", "values"),
    [("draw", [0.5, 1.5]), ("draw", ["a", "b"]), ("response", [1, 2]), ("response_ids", [1, 2])],
)
def test_a_column_of_another_type_is_named(tmp_path, column, values):
    frame = example("samples").assign(**{column: values})
    with pytest.raises(ArtifactError, match=rf"column '{column}' is not"):
        write_table(tmp_path / "t.parquet", frame, "samples")


def test_a_further_column_without_a_type_is_named(tmp_path):
    frame = example("history").assign(mixed=["a", 1])
    with pytest.raises(ArtifactError, match="column 'mixed' is not of one type"):
        write_table(tmp_path / "t.parquet", frame, "history")


def test_a_failed_write_leaves_the_old_table(tmp_path, monkeypatch):
    path = tmp_path / "t.parquet"
    write_table(path, example("history"), "history", {"seed": 1})
    before = path.read_bytes()

    def fail(path, table, footer):
        path.write_bytes(b"half of a ta")
        raise OSError("disk full")

    monkeypatch.setattr(tables_module, "_write_parquet", fail)
    with pytest.raises(OSError, match="disk full"):
        write_table(path, example("history"), "history", {"seed": 2})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_atomic_path_appears_at_the_end_of_its_block(tmp_path):
    path = tmp_path / "folder" / "note.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent  # a rename across file systems is a copy
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]
    assert os.stat(path).st_mode & 0o777 == 0o644
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text(f"other {1 / 0}")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_json_is_written_in_one_order(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": [1.5, None]})
    write_json(tmp_path / "b.json", {"a": [1.5, None], "b": 1})
    text = (tmp_path / "a.json").read_text()
    assert text == (tmp_path / "b.json").read_text()
    assert text.endswith("}\n")
    assert json.loads(text) == {"a": [1.5, None], "b": 1}


def command(path):
    return "vbon workflow --cores all"


def test_an_absent_table_names_the_command_that_makes_it(tmp_path):
    path = tmp_path / "t.parquet"
    with pytest.raises(ArtifactError, match=rf"does not exist.*{command(path)}"):
        read_table(path, "history")


@pytest.mark.parametrize("kept", [0, 3, 100, -1, -10])
def test_a_truncated_table_names_the_command_that_makes_it(tmp_path, kept):
    path = tmp_path / "t.parquet"
    write_table(path, example("history"), "history")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ArtifactError, match=rf"is damaged.*{command(path)}") as error:
        read_table(path, "history")
    assert "\n" not in str(error.value)


def test_damaged_data_behind_an_intact_footer_are_noticed(tmp_path):
    path = tmp_path / "t.parquet"
    frame = pd.DataFrame({name: np.arange(5000) for name in SCHEMAS["history"].columns})
    write_table(path, frame, "history")
    content = bytearray(path.read_bytes())
    content[40:4000] = b"\xff" * 3960
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"is damaged.*{command(path)}"):
        read_table(path, "history")


def rewritten(path, edit):
    """Another program's version of a table, its metadata kept as pyarrow keeps them."""
    table = pq.read_table(path)
    kept = pq.read_metadata(path).metadata
    pq.write_table(edit(table).replace_schema_metadata({b"vbon": kept[b"vbon"]}), path)


def test_data_changed_by_hand_are_noticed_even_under_the_old_footer(tmp_path):
    path = tmp_path / "t.parquet"
    write_table(path, example("history"), "history")
    rewritten(path, lambda table: table.set_column(4, "reward", pa.array([0.5, 0.75])))
    with pytest.raises(ArtifactError, match=r"is damaged.*do not match") as error:
        read_table(path, "history", ["step"])  # whichever column is read
    assert str(path) in str(error.value)


def test_a_table_saved_again_by_pandas_is_refused(tmp_path):
    path = tmp_path / "t.parquet"
    write_table(path, example("history"), "history")
    pd.read_parquet(path).assign(reward=1.0).to_parquet(path)
    with pytest.raises(ArtifactError, match="has changed since"):
        read_table(path, "history")


def test_one_flipped_bit_anywhere_in_the_data_is_noticed(tmp_path):
    path = tmp_path / "t.parquet"
    write_table(path, example("samples"), "samples")
    whole = path.read_bytes()
    end = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for position in range(4, end):
        rotten = bytearray(whole)
        rotten[position] ^= 1 << (position % 8)
        path.write_bytes(rotten)
        os.utime(path, (position, position))
        with pytest.raises(ArtifactError, match="is damaged"):
            check_table(path)


def test_errors_name_the_command_that_a_job_works_for(tmp_path, monkeypatch):
    monkeypatch.setenv("VBON_COMMAND", "vbon workflow --cores 2 --configfile mine.yaml")
    with pytest.raises(ArtifactError, match=r"--configfile mine\.yaml"):
        read_table(tmp_path / "t.parquet", "history")


def test_changed_and_missing_parts_of_a_record_are_named(tmp_path):
    folder, record = tmp_path, tmp_path / "run.json"
    (folder / "policy").mkdir()
    (folder / "policy" / "weights").write_text("one")
    write_table(folder / "history.parquet", example("history"), "history")
    write_record(record, {"key": "k", "status": "ok"})
    assert read_record(record)["status"] == "ok"
    assert damaged_parts(record) == []
    write_table(folder / "history.parquet", example("history"), "history", {"again": True})
    (folder / "responses").mkdir()  # made later, and not one of its parts
    assert damaged_parts(record) == []
    (folder / "policy" / "weights").write_text("two")
    os.utime(folder / "policy" / "weights", (1, 1))
    assert damaged_parts(record) == ["policy"]
    (folder / "history.parquet").unlink()
    assert damaged_parts(record) == ["history.parquet", "policy"]


@pytest.mark.parametrize("text", ["", '{"key": ', "[]", '{"status": "ok"}'])
def test_a_record_that_is_no_record_names_the_command_that_makes_it(tmp_path, text):
    path = tmp_path / "run.json"
    with pytest.raises(ArtifactError, match="does not exist"):
        read_record(path)
    path.write_text(text)
    with pytest.raises(ArtifactError, match=rf"run\.json is damaged.*{command(path)}"):
        read_record(path)


def test_another_schema_or_version_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "t.parquet"
    write_table(path, example("rewards"), "rewards")
    with pytest.raises(
        ArtifactError, match="contains table 'rewards' version 1, expected 'samples'"
    ):
        read_table(path, "samples")
    newer = SCHEMAS["rewards"].__class__(
        "rewards", SCHEMAS["rewards"].keys, SCHEMAS["rewards"].columns, version=2
    )
    monkeypatch.setitem(SCHEMAS, "rewards", newer)
    with pytest.raises(ArtifactError, match=r"version 1, expected 'rewards' version 2; delete it"):
        read_table(path, "rewards")


def test_a_column_that_an_older_writer_lacked_is_named(tmp_path):
    path = tmp_path / "t.parquet"
    footer = {b"vbon": json.dumps({"schema": "history", "version": 1}).encode()}
    table = pa.table({"step": [1]}).replace_schema_metadata(footer)
    pq.write_table(table, path)
    with pytest.raises(ArtifactError, match="column 'episodes' is missing"):
        read_table(path, "history")


def test_a_table_of_another_program_is_refused(tmp_path):
    path = tmp_path / "t.parquet"
    example("history").to_parquet(path)
    with pytest.raises(ArtifactError, match="was not written by vbon"):
        read_provenance(path)


def test_the_error_for_an_unknown_schema_lists_the_known_ones(tmp_path):
    with pytest.raises(ArtifactError, match=r"unknown table schema 'rewrads'; known: .*rewards"):
        write_table(tmp_path / "t.parquet", example("rewards"), "rewrads")


def test_a_table_under_the_name_of_another_is_damaged(tmp_path):
    path = tmp_path / "rewards-train-1.parquet"
    write_table(path, example("rewards"), "rewards")
    with pytest.raises(ArtifactError, match="written as rewards-train-1"):
        check_table(path.rename(tmp_path / "rewards-train-0.parquet"))


def test_texts_of_a_small_table_stay_texts(tmp_path):
    """A response of digits is no number, and one of "NA" or "null" is not missing."""
    rows = {"prompt": ["1", "NA"], "response": ["", "007"], "reward": [1.5, np.nan], "seed": [0, 1]}
    pd.DataFrame(rows).to_csv(tmp_path / "excerpts.csv", index=False)
    table = read_either(tmp_path / "excerpts.csv")
    assert table["prompt"].tolist() == rows["prompt"]
    assert table["response"].tolist() == rows["response"]
    assert table["reward"].isna().tolist() == [False, True]
    assert table["seed"].tolist() == [0, 1]

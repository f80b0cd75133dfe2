"""Tables on disk: whole or not there, of the columns they should have, and the same twice."""

import json
import os
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vbon.artifacts import SCHEMAS, read_provenance, read_table, write_table
from vbon.artifacts import tables as tables_module
from vbon.artifacts.tables import atomic_path, write_json
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
    assert made == {"schema": schema, "version": SCHEMAS[schema].version, "seed": 3}
    types = {field.name: field.type for field in pq.read_schema(path)}
    assert types == SCHEMAS[schema].columns


def test_the_same_rows_give_the_same_bytes(tmp_path):
    paths = [tmp_path / name for name in ("a.parquet", "b.parquet")]
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

    def fail(table, target, **options):
        target.write_bytes(b"half of a ta")
        raise OSError("disk full")

    monkeypatch.setattr(tables_module.pq, "write_table", fail)
    with pytest.raises(OSError, match="disk full"):
        write_table(path, example("history"), "history", {"seed": 2})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_atomic_path_appears_at_the_end_of_its_block(tmp_path):
    path = tmp_path / "folder" / "note.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent  # a rename across file systems is no rename
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
    return re.escape(f"snakemake --cores 1 -- {path}")


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


def test_data_that_rotted_behind_a_whole_footer_are_noticed(tmp_path):
    path = tmp_path / "t.parquet"
    frame = pd.DataFrame({name: np.arange(5000) for name in SCHEMAS["history"].columns})
    write_table(path, frame, "history")
    content = bytearray(path.read_bytes())
    content[40:4000] = b"\xff" * 3960
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"is damaged.*{command(path)}"):
        read_table(path, "history")


def test_another_schema_or_version_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "t.parquet"
    write_table(path, example("rewards"), "rewards")
    with pytest.raises(ArtifactError, match="holds table 'rewards' version 1, expected 'samples'"):
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


def test_a_table_of_somebody_else_is_refused(tmp_path):
    path = tmp_path / "t.parquet"
    example("history").to_parquet(path)
    with pytest.raises(ArtifactError, match="was not written by vbon"):
        read_provenance(path)


def test_unknown_schemas_list_the_known(tmp_path):
    with pytest.raises(ArtifactError, match=r"unknown table schema 'rewrads'; known: .*rewards"):
        write_table(tmp_path / "t.parquet", example("rewards"), "rewrads")

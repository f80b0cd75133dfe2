"""Rows of files of every format, and files that cannot be read: one line each, with the place."""

import gzip
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vbon.errors import ConfigError, DataError
from vbon.planning.config import resolve
from vbon.tasks import files
from vbon.tasks.files import read_local, source_kind
from vbon.tasks.reviews import load_reviews
from vbon.tasks.texts import local_files

ROWS = [
    {"text": "a good film, really", "label": 1},
    {"text": "“bad”\nand long", "label": 0},
    {"text": "so so 🙂", "label": 1},
]
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n"
LINES = "\n\n".join(json.dumps(row) for row in ROWS).encode()


def packed(table, ending):
    """A table as a file with this ending; ``feather`` is Arrow's format for files."""
    sink = pa.BufferOutputStream()
    if ending == "parquet":
        pq.write_table(table, sink)
    else:
        write = pa.ipc.new_stream if ending == "arrow" else pa.ipc.new_file
        with write(sink, table.schema) as file:
            file.write_table(table, 2)  # rows per batch
    return sink.getvalue().to_pybytes()


TWICE = {
    kind: packed(pa.table([["a"], ["b"]], names=["text", "text"]), kind)
    for kind in ("parquet", "arrow")
}


def write(path, rows=ROWS):
    """A file in the format of its name."""
    path.parent.mkdir(exist_ok=True, parents=True)
    name, frame = path.name.lower(), pd.DataFrame(rows)
    kind = name.removesuffix(".gz").rpartition(".")[2]
    if kind == "jsonl":
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    elif kind == "json":
        data = json.dumps(rows, indent=1).encode()
    elif kind == "csv":
        data = frame.to_csv(index=False).encode()
    else:
        data = packed(pa.Table.from_pandas(frame), kind)
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return str(path)


@pytest.mark.parametrize("ending", ["jsonl", "JSONL", "json", "csv", "parquet", "Parquet", "arrow"])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_every_format_gives_the_same_reviews(tmp_path, ending, packed):
    reviews = load_reviews(write(tmp_path / f"films.v2.{ending}{packed}"))
    assert reviews["text"].tolist() == [row["text"] for row in ROWS]
    assert reviews["label"].tolist() == [1, 0, 1]
    assert reviews["source_id"].str.match(r"films\.v2-00000\d$").all()


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_arrow_is_read_in_its_format_for_files_too(tmp_path, compress):
    path = tmp_path / ("films.arrow" if compress is bytes else "films.arrow.gz")
    path.write_bytes(compress(packed(pa.Table.from_pylist(ROWS), "feather")))
    assert load_reviews(str(path))["text"].tolist() == [row["text"] for row in ROWS]


@pytest.mark.parametrize(
    "data", [LINES, b"\xef\xbb\xbf" + LINES, b"\n [" + LINES.replace(b"\n\n", b",") + b"]"]
)
def test_json_is_a_list_or_lines_and_may_begin_with_a_mark(tmp_path, data):
    (tmp_path / "films.json").write_bytes(data)
    assert load_reviews(str(tmp_path / "films.json"))["text"].tolist() == [
        row["text"] for row in ROWS
    ]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_byte_order_mark_is_no_part_of_a_column(tmp_path, ending):
    path = write(tmp_path / f"films.{ending}")
    marked = b"\xef\xbb\xbf" + (tmp_path / f"films.{ending}").read_bytes()
    (tmp_path / f"films.{ending}").write_bytes(marked)
    assert len(load_reviews(path)) == 3


def test_a_folder_is_all_of_its_files_or_those_of_a_split(tmp_path):
    write(tmp_path / "a.parquet", ROWS[:1])
    write(tmp_path / "b/c.CSV", ROWS[1:2])
    write(tmp_path / ".cache/d.jsonl")
    (tmp_path / "README.md").write_text("# films")
    (tmp_path / "dataset_info.json").write_text("{}")
    named = {name: row for name, _, row in read_local(str(tmp_path), "key")}
    assert list(named) == ["a-000001", "b-c-000002"]
    assert local_files(str(tmp_path)) == [str(tmp_path / "a.parquet"), str(tmp_path / "b/c.CSV")]
    write(tmp_path / "test-00000-of-00001.parquet", ROWS[2:])
    write(tmp_path / "data/train.jsonl", ROWS[:2])
    write(tmp_path / "data/train.csv", ROWS[2:])
    assert [row["text"] for _, _, row in read_local(f"{tmp_path}:test", "key")] == ["so so 🙂"]
    names = [name for name, _, _ in read_local(str(tmp_path), "key")]  # train, as `datasets` does
    assert names == ["data-train-csv-000002", "data-train-jsonl-000001", "data-train-jsonl-000002"]
    assert local_files(f"{tmp_path}:test") == [str(tmp_path / "test-00000-of-00001.parquet")]
    with pytest.raises(DataError, match=r"key '.*:dev' has no data files of split 'dev'; give a "):
        next(read_local(f"{tmp_path}:dev", "key"))


def test_the_kind_of_a_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    kinds = {
        "grammar": "grammar",
        "mine": "local",
        "mine:train": "local",
        "./absent": "local",
        "absent/": "local",
        "data/of/mine": "local",
        "films.JSONL": "local",
        "data/films.csv.gz": "local",
        "notes.txt": "local",
        "imdb": "hub",
        "stanfordnlp/imdb:train": "hub",
        "allenai/c4-v1.1": "hub",
    }
    assert {source: source_kind(source) for source in kinds} == kinds
    assert local_files("films.JSONL") == ["films.JSONL"]
    assert local_files("grammar") == local_files("imdb") == []


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("f.jsonl", b'{"text": "ok"}\n{"text": "a \\ud83d"}', "line 2: has half"),
        ("f.jsonl", b'{"\\udc00": 1}', r"line 1: has half of a character \('\\udc00'\)"),
        ("f.jsonl", b"\n" + b"[" * 200_000, r"line 2: unreadable JSON \(nested too deeply\)"),
        ("f.json", b"[" * 200_000, r"line 1: unreadable JSON \(nested too deeply\)"),
        ("f.jsonl", b'{"label": ' + b"1" * 5000 + b"}", r"line 1: unreadable JSON \(Exceeds"),
        ("f.json", b'[{"label": ' + b"1" * 5000 + b"}]", r"line 1: unreadable JSON \(Exceeds"),
        ("f.jsonl", b"{}\n" + b"x" * 2000, "line 2: is longer than"),
        ("f.json", b'[{"text": "a"},\n {"text": ]', r"line 2: unreadable JSON \(Expecting value"),
        ("f.json", b"[" + b" " * 3000, "line 1: the file has more than"),
        ("f.jsonl", b'{"text":\n{}', r"line 1: unreadable JSON \(Expecting value: column 9\)"),
        ("f.jsonl", '{"text": "é"}'.encode("utf-16"), "line 1: the file is UTF-16; save the file"),
        ("f.csv", "text,é\n".encode("utf-16"), "line 1: the file is UTF-16; save the file"),
        ("f.jsonl.gz", gzip.compress("{}".encode("utf-16"), mtime=0), "line 1: the file is UTF-16"),
        ("f.jsonl", b'{}\n{"text": "caf\xe9"}', "line 2: is not UTF-8; save the file in UTF-8"),
        ("f.parquet", LFS, "line 1: the file is a pointer of Git LFS in .*; call `git lfs pull`"),
        ("f.jsonl.gz", LFS, "line 1: the file is a pointer of Git LFS"),
        ("f.jsonl", b'{}\n{"a": 1, "b": 2, "a": 1}', "line 2: an object gives 'a' twice; give"),
        ("f.json", b'[{},\n{"a": [{"b": 1, "b": 2}]}]', "row 2: an object gives 'b' twice"),
        ("f.parquet", TWICE["parquet"], "row 1: two columns are named 'text'; give each a name"),
        ("f.arrow", TWICE["arrow"], "row 1: two columns are named 'text'"),
        ("f.csv", b"text,label\n\na,1\nb,1,2\n", r"line 4: has 3 cells, the header 2 \(t"),
        ("f.csv", b"text,text\na,1\n", "line 1: two columns are named 'text'"),
        ("f.csv", b'text,label\n"a,1\n', "line 2: unreadable CSV"),
        ("f.csv", b"text,label\na,1\ncaf\xe9,1\n", "line 3: is not UTF-8; save the file in"),
        ("f.csv", b"text,label\n" + b"x" * 2000 + b",1\n", "line 2: unreadable CSV .field larger"),
        ("f.parquet", b"PAR1 cut", "after line 0: cannot be read"),
        ("f.arrow", b"cut", "after line 0: cannot be read"),
        ("f.csv.gz", b"not gzip", "cannot be read"),
    ],
)  # fmt: skip
def test_bad_files_are_one_line_with_the_place(tmp_path, monkeypatch, name, data, message):
    if "longer" in message or "larger" in message:
        monkeypatch.setattr(files, "_LONGEST_LINE", 1000)
    if "more than" in message:
        monkeypatch.setattr(files, "_LARGEST_FILE", 2000)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=rf"{name},? .*{message}|{name}, {message}") as caught:
        list(read_local(str(tmp_path / name), "key"))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_unknown_and_absent_files_are_refused_with_what_is_accepted(tmp_path):
    (tmp_path / "notes.txt").write_text("a")
    accepted = r"give a file that ends in \.jsonl, \.json, \.parquet, \.csv, \.arrow \(perhaps with"
    with pytest.raises(DataError, match=rf"key '.*notes\.txt' has an unknown ending; {accepted}"):
        next(read_local(str(tmp_path / "notes.txt"), "key"))
    with pytest.raises(DataError, match=rf"key '.*absent\.csv' does not exist; {accepted}"):
        next(read_local(str(tmp_path / "absent.csv"), "key"))
    with pytest.raises(DataError, match=rf"has no data files; {accepted}"):
        next(read_local(str(tmp_path), "key"))


@pytest.mark.parametrize("source", ["notes.txt", "./absent", "data/films.xlsx"])
def test_a_source_that_no_reader_accepts_is_refused_before_any_work(source):
    runs = {"run_methods": ["reference"], "methods": {"reference": {}}, "seeds": [0]}
    section = {"reviews": {"source": source}}
    with pytest.raises(ConfigError, match=rf"^films\.reviews\.source: '{source}' .*; give a file"):
        resolve({"tasks": ["films"], **runs, "films": {"kind": "reviews", **section}})

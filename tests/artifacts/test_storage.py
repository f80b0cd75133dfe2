"""Folders that are complete or absent, and messages for errors of storage."""

import errno
import os

import pytest
import torch
from safetensors.torch import save_file

from vbon.artifacts.storage import atomic_folder, clear_leftovers, explain, naming
from vbon.artifacts.tables import atomic_path, write_json


def fail(path, error):
    """Write half of something, then fail."""
    path.write_text("half")
    raise error


def test_a_folder_replaces_another_only_when_it_is_complete(tmp_path):
    target = tmp_path / "model"
    with atomic_folder(target) as folder:
        (folder / "old.txt").write_text("old")
    with pytest.raises(RuntimeError), atomic_folder(target) as folder:
        fail(folder / "new.txt", RuntimeError("in between"))
    assert [path.name for path in target.iterdir()] == ["old.txt"]
    with atomic_folder(target) as folder:
        (folder / "new.txt").write_text("new")
    assert [path.name for path in target.iterdir()] == ["new.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "text", "a/b.csv"), "a/b.csv: No space left on device; free some"),
        (OSError(errno.EROFS, "text", "a"), "a: Read-only file system; make it writable, or give"),
        (PermissionError(errno.EACCES, "text", "a"), "a: Permission denied; make it writable"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "No space left on dev"),
    ],
)
def test_errors_of_storage_name_the_place_and_the_remedy(error, words):
    assert words in explain(error)
    assert "\n" not in explain(error)


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "text", "a"), ValueError("28")])
def test_other_errors_are_not_explained(error):
    assert explain(error) is None
    with pytest.raises(type(error)), naming("somewhere"):
        raise error


def test_the_error_of_a_full_disk_names_the_file_to_be_written(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text("old")
    with pytest.raises(OSError, match="No space") as caught, atomic_path(path) as temporary:
        fail(temporary, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))  # as write() raises it
    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["points.csv"]


def test_leftovers_of_killed_writers_are_cleared(tmp_path):
    write_json(tmp_path / "runs/seed0/run.json", {})
    (tmp_path / "runs/.seed1.partial/policy").mkdir(parents=True)
    for name in (".points.csv.a8_x0b2k.csv", ".points.csv.a8_x0b2k", ".gitignore", ".complete"):
        (tmp_path / name).touch()
    clear_leftovers(tmp_path)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"runs/seed0/run.json", ".gitignore", ".complete"}


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_files_have_the_permissions_that_the_mask_allows(tmp_path, mask, mode):
    """Temporary files and those of safetensors have 0600 at first."""
    before = os.umask(mask)
    try:
        with atomic_folder(tmp_path / "model") as folder:
            save_file({"a": torch.zeros(1)}, folder / "model.safetensors")
            assert folder.joinpath("model.safetensors").stat().st_mode & 0o777 == 0o600
            write_json(folder / "part/card.json", {})
        write_json(tmp_path / "a.json", {})
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 3
    assert {path.stat().st_mode & 0o777 for path in files} == {mode}

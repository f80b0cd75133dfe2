"""Local copies of Hugging Face Hub repositories, fetched once and then read offline."""

import os
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

from vbon.errors import ArtifactError

_CACHES = {
    "hub": ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"),
    "datasets": ("HF_DATASETS_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"),
    "snakemake": ("XDG_CACHE_HOME", "HOME"),
}
"""Environment variables that decide where a cache is, the first that is set."""
FETCH = "`vbon prefetch` with the same config on a machine with network access"


def check_cache(name: str, folder: str | Path) -> None:
    """Refuse a cache that cannot be written.

    Args:
        name: ``hub``, ``datasets`` or ``snakemake``.
        folder: The cache.

    Raises:
        ArtifactError: One line that names the folder and the environment variable that decides it.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return
    except OSError as error:
        variable = next((v for v in _CACHES[name] if os.environ.get(v)), _CACHES[name][-1])
        usual = "XDG_CACHE_HOME" if name == "snakemake" else "HF_HOME"
        remedy = variable if variable.startswith("HF_") else usual
        raise ArtifactError(
            f"the cache {folder} cannot be written ({os.strerror(error.errno)}); it is below "
            f"{variable} = {os.environ.get(variable, '')!r}: set {remedy} to a folder that can be "
            "written"
        ) from error


def snapshot(name: str, revision: str | None = None, kind: str = "model") -> Path:
    """Folder of a repository that was fetched before; no request is sent to the hub.

    Args:
        name: Id of the repository.
        revision: Commit, branch or tag; by default the main branch as of when it was fetched.
        kind: ``model`` or ``dataset``.

    Raises:
        ArtifactError: If there is no local copy.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(name, revision=revision, repo_type=kind, local_files_only=True)
    except (OSError, ValueError) as error:  # the hub's errors are of these kinds
        at = f" at revision {revision}" if revision else ""
        raise ArtifactError(
            f"{kind} {name!r}{at} is not on this machine; run {FETCH}, or give a local folder"
        ) from error
    return Path(folder)


def snapshot_file(name: str, file: str, revision: str | None = None) -> Path:
    """A file of a model's repository that was fetched before, or of a local folder.

    Args:
        name: Id of the repository, or folder.
        file: Its name there.
        revision: Commit, branch or tag; by default the main branch as of when it was fetched.

    Raises:
        ArtifactError: If there is no local copy.
    """
    from huggingface_hub import hf_hub_download

    path = Path(name).expanduser() / file
    if not path.parent.is_dir():
        options = {"revision": revision, "local_files_only": True}
        with suppress(OSError, ValueError):  # the hub's errors are of these kinds
            path = Path(hf_hub_download(name, file, **options))
    if not path.is_file():
        raise ArtifactError(
            f"model {name!r} has no file {file!r} on this machine; correct its name, or run {FETCH}"
        )
    return path

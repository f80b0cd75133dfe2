"""Repositories of the Hugging Face hub that are here: fetched once, then read without a network."""

from pathlib import Path

from vbon.errors import ArtifactError

FETCH = "`vbon prefetch` with the same config where there is a network"


def snapshot(name: str, revision: str | None = None, kind: str = "model") -> Path:
    """Folder of a repository that was fetched before; the hub is not asked.

    Args:
        name: Id of the repository.
        revision: Commit, branch or tag; the main branch as it was when fetched by default.
        kind: ``model`` or ``dataset``.

    Raises:
        ArtifactError: If it is not on this machine, naming the id and what to do.
    """
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(name, revision=revision, repo_type=kind, local_files_only=True)
    except (OSError, ValueError) as error:  # the hub's errors are of these kinds
        at = f" at revision {revision}" if revision else ""
        raise ArtifactError(
            f"{kind} {name!r}{at} is not on this machine; call {FETCH}, or give a local folder"
        ) from error
    return Path(found)

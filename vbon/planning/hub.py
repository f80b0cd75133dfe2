"""Models and datasets that a configuration takes from the Hugging Face hub: pins, and fetching."""

import glob
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vbon.artifacts.snapshots import FETCH, snapshot_file
from vbon.errors import ArtifactError, ConfigError, DataError
from vbon.tasks.base import ROLES
from vbon.tasks.files import source_kind
from vbon.tasks.registry import KINDS

_COMMIT = re.compile("[0-9a-f]{40}")
_OTHERS = ["*.h5", "*.msgpack", "*.ot", "*.onnx", "*.tflite", "onnx/*", "openvino/*", "coreml/*"]
"""Weights for libraries that are not used here."""


def is_hub_id(name: str | None) -> bool:
    """Return True if a model's id names one on the hub, not a folder of this machine.

    Example:
        >>> [is_hub_id(name) for name in ("gpt2", "lvwerra/gpt2-imdb", "./mine", None)]
        [True, True, False, False]
    """
    if name is None or name.startswith(("/", ".", "~")):
        return False
    return not Path(name).exists() and name.count("/") < 2


def hub_sources(config: Mapping[str, Any]) -> dict[str, tuple[str | None, ...]]:
    """Kind, id and revision of all that a configuration takes from the hub, by key of the id.

    If only one file is needed, its name follows.
    """
    sources: dict[str, tuple[str | None, ...]] = {}
    for task in config["tasks"]:
        section = config[task]
        for role in ROLES:
            model = section.get(role, {})
            if is_hub_id(model.get("id")):
                file = [model["gguf_file"]] if model.get("gguf_file") else []
                sources[f"{task}.{role}.id"] = ("model", model["id"], model["revision"], *file)
        place = getattr(KINDS.get(section["kind"]), "texts_key", "")
        texts = section.get(place) or {}
        for key in ("source", "test_source"):
            source = texts.get(key)
            if source is not None and source_kind(source) == "hub":
                sources[f"{task}.{place}.{key}"] = ("dataset", source, texts.get("revision"))
    return sources


def gguf_of(model: Mapping[str, Any], place: str) -> Path | None:
    """GGUF file of a model; None for another kind of model, and for a file not fetched yet.

    Args:
        model: The model in the configuration.
        place: Its path there, for errors.

    Raises:
        ConfigError: If a file of this machine does not exist.
    """
    key = "gguf_file" if model.get("gguf_file") is not None else "gguf"
    if model.get(key) is None:
        return None
    if key == "gguf_file" and is_hub_id(model["id"]):
        with suppress(ArtifactError):
            return snapshot_file(model["id"], model[key], model["revision"])
        return None
    folder = model["id"] if key == "gguf_file" else ""
    path = Path(folder, Path(model[key]).expanduser()).expanduser()
    if not path.is_file():
        raise ConfigError(f"{place}.{key}: {str(path)!r} does not exist; give a .gguf file")
    return path


def check_gguf(config: Mapping[str, Any]) -> None:
    """Refuse GGUF files that cannot be read, as far as they are on this machine.

    Args:
        config: A resolved configuration.

    Raises:
        ConfigError: If one is missing, cut, or of an architecture that transformers does not read.
    """
    for task in config["tasks"]:
        for role in ROLES:
            place = f"{task}.{role}"
            path = gguf_of(config[task].get(role, {}), place)
            if path is None:
                continue
            from vbon.models.gguf import read_config, read_header

            try:
                read_config(read_header(path))
            except DataError as error:
                raise ConfigError(f"{place}: {error}") from error


def unpinned(config: Mapping[str, Any]) -> list[str]:
    """Warnings for ids of the hub without a commit, whose content may change, one line each."""
    lines = {}  # one per revision: a source and its test source share theirs
    for place, (_, name, revision, *_) in hub_sources(config).items():
        if not _COMMIT.fullmatch(revision or ""):
            key = f"{place.rpartition('.')[0]}.revision"
            lines[key] = (
                f"{key}: {revision!r} is no commit, so {name} may change under the benchmark; "
                "give the 40 digits that `vbon prefetch` prints"
            )
    return list(lines.values())


def fetch(place: str, kind: str, name: str, revision: str | None, file: str | None = None) -> str:
    """Download a repository, unless it is in the cache.

    Args:
        place: Key of its id in the config, for errors.
        kind: ``model`` or ``dataset``.
        name: Its id; a dataset's may have a split after a colon.
        revision: Commit, branch or tag; None for the main branch.
        file: Only this file of it; all that models are loaded from by default.

    Returns:
        The commit that was fetched.

    Raises:
        DataError: If there is no such id or revision, access is not granted, or no network.
    """
    from huggingface_hub import snapshot_download

    repository = name.partition(":")[0]
    try:
        options: dict[str, Any] = {"revision": revision, "repo_type": kind}
        if file is None:
            options["ignore_patterns"] = _unwanted(repository, kind, revision)
        else:
            options["allow_patterns"] = [glob.escape(file)]
        folder = Path(snapshot_download(repository, **options))
    except Exception as error:  # the libraries below raise many kinds
        raise DataError(f"{place}: {_reason(error, kind, repository, revision)}") from error
    if file is not None and not (folder / file).is_file():
        raise DataError(f"{place}: {kind} {name!r} has no file {file!r}; correct its name")
    if (base := _base_of(folder)) is not None:
        fetch(place, "model", *base)
    return folder.name


def _base_of(folder: Path) -> tuple[str, str | None] | None:
    """Id and revision of the model on the hub that a folder's adapter changes; None without one."""
    file = folder / "adapter_config.json"
    settings = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    name = settings.get("base_model_name_or_path")
    return (name, settings.get("revision")) if is_hub_id(name) else None


def _unwanted(name: str, kind: str, revision: str | None) -> list[str]:
    """Files that are skipped: weights for other libraries, and pickled ones beside safe ones."""
    if kind != "model":
        return []
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        files = HfApi().list_repo_files(name, revision=revision)
    except OfflineModeIsEnabled:  # the cache is used as it is
        return _OTHERS
    safe = any(file.endswith(".safetensors") for file in files)
    return [*_OTHERS, "*.bin", "*.pt"] if safe else _OTHERS


def _reason(error: Exception, kind: str, name: str, revision: str | None) -> str:
    """Why a repository could not be fetched, and what to do."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return (
            f"access to {kind} {name!r} is not granted; accept its terms on its page, log in with "
            "`hf auth login`, and call `vbon prefetch` again"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{kind} {name!r} has no revision {revision!r}; give one of its commits"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"there is no {kind} {name!r} that this account may see; correct the id, give a local "
            "folder, or log in with `hf auth login` and call `vbon prefetch` again"
        )
    reason = " ".join(str(error).split())[:160]
    return (
        f"{kind} {name!r} could not be fetched ({type(error).__name__}: {reason}); call {FETCH} "
        "and bring its cache (HF_HOME) here"
    )

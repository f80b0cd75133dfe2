"""Files of the user's that a configuration reads: data, reward functions, models of this machine.

The workflow depends on their content alone: a file that is touched or copied makes nothing again.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vbon.artifacts.encoding import POINTER, beginning, foreign
from vbon.artifacts.fingerprint import content_hash
from vbon.errors import ConfigError
from vbon.planning.hub import hub_sources, is_hub_id
from vbon.tasks.base import ROLES, TextTask
from vbon.tasks.files import ACCEPTED
from vbon.tasks.registry import KINDS, make_task
from vbon.tasks.texts import local_files

_KINDS = {
    **dict.fromkeys(("source", "test_source"), f"{ACCEPTED}, or a dataset id"),
    **dict.fromkeys(("gguf", "gguf_file"), "a .gguf file"),
    "callable": "a Python file",
    "id": "a folder with a model, or an id of the hub",
}
_ID = {
    "model": re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII),
    "dataset": re.compile(r"\w[\w.-]*(/\w[\w.-]*)?(:[^/]+)?", re.ASCII),
}
"""Ids of the hub; that of a dataset may be followed by a split."""
_ADAPTER = "adapter_config.json"  # in a folder of peft


def data_inputs(section: Mapping[str, Any]) -> dict[str, list[str]]:
    """Data files of a task's section, by the key of their source."""
    place = getattr(KINDS.get(section["kind"]), "texts_key", "")
    texts = section.get(place) or {}
    sources = {key: texts.get(key) for key in ("source", "test_source")}
    files = {
        f"{place}.{key}": local_files(source)
        for key, source in sources.items()
        if source is not None
    }
    return {key: paths for key, paths in files.items() if paths}


def model_inputs(section: Mapping[str, Any], role: str) -> dict[str, list[str]]:
    """Files and folders of this machine that one model of a section is, by their key.

    The base of an adapter (peft) counts if it is a folder of this machine.
    """
    model = section.get(role) or {}
    name = model.get("id")
    if model.get("callable"):
        return {f"{role}.callable": [model["callable"].rpartition(":")[0]]}
    if model.get("gguf"):
        return {f"{role}.gguf": [os.path.expanduser(model["gguf"])]}
    if name is None or is_hub_id(name):
        return {}
    folder = os.path.expanduser(name)
    if model.get("gguf_file"):
        return {f"{role}.gguf_file": [os.path.join(folder, model["gguf_file"])]}
    return {f"{role}.id": [folder, *_bases(Path(folder))]}


def _bases(folder: Path) -> Iterator[str]:
    """Folders outside an adapter's own that its weights are added to, each named by the last."""
    seen = {folder.resolve()}
    while (folder / _ADAPTER).is_file():
        try:
            name = json.loads((folder / _ADAPTER).read_bytes())["base_model_name_or_path"]
            places = (Path(name).expanduser(), folder / name)
        except (ValueError, TypeError, KeyError, RuntimeError):
            return  # refused when it is loaded
        folder = next((place for place in places if place.is_dir()), folder)
        if folder.resolve() in seen:
            return
        seen.add(folder.resolve())
        yield str(folder)


def inputs_of(section: Mapping[str, Any]) -> dict[str, list[str]]:
    """All files and folders of this machine that a task's section reads, by their key."""
    inputs = data_inputs(section)
    for role in ROLES:
        inputs |= model_inputs(section, role)
    return inputs


def content(inputs: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Hash of the content of each input, by its key."""
    return {key: list(map(content_hash, paths)) for key, paths in inputs.items()}


def check_inputs(config: Mapping[str, Any]) -> None:
    """Refuse a configuration whose inputs or folder of results cannot be used, as far as is quick.

    Raises:
        ConfigError: One line: the key, its value, the remedy.
    """
    _check_creation(config["results_dir"])
    for place, (kind, name, *_) in hub_sources(config).items():
        if not _ID[kind].fullmatch(name):
            accepted = _KINDS[place.rpartition(".")[2]]
            raise ConfigError(f"{place}: {name!r} is no id of a {kind}; give {accepted}")
    for task in config["tasks"]:
        section = config[task]
        for key, paths in inputs_of(section).items():
            for path in paths:
                if what := _fault(Path(path), key.rpartition(".")[2]):
                    raise ConfigError(f"{task}.{key}: {path!r} {what}")
        if isinstance(made := make_task(section), TextTask):
            made.check_rows(task)
        for role in ROLES:
            name = (section.get(role) or {}).get("id")
            pointer = Path(config["results_dir"], task, "models", role, "pointer.json")
            if is_hub_id(name) and _was_folder(pointer, name):
                raise ConfigError(
                    f"{task}.{role}.id: the folder {name!r}, of which {pointer.parent} was made, "
                    "does not exist; bring it back, or give another"
                )


def _fault(path: Path, key: str) -> str | None:
    """Fault of a file or folder that the user gives for a key, with the remedy."""
    if not path.exists():
        return f"does not exist; give {_KINDS[key]}"
    if key == "id" and not any((path / name).is_file() for name in ("config.json", _ADAPTER)):
        return f"has no config.json; give {_KINDS[key]}"
    if key != "id" and not path.is_file():
        return f"is no file; give {_KINDS[key]}"
    files = [path] if path.is_file() else sorted(path.iterdir())
    for file in filter(Path.is_file, files):
        try:
            start = beginning(file)
        except OSError as error:
            return f"cannot be read ({file.name}: {error.strerror}); give another"
        if start.startswith(POINTER):  # weights may begin as UTF-16 does
            return f"{'' if file == path else f'has a file {file.name} that '}{foreign(start)}"
    return None


def _check_creation(folder: str) -> None:
    """Refuse a folder of results that does not exist and cannot be created."""
    place = next(
        place for place in (Path(folder), *Path(folder).absolute().parents) if place.exists()
    )
    try:
        if place != Path(folder):
            TemporaryDirectory(dir=place).cleanup()
    except OSError as error:
        raise ConfigError(
            f"results_dir: {folder!r} cannot be created ({error.strerror}); give a folder that can"
        ) from error


def _was_folder(pointer: Path, name: str) -> bool:
    """Return True if results were made with a folder of this name, which is an id now."""
    try:
        target = json.loads(pointer.read_bytes())
        return target["id"] == name and "content" in target
    except (OSError, ValueError, TypeError, KeyError):
        return False

"""Models that are saved as an adapter (peft) of a base model, merged when they are loaded."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel

from vbon.artifacts.snapshots import snapshot
from vbon.errors import ArtifactError

SETTINGS = "adapter_config.json"
_PREFIX = "base_model.model."
_LOCAL: Mapping[str, Any] = {"local_files_only": True}


def base_of(folder: Path) -> tuple[str, str | None, Path] | None:
    """Id, revision and folder of the model that a folder's adapter changes; None without adapter.

    The id may be a folder, also below the adapter's own, or an id of the hub.

    Raises:
        ArtifactError: If the adapter names no base model, or one that is not on this machine.
    """
    if not (folder / SETTINGS).is_file():
        return None
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        name, revision = settings["base_model_name_or_path"], settings.get("revision")
        places = [Path(name).expanduser(), folder / name]
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise ArtifactError(
            f"{folder / SETTINGS}: names no base model; give its id or folder as "
            "base_model_name_or_path"
        ) from error
    place = next((place for place in places if (place / "config.json").is_file()), None)
    try:
        return name, revision, place or snapshot(name, revision)
    except ArtifactError as error:
        raise ArtifactError(
            f"{name!r}, the base model of the adapter in {folder}, is not on this machine; fetch "
            f"it with `hf download {name}`, or give its folder in {SETTINGS}"
        ) from error


def load_merged(
    auto: Any, folder: Path, base: Path, options: Mapping[str, Any]
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Load a base model with its adapter and merge them.

    Args:
        auto: One of transformers' Auto classes.
        folder: Folder of the adapter.
        base: Folder of the base model.
        options: Options of ``from_pretrained``, with ``output_loading_info``.

    Returns:
        The model, and the library's report on its weights without those that the adapter has.

    Raises:
        ArtifactError: If the adapter is not merged exactly as it is saved.
    """
    from peft import PeftConfig, PeftModel, get_peft_model_state_dict

    if PeftConfig.from_pretrained(folder).is_prompt_learning:
        raise ArtifactError("its adapter adds prompts, which cannot be merged into weights")
    saved = _tensors(folder)
    whole = {name.removeprefix(_PREFIX): tensor for name, tensor in saved.items()}
    config = AutoConfig.from_pretrained(base, trust_remote_code=False, **_LOCAL)
    with torch.device("meta"):
        sizes = {
            name: parameter.shape for name, parameter in auto.from_config(config).named_parameters()
        }
    # A head of the adapter has the number of classes, which its settings do not.
    whole = {name: tensor for name, tensor in whole.items() if name in sizes}
    classes = {len(whole[name]) for name in whole if whole[name].shape != sizes[name]}
    if len(classes) == 1:
        config.num_labels = classes.pop()
    model, info = auto.from_pretrained(base, config=config, trust_remote_code=False, **options)
    heads = [key for key in info["missing_keys"] if key in whole]
    others = f"{model.base_model_prefix}."
    info = {
        "missing_keys": info["missing_keys"] - whole.keys(),
        # The base model's own head, which the adapter's replaces.
        "unexpected_keys": {
            key for key in info["unexpected_keys"] if not heads or key.startswith(others)
        },
        "mismatched_keys": {row for row in info["mismatched_keys"] if row[0] not in whole},
    }
    if info["missing_keys"] or info["mismatched_keys"]:  # a fault, which the caller reports
        return model, info
    wrapped = PeftModel.from_pretrained(model, folder)
    loaded = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    differing = sorted(
        name
        for name in saved.keys() | loaded.keys()
        if name not in saved
        or name not in loaded
        or not torch.equal(saved[name].to(loaded[name].dtype), loaded[name].cpu())
    )
    if differing:
        raise ArtifactError(f"its adapter does not fit the base model at {differing[0]}")
    return wrapped.merge_and_unload(), info


def _tensors(folder: Path) -> dict[str, Tensor]:
    """Weights of an adapter by name."""
    from safetensors.torch import load_file

    file = folder / "adapter_model.safetensors"
    if file.is_file():
        return load_file(file)
    return torch.load(folder / "adapter_model.bin", map_location="cpu", weights_only=True)

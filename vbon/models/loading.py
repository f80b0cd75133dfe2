"""Loading of models in Hugging Face's format: every weight from the checkpoint, or an error.

The library initialises weights that a checkpoint lacks at random and only logs it, so that each
process would score texts with another head.
"""

import json
import logging
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast

from vbon.artifacts.snapshots import snapshot
from vbon.errors import ArtifactError
from vbon.models.adapters import base_of, load_merged

POINTER = "pointer.json"
_UNUSED = re.compile(
    # Buffers of earlier versions of the library, computed from the configuration, and marks.
    r"(^|\.)(position_ids|inv_freq|masked_bias|causal_mask|attn\.bias|attention\.bias|version)$"
    # A pooler saved with an encoder whose class does not have one, and TRL's value head.
    r"|(^|\.)pooler\.|^v_head\."
)
"""Weights in a checkpoint that may be left over."""
_SHOWN = 3  # weights that an error names

# Instead of its table of missing weights there is an error in one line.
logging.getLogger("transformers.modeling_utils").addFilter(
    lambda record: "LOAD REPORT" not in record.getMessage()
)


def pointer(path: str | Path) -> dict[str, Any]:
    """Content of the pointer file in a folder, which names a model elsewhere; empty without one.

    Raises:
        ArtifactError: If it is damaged.
    """
    file = Path(path) / POINTER
    if not file.exists():
        return {}
    try:
        target = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(target["id"], str) and isinstance(target.get("revision"), str | None):
            return target
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    raise ArtifactError(
        f"{file}: does not name a model, as id and revision; delete it, so that it is written again"
    )


def resolve(path: str | Path) -> Path:
    """Folder to load a model from: ``path``, or the target of a pointer file in it.

    Raises:
        ArtifactError: If the pointer is damaged, or names a repository that was not fetched before.
    """
    target = pointer(path)
    if not target:
        return Path(path)
    folder = Path(os.path.expanduser(target["id"]))
    return folder if folder.is_dir() else snapshot(target["id"], target.get("revision"))


def load_pretrained(auto: Any, path: str | Path, what: str, **options: Any) -> Any:
    """Load with one of transformers' Auto classes from a folder or pointer.

    No code from the folder is run, and each weight of the model is in the checkpoint.

    Args:
        auto: The Auto class.
        path: Folder of a model, or of a pointer to one.
        what: Kind of object, for the error message.
        **options: Options of ``from_pretrained``.

    Raises:
        ArtifactError: If there is nothing to load or it is damaged, or weights of the model are
            not in the checkpoint, have other shapes there, or those in it are of another model.
    """
    options["local_files_only"] = True
    place = str(path)
    try:
        folder = resolve(path)
        place = str(path) if folder == Path(path) else f"{path} (of {folder})"
        base = base_of(folder)
        if auto is AutoTokenizer:
            return _tokenizer(folder, base and base[2], options)
        _check_generation(folder if base is None else base[2])
        options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
        if base is not None:
            model, info = load_merged(auto, folder, base[2], options)
        else:
            model, info = auto.from_pretrained(folder, trust_remote_code=False, **options)
    except ArtifactError as error:
        raise ArtifactError(f"{place}: {error}") from error
    except Exception as error:  # damaged files raise many kinds
        raise ArtifactError(f"{place}: no {what} could be loaded ({_reason(error)})") from error
    fault = _fault(model, info, what)
    if fault is not None:
        raise ArtifactError(f"{place}: {fault}")
    return model


def _tokenizer(folder: Path, base: Path | None, options: dict[str, Any]) -> Any:
    """Tokenizer of a folder; of an adapter's base model if the adapter has none."""
    if base is not None:
        if not (folder / "tokenizer_config.json").is_file():
            folder = base
        options |= {"config": AutoConfig.from_pretrained(base, trust_remote_code=False, **options)}
    loaded = _tokenizer_class(folder).from_pretrained(folder, trust_remote_code=False, **options)
    # Without files the library returns a tokenizer that has no words. Some classes need none.
    names = {*loaded.vocab_files_names.values(), "tokenizer.*json", "*.model", "*.tiktoken"}
    if loaded.vocab_files_names and not any(any(folder.glob(name)) for name in names):
        raise ArtifactError("no tokenizer could be loaded (no tokenizer.json or vocabulary there)")
    return loaded


def _check_generation(folder: Path) -> None:
    """Refuse damaged generation settings, whose end tokens the library would ignore silently."""
    file = folder / "generation_config.json"
    if not file.is_file():
        return
    try:
        if isinstance(json.loads(file.read_text(encoding="utf-8")), dict):
            return
    except (ValueError, RecursionError):
        pass
    raise ArtifactError(
        f"{file.name} is not a JSON object, and it may name end tokens; get or save it again, or "
        "delete it"
    )


def _tokenizer_class(folder: Path) -> Any:
    """Class of a folder's tokenizer: the general one if the folder says so.

    The library replaces that by the usual class of some architectures (Qwen2, Phi-3), which
    splits texts by rules of its own instead of the file's.
    """
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        name = settings["tokenizer_class"]
    except (OSError, ValueError, TypeError, KeyError):
        return AutoTokenizer
    general = name in ("TokenizersBackend", "PreTrainedTokenizerFast")
    whole = general and (folder / "tokenizer.json").is_file() and "auto_map" not in settings
    return PreTrainedTokenizerFast if whole else AutoTokenizer


def _reason(error: Exception) -> str:
    """First line of an error of the library, or what it means for the user."""
    text = str(error)
    if "trust_remote_code" in text:
        return (
            "it needs code from its folder, which is never run; give a model whose class is in "
            "transformers"
        )
    if "weights_only" in text.lower() or "Weights only load failed" in text:
        return "its weights are a pickle with more than tensors; save them as safetensors"
    first = next(filter(None, map(str.strip, text.splitlines())), type(error).__name__)
    return first if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {first}"


def _fault(model: Any, info: Mapping[str, Any], what: str) -> str | None:
    """Difference between the weights of a model and those in its checkpoint; None if they agree."""
    lacking = sorted(info["missing_keys"])
    foreign = sorted(key for key in info["unexpected_keys"] if not _UNUSED.search(key))
    shapes = sorted(info["mismatched_keys"])
    body = f"{model.base_model_prefix}."
    if any(not key.startswith(body) for key in lacking):
        extra = f", which has {_names(foreign)} instead" if foreign else ""
        return (
            f"no {what} head in the checkpoint ({_names(lacking)} missing{extra}), so it would be "
            f"random; give a folder or id with a trained {what}"
        )
    if lacking:
        return (
            f"the checkpoint lacks {_names(lacking)}, which would be random; get or save the model "
            "again, weights and config.json together"
        )
    if shapes:
        key, there, here = shapes[0]
        return (
            f"{key} has shape {list(there)} in the checkpoint and {list(here)} in config.json "
            f"({len(shapes)} such weights); get or save the model again, weights and config.json "
            "together"
        )
    if foreign:
        return (
            f"the checkpoint has {_names(foreign)}, which {type(model).__name__} does not use, so "
            f"it is of another model than a {what} of this config.json; give a trained {what}"
        )
    return None


def _names(keys: Collection[str]) -> str:
    """The first few weights, and the number of the others.

    Example:
        >>> _names(["a", "b", "c", "d", "e"])
        'a, b, c and 2 more'
    """
    more = len(keys) - _SHOWN
    return ", ".join(list(keys)[:_SHOWN]) + (f" and {more} more" if more > 0 else "")

"""Load, merge, complete and check the configuration, before any work starts."""

import copy
import difflib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from vbon.errors import ConfigError, missing_vllm, number_hint
from vbon.planning.values import check_name, check_plain, read_yaml, results_folder
from vbon.pool.shared import MIN_PROMPTS
from vbon.tasks.base import Task, TextTask
from vbon.tasks.registry import KINDS, kind_of, make_task

BASE = "config.yaml"
"""Configuration of a checkout, which others are laid over."""
_SCHEMAS = (
    Path(__file__).parents[2] / "workflow" / "schemas" / "config.schema.yaml",
    Path(__file__).with_name("config.schema.yaml"),  # of an installed package
)
SCHEMA = next((path for path in _SCHEMAS if path.is_file()), _SCHEMAS[0])
STUDIED = ("run_methods", "methods", "seeds", "logf", "online", "offline", "budgets", "evaluation")
"""Keys that a study may change where it shares the task's models and draws."""


@cache
def schema() -> dict[str, Any]:
    """The JSON schema of the configuration without its sections, with ``$ref`` resolved."""
    raw = yaml.safe_load(SCHEMA.read_bytes())
    return _dereferenced(raw, raw["$defs"])


def _dereferenced(node: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(node, list):
        return [_dereferenced(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        node = {**definitions[node["$ref"].rpartition("/")[2]], **node}
    return {key: _dereferenced(value, definitions) for key, value in node.items() if key != "$ref"}


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one configuration over another: mappings merge key by key, other values replace.

    This is what Snakemake does with ``--configfile`` (a test compares the two).

    Example:
        >>> merge({"a": {"x": 1, "y": 2}, "b": [1]}, {"a": {"y": 3}, "b": [2]})
        {'a': {'x': 1, 'y': 3}, 'b': [2]}
    """
    merged = dict(copy.deepcopy(base))
    for key, value in overlay.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else copy.deepcopy(value)
    return merged


def load(files: Iterable[str | Path], changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Read configuration files, lay each over those before it, complete and check the result.

    Outside a checkout, where there is no ``config.yaml`` to start from, the others are complete.

    Args:
        files: Paths of the files.
        changes: Keys and values that are laid over all files.

    Raises:
        ConfigError: If a file cannot be read, or a key or value is refused.
    """
    files = list(files)
    if BASE in files[:-1] and not Path(BASE).exists():
        files.remove(BASE)
    config: dict[str, Any] = {}
    for file in files:
        config = merge(config, read_yaml(file))
    return resolve(merge(config, changes or {}))


def resolve(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the schema's defaults and check every key.

    Raises:
        ConfigError: One line: the key, its value, the accepted values.
    """
    check_plain(config)
    top = merge({}, config)  # sections that share a mapping, as by an anchor, each get their own
    sections = {name: top.pop(name) for name in config if name not in schema()["properties"]}
    top = _whole(_with_defaults(top, schema()), schema())
    _validate(top, schema())
    top["results_dir"] = results_folder(top["results_dir"])
    for name in dict.fromkeys([*sections, *top["tasks"]]):
        top[name] = _section(name, sections.get(name, {}), name in top["tasks"])
    for name in top["tasks"]:
        check_name("tasks", "task", name)
        check_section(name, top[name])
        _resolve_studies(name, top[name])
    return top


def hint(name: Any, accepted: Sequence[str]) -> str:
    """Question about the accepted name that is nearest to an unknown one; empty if none is near.

    Example:
        >>> hint("sead", ["seed", "tasks"]), hint("x", ["seed", "tasks"])
        ("did you mean 'seed'? ", '')
    """
    near = difflib.get_close_matches(str(name), accepted, n=1)
    return f"did you mean {near[0]!r}? " if near else ""


def _section(name: str, section: Any, is_run: bool) -> dict[str, Any]:
    """A task's section with its defaults, checked key by key."""
    is_section = isinstance(section, dict)
    kind = kind_of(name, section) if is_section else None
    if kind is None and not (is_section and is_run):
        accepted = [*schema()["properties"], "sections of tasks"]
        raise ConfigError(_unknown_key(name, name, accepted))
    kinds = list(KINDS.files())
    if kind is None:
        raise ConfigError(
            f"{name}.kind: missing, but tasks lists {name}; add a section {name} that gives its "
            f"kind; accepted: {', '.join(kinds)}, and files in the folder that VBON_TASKS names"
        )
    if kind not in kinds:
        raise ConfigError(
            f"{name}.kind: {kind!r} is unknown; {hint(kind, kinds)}accepted: {', '.join(kinds)}"
        )
    node, filled = section_schema(kind), KINDS.get(kind).filled({**section, "kind": kind})
    completed = _whole(_with_defaults(filled, node), node)
    _validate(completed, node, (name,))
    return completed


def tasks_of(config: Mapping[str, Any]) -> dict[str, Task]:
    """The tasks that a resolved configuration runs, by the names of their sections."""
    return {name: make_task(config[name]) for name in config["tasks"]}


@cache
def section_schema(kind: str) -> dict[str, Any]:
    """The JSON schema of a section of one kind: common keys and those of the kind."""
    cls = KINDS.get(kind)
    definitions = schema()["$defs"]
    node, properties = definitions[cls.schema], dict(cls.keys)
    omitted = node.get("omits", [])
    while node is not None:
        properties = {**node["properties"], **properties}
        node = definitions.get(node.get("extends"))
    properties = {key: value for key, value in properties.items() if key not in omitted}
    description = " ".join((cls.__doc__ or "").split())
    settings = {"type": "object", "additionalProperties": False, "description": description}
    return _dereferenced({**settings, "properties": properties}, definitions)


def _validate(value: Any, node: Mapping[str, Any], where: tuple[str, ...] = ()) -> None:
    errors = Draft202012Validator(node).iter_errors(value)
    first = min(errors, key=lambda error: (len(error.path), str(error.path)), default=None)
    if first is not None:
        raise ConfigError(_explain(first, where))


def _resolve_studies(task: str, section: dict[str, Any]) -> None:
    """Replace the changes of each study by its complete section; null drops a study."""
    base = {key: value for key, value in section.items() if key != "studies"}
    shares_pool = make_task(section).shares_pool
    for name, overlay in list(section.get("studies", {}).items()):
        if overlay is None:
            del section["studies"][name]
            continue
        check_name(f"{task}.studies", "study", name)
        where = (task, "studies", name)
        fixed = [key for key in overlay if key not in STUDIED and overlay[key] != base.get(key)]
        if fixed and shares_pool:
            raise ConfigError(
                f"{'.'.join(where)}.{fixed[0]}: a study uses the task's models and draws; it may "
                f"change {', '.join(STUDIED)}"
            )
        node = section_schema(section["kind"])
        study = _whole(merge(base, overlay), node)
        _validate(study, node, where)
        check_section(".".join(where), study)
        section["studies"][name] = study


def laid_over(
    section: Mapping[str, Any], part: str, changes: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """A part of a task's section with the changes of one method.

    Args:
        section: The task's complete section, or that of a study.
        part: ``online``, ``offline`` or ``logf``.
        changes: Keys of that part and their values.
        where: Path of the changes in the config, for errors.

    Raises:
        ConfigError: If the part has no such key, or refuses its value.
    """
    node = section_schema(section["kind"])["properties"][part]
    combined = _whole({**section[part], **changes}, node)
    _validate(combined, node, (where,))
    return combined


def _with_defaults(value: Any, node: Mapping[str, Any]) -> Any:
    """Add defaults for absent keys, also inside the defaults that are added."""
    if not isinstance(value, dict):
        return value
    for key, child in node.get("properties", {}).items():
        if key not in value and "default" in child:
            value[key] = copy.deepcopy(child["default"])
        if key in value:
            value[key] = _with_defaults(value[key], child)
    return value


def _whole(value: Any, node: Mapping[str, Any]) -> Any:
    """A value with 2 for 2.0 where its schema accepts integers; JSON makes no difference."""
    if isinstance(value, dict):
        properties = node.get("properties", {})
        return {key: _whole(item, properties.get(key, {})) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item, node.get("items", {})) for item in value]
    is_integer = isinstance(value, float) and value.is_integer()
    return int(value) if is_integer and "integer" in node.get("type", "") else value


def _explain(error: ValidationError, where: tuple[str, ...]) -> str:
    """One line for a schema violation: key, value, accepted values."""
    key = ".".join(str(part) for part in (*where, *error.absolute_path)) or "config"
    description = error.schema.get("description", "").rstrip(".")
    about = f" ({description})" if description else ""
    if error.validator == "additionalProperties":
        properties = list(error.schema["properties"])
        name = next(name for name in error.instance if name not in properties)
        return _unknown_key(name if key == "config" else f"{key}.{name}", name, properties)
    if error.validator == "required":
        return f"{key}: {error.message}"
    limit = error.validator_value
    listed = ", ".join(map(str, limit)) if isinstance(limit, list) else limit
    accepted = {
        "type": f"accepted: {listed}",
        "pattern": "give file.py:function" if ":" in str(limit) else f"give text like {limit}",
        "enum": f"accepted: {listed}",
        "minimum": f"give {limit} or more",
        "maximum": f"give {limit} or less",
        "exclusiveMinimum": f"give more than {limit}",
        "exclusiveMaximum": f"give less than {limit}",
        "minItems": "give at least one value",
        "uniqueItems": "a value is repeated; give each once",
        "anyOf": "accepted: one value, or a list of them (not empty, none twice)",
    }.get(error.validator, error.message)
    expected = str(limit) if error.validator in ("type", "anyOf") else ""
    is_number = "number" in expected or "integer" in expected
    wrote = number_hint(error.instance) if is_number else ""
    return f"{key}: {error.instance!r} is not allowed{about}; {accepted}{wrote}"


def _unknown_key(path: str, name: Any, accepted: Sequence[str]) -> str:
    return f"{path}: unknown key; {hint(name, accepted)}accepted here: {', '.join(accepted)}"


def uninstalled(config: Mapping[str, Any]) -> list[str]:
    """One line for each package that a complete configuration needs and that is not installed."""
    tasks = [task for task in config["tasks"] if config[task]["sampling"]["backend"] == "vllm"]
    return list(filter(None, (missing_vllm(f"{task}.sampling.backend") for task in tasks)))


def check_logf(where: str, name: str, section: Mapping[str, Any], logf: Mapping[str, Any]) -> None:
    """Refuse an estimate of log F for which there are too few draws or prompts.

    Args:
        where: Path of these settings in the config.
        name: Path of the section.
        section: The task's section.
        logf: Settings of log F, complete.

    Raises:
        ConfigError: One line, as for a single key.
    """
    draws = section["sampling"]["train_draws"]
    if logf["m"] > draws:
        raise ConfigError(
            f"{where}.m: {logf['m']} draws requested, {name}.sampling.train_draws gives {draws}; "
            "lower the one or raise the other"
        )
    prompts = make_task(section).num_prompts["train"]
    if logf["estimator"] == "shared" and prompts < MIN_PROMPTS:
        raise ConfigError(
            f"{where}.estimator: 'shared' learns from {MIN_PROMPTS} training prompts or more, "
            f"there are {prompts}; raise their number or give another estimator"
        )


def check_section(name: str, task: Mapping[str, Any]) -> None:
    """Refuse relations between a section's keys that a schema cannot state.

    Args:
        name: Path of the section in the config, for errors.
        task: The section of a task or study, complete.

    Raises:
        ConfigError: One line, as for a single key.
    """
    sampling, online = task["sampling"], task["online"]
    for quantity, (low, high) in task.get("checks", {}).items():
        if None not in (low, high) and low > high:
            raise ConfigError(
                f"{name}.checks.{quantity}: [{low}, {high}] is not allowed; give [low, high]"
            )
    if sampling["backend"] == "vllm" and not isinstance(make_task(task), TextTask):
        raise ConfigError(
            f"{name}.sampling.backend: 'vllm' is not allowed here, where the reference is a table "
            "or one of few tokens; give native"
        )
    check_logf(f"{name}.logf", name, task, task["logf"])
    if online["rollouts"] % online["draws_per_prompt"]:
        raise ConfigError(
            f"{name}.online.draws_per_prompt: {online['draws_per_prompt']} does not divide "
            f"{name}.online.rollouts = {online['rollouts']}"
        )
    if online["value_target"] == "response" and online["gamma"] != 1:
        raise ConfigError(
            f"{name}.online.gamma: {online['gamma']} is not allowed with value_target: response, "
            "which adds up rewards without discount; give 1, or value_target: to_go"
        )
    if online["value_model"] == "separate" and not online["value_trains_trunk"]:
        raise ConfigError(
            f"{name}.online.value_trains_trunk: False is not allowed with value_model: separate, "
            "whose loss never reaches the policy's trunk; give true, or value_model: shared"
        )
    if task["evaluation"]["responses"] > sampling["fresh_draws"]:
        raise ConfigError(
            f"{name}.evaluation.responses: {task['evaluation']['responses']} requested, "
            f"{name}.sampling.fresh_draws gives the reference {sampling['fresh_draws']}"
        )
    make_task(task).check(name)

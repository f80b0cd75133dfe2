"""Load, merge, complete and check the configuration, before any work starts."""

import copy
import difflib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from vbon.errors import ConfigError, missing_vllm
from vbon.pool.shared import MIN_PROMPTS

SCHEMA = Path(__file__).parents[2] / "workflow" / "schemas" / "config.schema.yaml"


ROLES = ("reference", "reward_model", "evaluator")
STUDIED = ("run_methods", "methods", "seeds", "logf", "online", "offline", "budgets", "evaluation")
"""What a study of a task with built or loaded models may change."""


@cache
def schema() -> dict[str, Any]:
    """The JSON schema of the configuration, with ``$ref`` resolved."""
    raw = yaml.safe_load(SCHEMA.read_text())
    return _dereferenced(raw, raw["$defs"])


def _dereferenced(node: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(node, list):
        return [_dereferenced(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    own = {key: value for key, value in node.items() if key not in ("$ref", "$defs")}
    if "$ref" in node:
        own = {**definitions[node["$ref"].rpartition("/")[2]], **own}
    return {key: _dereferenced(value, definitions) for key, value in own.items()}


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one configuration over another: mappings merge key by key, all else is replaced.

    This is what Snakemake does with ``--configfile`` (a test holds the two together).

    Example:
        >>> merge({"a": {"x": 1, "y": 2}, "b": [1]}, {"a": {"y": 3}, "b": [2]})
        {'a': {'x': 1, 'y': 3}, 'b': [2]}
    """
    merged = dict(copy.deepcopy(base))
    for key, value in overlay.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else copy.deepcopy(value)
    return merged


def load(files: Iterable[str | Path]) -> dict[str, Any]:
    """Read configuration files, lay each over those before it, complete and check the result.

    Raises:
        ConfigError: If a file cannot be read, or a key or value is refused.
    """
    config: dict[str, Any] = {}
    for file in files:
        try:
            value = yaml.safe_load(Path(file).read_text())
        except (OSError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"{file}: cannot be read as YAML: {reason}") from error
        if not isinstance(value, dict):
            raise ConfigError(f"{file}: holds {type(value).__name__}, expected keys and values")
        config = merge(config, value)
    return resolve(config)


def resolve(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the schema's defaults and check every key.

    Raises:
        ConfigError: One line: the key, its value, what is accepted.
    """
    completed = _with_defaults(dict(copy.deepcopy(config)), schema())
    _validate(completed, schema())
    for task in completed["tasks"]:
        check_section(task, completed[task])
        _resolve_studies(task, completed[task])
    return completed


def _validate(value: Any, node: Mapping[str, Any], where: tuple[str, ...] = ()) -> None:
    errors = Draft202012Validator(node).iter_errors(value)
    first = min(errors, key=lambda error: (len(error.path), str(error.path)), default=None)
    if first is not None:
        raise ConfigError(_explain(first, where))


def _resolve_studies(task: str, section: dict[str, Any]) -> None:
    """Replace each study by the complete section that it stands for."""
    base = {key: value for key, value in section.items() if key != "studies"}
    dropped = [name for name, study in section.get("studies", {}).items() if study is None]
    for name in dropped:
        del section["studies"][name]
    for name, overlay in section.get("studies", {}).items():
        where = (task, "studies", name)
        fixed = [key for key in overlay if key not in STUDIED and overlay[key] != base.get(key)]
        if fixed and task != "enumerable":
            raise ConfigError(
                f"{'.'.join(where)}.{fixed[0]}: a study uses the task's models and draws; it may "
                f"change {', '.join(STUDIED)}"
            )
        study = merge(base, overlay)
        _validate(study, schema()["properties"][task], where)
        check_section(".".join(where), study)
        section["studies"][name] = study


def laid_over(
    task: str, section: Mapping[str, Any], part: str, changes: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """A part of a task's section with what one method changes of it.

    Args:
        task: Name of the task.
        section: Its complete section, or that of a study.
        part: ``online``, ``offline`` or ``logf``.
        changes: Keys of that part and their values.
        where: Path of the changes in the config, for errors.

    Raises:
        ConfigError: If the part has no such key, or refuses its value.
    """
    combined = {**section[part], **changes}
    _validate(combined, schema()["properties"][task]["properties"][part], (where,))
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


def _explain(error: ValidationError, where: tuple[str, ...]) -> str:
    """One line for a schema violation: key, value, what is accepted."""
    key = ".".join(str(part) for part in (*where, *error.absolute_path)) or "config"
    description = error.schema.get("description", "").rstrip(".")
    about = f" ({description})" if description else ""
    if error.validator == "additionalProperties":
        known = list(error.schema["properties"])
        name = next(name for name in error.instance if name not in known)
        path = name if key == "config" else f"{key}.{name}"
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"{path}: unknown key; {hint}accepted here: {', '.join(known)}"
    if error.validator == "required":
        return f"{key}: {error.message}"
    accepted = {
        "type": lambda: f"accepted: {_listed(error.validator_value)}",
        "pattern": lambda: "give file.py:function",
        "enum": lambda: f"accepted: {_listed(error.validator_value)}",
        "minimum": lambda: f"give {error.validator_value} or more",
        "maximum": lambda: f"give {error.validator_value} or less",
        "exclusiveMinimum": lambda: f"give more than {error.validator_value}",
        "exclusiveMaximum": lambda: f"give less than {error.validator_value}",
        "minItems": lambda: "give at least one value",
        "uniqueItems": lambda: "a value stands twice; give each once",
        "anyOf": lambda: "accepted: one value, or a list of them (not empty, none twice)",
    }.get(error.validator, lambda: error.message)()
    return f"{key}: {error.instance!r} is not allowed{about}; {accepted}"


def _listed(accepted: Any) -> str:
    return ", ".join(map(str, accepted)) if isinstance(accepted, list) else str(accepted)


def evaluation_splits(section: Mapping[str, Any]) -> dict[str, float]:
    """Temperature of each set of responses to the test prompts, by its name in file names.

    Example:
        >>> evaluation_splits({"evaluation": {"temperatures": [0.5, 1]}})
        {'test-t0.5': 0.5, 'test-t1': 1}
        >>> evaluation_splits({"evaluation": {}, "sampling": {"temperature": 1.0}})
        {'test': 1.0}
    """
    named = section["evaluation"].get("temperatures")
    if named is None:
        return {"test": section["sampling"]["temperature"]}
    return {f"test-t{temperature:g}": temperature for temperature in named}


def uninstalled(config: Mapping[str, Any]) -> list[str]:
    """What a complete configuration asks for and is not installed here, one line each."""
    named = {task: config[task]["sampling"]["backend"] for task in config["tasks"]}
    lines = (missing_vllm(f"{task}.sampling.backend") for task in named if named[task] == "vllm")
    return [line for line in lines if line is not None]


def check_draws(key: str, m: int, name: str, sampling: Mapping[str, Any]) -> None:
    """Refuse to estimate log F from more draws than there are.

    Args:
        key: Path of ``m`` in the config.
        m: Draws asked for.
        name: Path of the section.
        sampling: Its ``sampling``.

    Raises:
        ConfigError: If ``sampling.train_draws`` is fewer.
    """
    if m > sampling["train_draws"]:
        raise ConfigError(
            f"{key}: {m} draws asked for, {name}.sampling.train_draws gives "
            f"{sampling['train_draws']}; lower the one or raise the other"
        )


def check_estimator(name: str, section: Mapping[str, Any], logf: Mapping[str, Any]) -> None:
    """Refuse to learn log F over prompts from too few of them.

    Args:
        name: Path of these settings in the config.
        section: The task's section.
        logf: Settings of log F, complete.

    Raises:
        ConfigError: If there are fewer than :data:`vbon.pool.shared.MIN_PROMPTS`.
    """
    prompts = section["prompts"]["num_train"] if "prompts" in section else section["num_prompts"]
    if logf["estimator"] == "shared" and prompts < MIN_PROMPTS:
        raise ConfigError(
            f"{name}.estimator: 'shared' learns from {MIN_PROMPTS} training prompts or more, there "
            f"are {prompts}; raise their number or give another estimator"
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
    if sampling["backend"] == "vllm" and "prompts" not in task:
        raise ConfigError(
            f"{name}.sampling.backend: 'vllm' is not allowed here, where the reference is a table "
            "or one of few tokens; give transformers"
        )
    check_draws(f"{name}.logf.m", task["logf"]["m"], name, sampling)
    check_estimator(f"{name}.logf", task, task["logf"])
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
            f"{name}.evaluation.responses: {task['evaluation']['responses']} asked for, "
            f"{name}.sampling.fresh_draws gives the reference {sampling['fresh_draws']}"
        )
    for kind in ("reviews", "posts"):
        if kind in task:
            _check_texts(f"{name}.{kind}", task[kind], task)
    if "posts" in task:
        _check_room(name, task)
    elif "prompts" in task and task["prompts"]["max_tokens"] < task["prompts"]["min_tokens"]:
        raise ConfigError(
            f"{name}.prompts.max_tokens: {task['prompts']['max_tokens']} is below "
            f"{name}.prompts.min_tokens = {task['prompts']['min_tokens']}"
        )


def is_built(model: Mapping[str, Any]) -> bool:
    """Whether a model is trained here, and not an id or a function."""
    return model["id"] is None and model.get("callable") is None


def _check_texts(where: str, texts: Mapping[str, Any], task: Mapping[str, Any]) -> None:
    """Refuse shares of the texts that leave a model or a split without any."""
    if texts["test_source"] is not None and texts["source"] == "grammar":
        raise ConfigError(
            f"{where}.test_source: {texts['test_source']!r} is not allowed with source: grammar, "
            "which writes texts for the test as well; give null"
        )
    for role in ROLES:
        if None not in (task[role]["id"], task[role].get("callable")):
            raise ConfigError(
                f"{where.rpartition('.')[0]}.{role}.callable: {task[role]['callable']!r} is not "
                "allowed beside an id; give one of them"
            )
    needed = {role: is_built(task[role]) for role in ROLES}
    needed |= {"train": True, "test": texts["test_source"] is None}
    for part, share in texts["fractions"].items():
        if needed[part] and not share > 0:
            raise ConfigError(f"{where}.fractions.{part}: {share} is not allowed; give more than 0")


def _check_room(name: str, task: Mapping[str, Any]) -> None:
    """Refuse a model that is built too short for a prompt and its longest response."""
    needed = task["prompts"]["max_tokens"] + task["sampling"]["max_new_tokens"]
    for role in ROLES:
        model = task[role]
        if is_built(model) and model["build"]["max_tokens"] < needed:
            raise ConfigError(
                f"{name}.{role}.build.max_tokens: {model['build']['max_tokens']} is too short for "
                f"{name}.prompts.max_tokens and {name}.sampling.max_new_tokens, {needed} together"
            )

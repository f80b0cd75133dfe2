"""From a configuration to the list of runs, and from a run to the key that says it is done."""

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from vbon.artifacts.fingerprint import code_fingerprint, content_hash, digest
from vbon.errors import ConfigError
from vbon.methods.base import Method, Online
from vbon.registry import get_method, method_modules

_PREFIX = {"kl_coef": "beta"}
TRAIN_MODULES = ("vbon.training.runs",)


@dataclass(frozen=True)
class Root:
    """A task, or a study of it: a section of the config and the folder of its artifacts."""

    task: str
    study: str
    folder: str
    section: Mapping[str, Any] = field(repr=False)


def roots(config: Mapping[str, Any], task: str) -> list[Root]:
    """The task itself and then its studies."""
    section, folder = config[task], f"{config['results_dir']}/{task}"
    studies = section.get("studies", {})
    return [
        Root(task, "", folder, section),
        *(Root(task, name, f"{folder}/studies/{name}", studies[name]) for name in studies),
    ]


@dataclass(frozen=True)
class Run:
    """One cell of the benchmark: a method at one setting with one seed on one task or study."""

    task: str
    study: str
    method: str
    setting: str
    seed: int
    root: str
    values: Mapping[str, Any]
    spec: Mapping[str, Any] = field(repr=False)
    """Everything beside its inputs and the code that shapes the run."""

    @property
    def folder(self) -> str:
        """Where the run's artifacts are."""
        return f"{self.root}/runs/{self.method}/{self.setting}/seed{self.seed}"

    @cached_property
    def instance(self) -> Method:
        """The method at this setting."""
        return get_method(self.method)(**self.values)

    def inputs(self) -> dict[str, str]:
        """The artifacts its training reads."""
        root = Path(self.root)
        paths = {"reference": root / "models/reference"}
        if isinstance(self.instance, Online) and not self.instance.is_reference:
            paths["prompts"] = root / "prompts/train.parquet"
            paths["reward_model"] = root / "models/reward_model"
            if "logf" in self.instance.needs:
                paths["logf"] = root / "reference/logf/train.parquet"
        return {name: str(path) for name, path in paths.items()}

    def key(self) -> str:
        """Hash of spec, code and content of all inputs; a run with this key need not be redone."""
        record = {
            "spec": dict(self.spec),
            "code": code_fingerprint(*TRAIN_MODULES, method_modules()[self.method]),
            "inputs": {name: content_hash(path) for name, path in self.inputs().items()},
        }
        return digest(record)

    def is_done(self) -> bool:
        """Whether the run on disk is this one: same spec, code and inputs."""
        try:
            stored = json.loads((Path(self.folder) / "run.json").read_text())
            return stored["key"] == self.key()
        except (OSError, ValueError, KeyError):
            return False

    def to_json(self) -> dict[str, Any]:
        """The run as plain values, for a command line."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def evaluation_inputs(self) -> dict[str, str]:
        """The artifacts its evaluation reads, beside the run itself."""
        root = Path(self.root)
        paths = {
            "prompts": root / "prompts/test.parquet",
            "samples": root / "reference/samples/test.parquet",
            "rewards": root / "reference/rewards/test.parquet",
            "logf": root / "reference/logf/test.parquet",
            **{name: root / "models" / name for name in ("reference", "reward_model", "evaluator")},
        }
        return {name: str(path) for name, path in paths.items()}


def expand(config: Mapping[str, Any]) -> list[Run]:
    """All runs that a resolved configuration asks for, in its order.

    Raises:
        ConfigError: If a method is unknown, has no settings or refuses one.
    """
    runs = []
    for task in config["tasks"]:
        sources = roots(config, task)
        for method in _methods(config, sources):
            for root in sources:
                if method in root.section.get("run_methods", config["run_methods"]):
                    runs += _runs_of(config, root, method)
    return runs


def _methods(config: Mapping[str, Any], sources: list[Root]) -> list[str]:
    """Every method that the task or one of its studies runs, each once."""
    named = [root.section.get("run_methods", config["run_methods"]) for root in sources]
    return list(dict.fromkeys(itertools.chain.from_iterable(named)))


def _runs_of(config: Mapping[str, Any], root: Root, method: str) -> list[Run]:
    get_method(method)  # an unknown name is told with the known ones
    methods = {**config["methods"], **root.section["methods"]}
    if method not in methods:
        raise ConfigError(
            f"methods.{method}: missing, but run_methods lists it; add its settings, "
            f"for example {method}: {{}}"
        )
    grid = dict(methods[method])
    seeds = grid.pop("seeds", root.section.get("seeds", config["seeds"]))
    if not isinstance(seeds, list) or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise ConfigError(f"methods.{method}.seeds: {seeds!r} is not a list of whole numbers >= 0")
    runs = []
    for values in _settings(method, grid):
        setting = _slug(grid, values)
        instance = get_method(method)(**values)
        for seed in seeds:
            spec = _spec(root.section, method, instance, values, seed)
            runs.append(
                Run(root.task, root.study, method, setting, seed, root.folder, values, spec)
            )
    return runs


def _settings(method: str, grid: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every combination of the listed values, each checked by the method itself."""
    known = [item.name for item in fields(get_method(method)) if item.init]
    for name in grid:
        if name not in known:
            raise ConfigError(
                f"methods.{method}.{name}: unknown setting; accepted: "
                f"{', '.join([*known, 'seeds'])}"
            )
    lists = [value if isinstance(value, list) else [value] for value in grid.values()]
    combinations = [dict(zip(grid, chosen, strict=True)) for chosen in itertools.product(*lists)]
    for values in combinations:
        try:
            get_method(method)(**values)
        except TypeError as error:
            raise ConfigError(f"methods.{method}: {error}; see `vbon methods`") from error
    return combinations


def _slug(grid: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """Name of a setting: the swept fields, or all that are given where nothing is swept."""
    swept = [name for name, value in grid.items() if isinstance(value, list)] or list(grid)
    parts = [f"{_PREFIX.get(name, name)}{_plain(values[name])}" for name in swept]
    return "-".join(parts) or "default"


def _plain(value: Any) -> str:
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if whole else str(value)


def _spec(
    section: Mapping[str, Any], method: str, instance: Method, values: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """What shapes a run, and nothing that does not: changing another key must not retrain it."""
    spec: dict[str, Any] = {"method": method, "values": dict(values), "seed": seed}
    if isinstance(instance, Online) and not instance.is_reference:
        sampling = section["sampling"]
        spec["online"] = section["online"]
        spec["sampling"] = {name: sampling[name] for name in ("max_new_tokens", "temperature")}
        spec["rewards"] = section["rewards"]
        if "logf" in instance.needs:
            spec["logf"] = section["logf"]
    return spec


def jobs(runs: list[Run], runs_per_job: int) -> dict[str, list[Run]]:
    """Group runs into jobs that share a warm process.

    A job carries one method, except on the enumerable task: its runs take seconds, and loading
    libraries once a method would take longer.
    """

    def stage(run: Run) -> str:
        return run.task if run.task == "enumerable" else f"{run.task}_{run.method}"

    grouped: dict[str, list[Run]] = {}
    for name, group in itertools.groupby(runs, stage):
        members = list(group)
        for number, start in enumerate(range(0, len(members), runs_per_job)):
            grouped[f"{name}_{number}"] = members[start : start + runs_per_job]
    return grouped

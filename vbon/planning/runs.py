"""From a configuration to the list of runs, and from a run to the key that says it is done."""

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from vbon.artifacts.fingerprint import digest, provenance
from vbon.artifacts.tables import damaged_parts, read_record
from vbon.errors import ArtifactError, ConfigError
from vbon.methods.base import Anchored, Method, Offline, Online
from vbon.methods.registry import get_method, method_modules
from vbon.planning.config import STUDIED, check_logf, check_section, hint, laid_over
from vbon.pool.pairs import Pairing
from vbon.tasks.base import ROLES
from vbon.tasks.registry import make_task

LARGEST_SEED = 2**31 - 1  # columns of seeds have 32 bits
_PREFIX = {"kl_coef": "beta", "estimator": ""}
CARRY_OUT = "vbon.training.runs:carry_out"
"""The function whose code is part of a run's key."""
_TRAINING = ("studies", *(key for key in STUDIED if key != "logf"))
"""Keys of a section that data and pool do not depend on."""


@dataclass(frozen=True)
class Root:
    """A task, or a study of it: a section of the config and the folder of its artifacts.

    Attributes:
        task: Name of the task.
        study: Name of the study, empty for the task itself.
        folder: Where its runs and points are.
        shared: Folder of the models, prompts and reference draws that it uses.
        m: Draws of that folder's ``reference/logf/train.parquet``.
        section: Its complete part of the config.
    """

    task: str
    study: str
    folder: str
    shared: str
    m: int
    section: Mapping[str, Any] = field(repr=False)

    @property
    def path(self) -> str:
        """Path of its section in the config."""
        return f"{self.task}.studies.{self.study}" if self.study else self.task


def roots(config: Mapping[str, Any], task: str) -> list[Root]:
    """The task itself and then its studies.

    Studies share the task's models and draws where the task says so; a study of a language may
    change it, so it shares nothing.
    """
    section, folder = config[task], f"{config['results_dir']}/{task}"
    shares_pool = make_task(section).shares_pool
    sources = [Root(task, "", folder, folder, section["logf"]["m"], section)]
    for name, study in section.get("studies", {}).items():
        path = f"{folder}/studies/{name}"
        shared, pool = (folder, section) if shares_pool else (path, study)
        sources.append(Root(task, name, path, shared, pool["logf"]["m"], study))
    return sources


def language_of(section: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a section that data and pool depend on: all but settings of training."""
    return {name: value for name, value in section.items() if name not in _TRAINING}


@dataclass(frozen=True)
class Run:
    """One cell of the benchmark: a method at one setting with one seed on one task or study."""

    task: str
    study: str
    method: str
    setting: str
    seed: int
    root: str
    shared: str
    pool: str
    """Name of the log F table below ``shared``; a run that needs none ignores it."""
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

    @property
    def pairing(self) -> Pairing | None:
        """Pairs that an offline run makes of each prompt's draws; None for other runs."""
        if _loop(self.instance) != "offline":
            return None
        return replace(self.instance.pairing, blocks=self.spec["offline"]["blocks"])

    @property
    def starts_informed(self) -> bool:
        """True if the policy starts as the informed model and not as the reference."""
        loop = _loop(self.instance)
        return loop is not None and self.spec[loop].get("start") == "informed"

    def inputs(self) -> dict[str, str]:
        """The artifacts its training reads."""
        root = Path(self.shared)
        paths = {"reference": root / "models/reference"}
        if _loop(self.instance):
            paths["prompts"] = root / "prompts/train.parquet"
            paths["reward_model"] = root / "models/reward_model"
            if self.starts_informed:
                paths["start"] = root / "models/informed"
            if self.spec["rewards"].get("monitored"):
                paths["evaluator"] = root / "models/evaluator"
            if "logf" in self.instance.needs:
                logf = self.spec["logf"]
                if logf["estimator"] != "ibs":  # which draws from the reference itself
                    paths["logf"] = root / f"reference/logf/{self.pool}.parquet"
                if logf["estimator"] == "shared":
                    paths["prior"] = root / f"reference/logf/prior-m{logf['m']}.parquet"
            if "stored_draws" in self.spec:
                paths["samples"] = root / "reference/samples/train.parquet"
                paths["rewards"] = root / "reference/rewards/train.parquet"
            if self.pairing is not None:
                paths["samples"] = root / "reference/samples/train.parquet"
                paths["pairs"] = root / f"reference/pairs/{self.pairing.slug}.parquet"
        return {name: str(path) for name, path in paths.items()}

    def provenance(self) -> dict[str, Any]:
        """Provenance of the run (:func:`vbon.artifacts.fingerprint.provenance`)."""
        return provenance(
            dict(self.spec), self.inputs(), (CARRY_OUT, method_modules()[self.method])
        )

    def key(self) -> str:
        """Hash of spec, code and content of all inputs; a run with this key need not be redone."""
        return self.provenance()["key"]

    @property
    def spec_hash(self) -> str:
        """Hash of the requested spec, to compare with the spec in a run's record."""
        return digest(dict(self.spec))

    def is_done(self) -> bool:
        """Return True if the run on disk is complete and of the same spec, code and inputs."""
        path = Path(self.folder) / "run.json"
        try:
            return read_record(path)["key"] == self.key() and not damaged_parts(path)
        except (ArtifactError, OSError):
            return False

    def to_json(self) -> dict[str, Any]:
        """The run as plain values, for a command line."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def evaluation_inputs(self, split: str) -> dict[str, str]:
        """The artifacts its evaluation reads, beside the run itself.

        Args:
            split: One of :func:`vbon.tasks.base.evaluation_splits`.
        """
        root = Path(self.shared)
        paths = {
            "prompts": root / "prompts/test.parquet",
            "samples": root / f"reference/samples/{split}.parquet",
            "rewards": root / f"reference/rewards/{split}.parquet",
            "logf": root / f"reference/logf/{split}.parquet",
            **{role: root / "models" / role for role in ROLES},
        }
        return {name: str(path) for name, path in paths.items()}


def expand(config: Mapping[str, Any]) -> list[Run]:
    """All runs that a resolved configuration requests, in its order.

    Raises:
        ConfigError: If a method is unknown, has no settings or refuses one.
    """
    runs = []
    _check_names("methods", config["methods"])
    for task in config["tasks"]:
        sources = roots(config, task)
        for root in sources:
            _check_names(f"{root.path}.methods", root.section["methods"])
            _check_budgets(root)
        named = [root.section.get("run_methods", config["run_methods"]) for root in sources]
        for method in dict.fromkeys(itertools.chain.from_iterable(named)):
            for root, names in zip(sources, named, strict=True):
                if method in names:
                    runs += _runs_of(config, root, method)
    return runs


def advice(runs: list[Run]) -> list[str]:
    """Warnings for valid but unwise settings, one line each.

    Of best-of-n's responses a share of :math:`n / (n + m)` lies above a pool of m draws, where
    estimates by rank are all equal.
    """
    lines = []
    for run in runs:
        m, n = run.spec.get("logf", {}).get("m"), getattr(run.instance, "n", None)
        if m is not None and n is not None and m < n:
            where = f"{run.task}.studies.{run.study}" if run.study else run.task
            lines.append(
                f"{where}: {run.method} {run.setting} estimates log F from m = {m} draws for n = "
                f"{n:g}, above which {n / (n + m):.0%} of best-of-n's responses lie; raise logf.m "
                "to n or more"
            )
    return list(dict.fromkeys(lines))


def _check_names(where: str, methods: Mapping[str, Any]) -> None:
    """Refuse settings of a method that does not exist: they would be ignored."""
    names = sorted(method_modules())
    for name in (name for name in methods if name not in names):
        known = f"{hint(name, names)}known: {', '.join(names)}"
        raise ConfigError(f"{where}.{name}: unknown method; {known}")


def _runs_of(config: Mapping[str, Any], root: Root, method: str) -> list[Run]:
    get_method(method)  # the error for an unknown name lists the accepted ones
    methods = {**config["methods"], **root.section["methods"]}
    if method not in methods:
        raise ConfigError(
            f"methods.{method}: missing, but run_methods lists it; add its settings, "
            f"for example {method}: {{}}"
        )
    # An overlay drops a setting by giving it as null.
    grid = {name: value for name, value in methods[method].items() if value is not None}
    seeds = grid.pop("seeds", root.section.get("seeds", config["seeds"]))
    if not isinstance(seeds, list) or not all(
        type(seed) is int and 0 <= seed <= LARGEST_SEED for seed in seeds
    ):
        raise ConfigError(
            f"methods.{method}.seeds: {seeds!r} is not a list of whole numbers from 0 to "
            f"{LARGEST_SEED}"
        )
    runs = []
    for values in _settings(root, method, grid):
        setting = _slug(grid, values)
        values, logf = _split(root, method, values)
        instance = get_method(method)(**values)
        pool = "train" if logf.get("m", root.m) == root.m else f"train-m{logf['m']}"
        for seed in seeds:
            spec = _spec(root, method, instance, values, seed)
            if "logf" in instance.needs and "online" in spec:
                spec["logf"] = logf
            online = spec.get("online", {})
            if online.get("warm_start") or online.get("tilt_floor") is not None:
                spec["stored_draws"] = logf.get("m", root.section["logf"]["m"])
            where = (root.folder, root.shared, pool)
            runs.append(Run(root.task, root.study, method, setting, seed, *where, values, spec))
            _check(runs[-1], root)
    return runs


def _loop(method: Method | type[Method]) -> str | None:
    """Section of the config whose loop trains the method; None if it trains nothing."""
    if isinstance(method, Method) and method.is_reference:
        return None
    shape = type(method) if isinstance(method, Method) else method
    loops = {Online: "online", Offline: "offline"}
    return next((loop for parent, loop in loops.items() if issubclass(shape, parent)), None)


def _check_budgets(root: Root) -> None:
    """Refuse the budget of a method that is unknown or not trained, and invalid budgets."""
    for method, budget in root.section["budgets"].items():
        trained = [name for name in sorted(method_modules()) if _loop(get_method(name))]
        if method not in trained:
            raise ConfigError(
                f"{root.path}.budgets.{method}: no trained method has this name; accepted: "
                f"{', '.join(trained)}"
            )
        _budgeted(root, method, _loop(get_method(method)))
        defined = getattr(get_method(method), "defines", ())
        for key in (key for key in defined if key in budget):
            raise ConfigError(
                f"{root.path}.budgets.{method}.{key}: {budget[key]!r} is not allowed, since the "
                f"method itself defines {', '.join(defined)}; leave it out"
            )


def _budgeted(root: Root, method: str, loop: str) -> dict[str, Any]:
    """Settings of a training loop with the budget of one method laid over them."""
    path = f"{root.path}.budgets.{method}"
    combined = laid_over(root.section, loop, root.section["budgets"].get(method, {}), path)
    check_section(path, {**root.section, loop: combined})
    return combined


def _split(
    root: Root, method: str, values: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of a method itself, and those of log F with the method's changes."""
    keys = _logf_keys(root, method)
    settings = {name: value for name, value in values.items() if name not in keys}
    changed = {name: value for name, value in values.items() if name in keys}
    if root.section.get("exact_cdf"):
        for name, value in changed.items():
            raise ConfigError(
                f"methods.{method}.{name}: {value!r} is not allowed where {root.path}.exact_cdf is "
                "true, since nothing is estimated; give exact_cdf: false, or leave it out"
            )
        return settings, {"estimator": "exact"}
    logf = laid_over(root.section, "logf", changed, f"methods.{method}")
    check_logf(f"methods.{method}", root.path, root.section, logf)
    return settings, logf


def _logf_keys(root: Root, method: str) -> list[str]:
    """Keys of ``logf`` that a method may set for itself: all, if it uses log F."""
    return list(root.section["logf"]) if "logf" in get_method(method).needs else []


def _check(run: Run, root: Root) -> None:
    """Refuse leave-one-out of one response per prompt, and draws or a start that do not exist."""
    if run.starts_informed and "informed" not in root.section:
        raise ConfigError(
            f"{root.path}.{_loop(run.instance)}.start: 'informed' is not allowed for this kind of "
            "task, which trains no such model; give reference"
        )
    draws = run.spec.get("online", {}).get("draws_per_prompt", 2)
    if draws < 2 and run.instance.leave_one_out:
        raise ConfigError(
            f"{root.path}.budgets.{run.method}.draws_per_prompt: {draws} is not allowed, since a "
            "response is compared with the others to its prompt; give 2 or more"
        )
    estimator = run.spec.get("logf", {}).get("estimator")
    if "stored_draws" in run.spec and estimator == "ibs":
        online = run.spec["online"]
        name, remedy = ("warm_start", "0") if online["warm_start"] else ("tilt_floor", "null")
        raise ConfigError(
            f"{root.path}.online.{name}: {online[name]} is not allowed with logf.estimator: ibs, "
            f"which has no stored draws; give {remedy}"
        )
    fresh, block = root.section["sampling"]["fresh_draws"], getattr(run.instance, "block", 1)
    if block > fresh:
        raise ConfigError(
            f"methods.{run.method}.n: {block} draws requested, {root.path}.sampling.fresh_draws "
            f"gives {fresh}; lower the former or raise the latter"
        )
    stored = root.section["sampling"]["train_draws"]
    if run.pairing is not None and run.pairing.num_draws > stored:
        named = "num_draws" if "num_draws" in vars(run.instance) else "n"
        raise ConfigError(
            f"methods.{run.method}.{named}: {run.pairing.draws} draws requested, {root.path}."
            f"sampling.train_draws gives {stored}; lower the former or raise the latter"
        )


def _settings(root: Root, method: str, grid: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every combination of the listed values, each checked by the method itself."""
    names = [item.name for item in fields(get_method(method)) if item.init]
    accepted = [*names, *_logf_keys(root, method)]
    for name in (name for name in grid if name not in accepted):
        listed = ", ".join([*accepted, "seeds"])
        raise ConfigError(f"methods.{method}.{name}: unknown setting; accepted: {listed}")
    whole = {item.name for item in fields(get_method(method)) if item.type in (int, "int")}
    lists = [
        [int(v) if name in whole and isinstance(v, float) and v.is_integer() else v for v in values]
        for name, value in grid.items()
        for values in [value if isinstance(value, list) else [value]]
    ]
    combinations = [dict(zip(grid, cell, strict=True)) for cell in itertools.product(*lists)]
    for values in combinations:
        try:
            get_method(method)(**{name: values[name] for name in values if name in names})
        except TypeError as error:
            raise ConfigError(f"methods.{method}: {error}; see `vbon methods`") from error
    return combinations


def _slug(grid: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """Name of a setting: the swept fields, or all fields where nothing is swept."""
    swept = [name for name, value in grid.items() if isinstance(value, list)] or list(grid)
    whole = {k: int(v) for k, v in values.items() if isinstance(v, float) and v.is_integer()}
    parts = [f"{_PREFIX.get(name, name)}{whole.get(name, values[name])}" for name in swept]
    return "-".join(parts) or "default"


def _spec(
    root: Root, method: str, instance: Method, values: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """Settings that shape a run, and no others: changing another key must not retrain it."""
    spec: dict[str, Any] = {"method": method, "values": dict(values), "seed": seed}
    loop, section = _loop(instance), root.section
    if loop:
        sampling = section["sampling"]
        spec[loop] = _budgeted(root, method, loop)
        if isinstance(instance, Anchored):
            spec[loop] = instance.loop(spec[loop]) | {"start": "reference"}
        if isinstance(instance, Offline):
            fitting = max(1, sampling["train_draws"] // instance.pairing.draws)
            spec[loop]["blocks"] = min(spec[loop]["blocks"], fitting)
        spec["sampling"] = {name: sampling[name] for name in ("max_new_tokens", "temperature")}
        spec["rewards"] = section["rewards"]
    return spec


def file_of(path: str) -> str:
    """The file that represents an artifact in the workflow: a model's card is written last.

    Example:
        >>> file_of("results/sentiment/models/reference")
        'results/sentiment/models/reference/card.json'
    """
    return path if path.endswith(".parquet") else f"{path}/card.json"


def pair_files(runs: list[Run]) -> dict[str, dict[str, dict[str, Any]]]:
    """Pairs that runs are trained on: settings of each, by folder and file name."""
    settings: dict[str, dict[str, dict[str, Any]]] = {}
    for run in runs:
        if run.pairing is not None:
            path = Path(run.inputs()["pairs"])
            settings.setdefault(str(path.parent), {})[path.stem] = asdict(run.pairing)
    return settings


def jobs(runs: list[Run], runs_per_job: int) -> dict[str, list[Run]]:
    """Group a task's runs into jobs that share a warm process.

    A job has the runs of one method, or of several with few runs: loading the libraries takes as
    long as a short run.
    """
    packed: list[tuple[str, list[Run]]] = []
    for (task, _), group in itertools.groupby(runs, lambda run: (run.task, run.method)):
        members = list(group)
        if packed and packed[-1][0] == task and len(packed[-1][1]) + len(members) <= runs_per_job:
            packed[-1][1].extend(members)
            continue
        parts = -(-len(members) // runs_per_job)  # of one size, so that cores end together
        bounds = [len(members) * part // parts for part in range(parts + 1)]
        packed += [(task, members[a:b]) for a, b in itertools.pairwise(bounds)]
    counts: Counter[str] = Counter()
    named = {}
    for task, members in packed:
        named[f"{task}_{counts[task]}"] = members
        counts[task] += 1
    return named

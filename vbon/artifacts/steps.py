"""Steps of the workflow: functions whose signatures declare inputs, outputs and settings.

From one signature follow the verb ``vbon <name>`` with its options, the shell command of the rule,
the hash of the code that makes a job run again, and the provenance of the outputs. The steps of a
phase are in ``steps.py`` of its folder. Their bodies import heavy libraries, so that all signatures
can be read without PyTorch.
"""

import argparse
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pandas as pd

from vbon.artifacts.fingerprint import PACKAGE, code_fingerprint, provenance, uses_of
from vbon.artifacts.tables import read_either, write_csv
from vbon.errors import VbonError

PHASES = ("tasks", "pool", "training", "evaluation", "analysis", "figures", "report")
"""Folders of this package whose ``steps.py`` declares steps."""
_RECORDS = ("/run.json", "/card.json")


@dataclass(frozen=True)
class Kind:
    """Role of a parameter.

    Attributes:
        role: ``input``, ``output`` or ``setting``.
        load: Function from the parsed word of the command line to the value of the parameter.
        is_folder: Whether files named by a record (``run.json``, ``card.json``) are its folders.
    """

    role: str
    load: Callable[[Any], Any] | None = None
    is_folder: bool = False


Input = Annotated[str, Kind("input")]
"""A file that is read."""
Optional = Annotated[str | None, Kind("input")]
"""A file that is read if it exists."""
Inputs = Annotated[list[str], Kind("input")]
"""Files that are read, all of one sort."""
Named = Annotated[dict[str, str], Kind("input")]
"""Files that are read, by name: ``name=path`` on the command line."""
Model = Annotated[str, Kind("input", is_folder=True)]
"""Folder of a model; the input of the rule is the card in it."""
Runs = Annotated[list[str], Kind("input", is_folder=True)]
"""Folders of runs; the inputs of the rule are their records and marks of other needed files."""
Output = Annotated[str, Kind("output")]
"""A file that is written."""
Outputs = Annotated[list[str], Kind("output")]
"""Files that are written."""


def table(schema: str, columns: list[str] | None = None) -> Any:
    """Type of a parameter that is a table: read from Parquet, or from the CSV copy of it.

    Args:
        schema: Name in :data:`vbon.artifacts.SCHEMAS`, or of a small table that is CSV alone.
        columns: Columns to read from a Parquet file; all by default.
    """
    return Annotated[pd.DataFrame, Kind("input", lambda path: read_either(path, schema, columns))]


def optional_table(schema: str) -> Any:
    """As :func:`table`, for a file that need not exist."""
    kind = Kind("input", lambda path: None if path is None else read_either(path, schema))
    return Annotated[pd.DataFrame | None, kind]


@dataclass(frozen=True)
class Parameter:
    """A parameter of a step: its name, role, and number of words on a command line."""

    name: str
    kind: Kind
    type: Any
    is_required: bool
    default: Any = None

    @property
    def option(self) -> str:
        """The option of the verb."""
        return "--" + self.name.replace("_", "-")

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Add the option to a verb's parser."""
        settings: dict[str, Any] = {"required": self.is_required, "default": self.default}
        if get_origin(self.type) is list:
            settings |= {"nargs": "*", "type": _scalar(get_args(self.type)[0])}
        elif get_origin(self.type) is dict and self.kind.role == "input":
            settings |= {"nargs": "*", "type": _pair}
        elif type(None) in get_args(self.type):
            settings |= {"nargs": "?"}
        elif self.kind.role == "setting":
            settings["type"] = json_word if self.kind.load else _scalar(self.type)
        parser.add_argument(self.option, help=self.kind.role, **settings)

    def parsed(self, value: Any) -> Any:
        """The value as paths or settings: pairs joined, records replaced by their folders."""
        if get_origin(self.type) is dict and isinstance(value, list):
            return dict(value)
        if self.kind.is_folder and isinstance(value, list):  # other files are marks
            return [_folder(path) for path in value if path.endswith(_RECORDS)]
        return _folder(value) if self.kind.is_folder else value


def _scalar(kind: Any) -> Callable[[str], Any]:
    return kind if kind in (int, float, str) else json_word


def json_word(text: str) -> Any:
    """A JSON value on the command line."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON ({error}): {text!r}") from error


def _pair(word: str) -> tuple[str, str]:
    name, equals, path = word.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{word!r} is not name=path")
    return name, path


def _folder(path: str) -> str:
    return path.removesuffix(_RECORDS[0]).removesuffix(_RECORDS[1])


@dataclass(frozen=True, eq=False)
class Step:
    """A function of the workflow; see the module.

    Attributes:
        function: Called with a value for each of its parameters.
        work: The function whose code counts, if the step only repeats it for many runs.
        needs_gpu: Whether it runs a model.
        is_light: Whether it is so short that it runs on the machine of the workflow.
    """

    function: Callable[..., Any]
    work: str = ""
    needs_gpu: bool = False
    is_light: bool = False

    @property
    def name(self) -> str:
        """Name of the function and, with hyphens, of the verb."""
        return self.function.__name__

    @property
    def verb(self) -> str:
        """Name on the command line."""
        return self.name.replace("_", "-")

    @property
    def phase(self) -> str:
        """Folder of the package that declares the step."""
        return self.function.__module__.split(".")[1]

    @property
    def summary(self) -> str:
        """First sentence of its documentation."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        """Parameters by name; a step that returns a table also has ``output``."""
        signature = inspect.signature(self.function)
        declared = [p for p in signature.parameters.values() if p.annotation is not Job]
        parameters = {parameter.name: _parameter(parameter) for parameter in declared}
        if signature.return_annotation is pd.DataFrame:
            parameters["output"] = Parameter("output", Kind("output"), str, True)
        return parameters

    def named(self, role: str) -> list[str]:
        """Names of the parameters of one role."""
        return [name for name, parameter in self.parameters.items() if parameter.kind.role == role]

    def shell(self, log: str = "> {log:q} 2>&1", **replaced: str) -> str:
        """Command of the rule, whose inputs, outputs and params have the parameters' names.

        Args:
            log: Where output goes.
            replaced: Words that replace the value of a parameter.
        """
        words = [f"vbon {self.verb}"]
        for name, parameter in self.parameters.items():
            place = {"input": "input.{}", "output": "output.{}", "setting": "params.{}"}
            field = place[parameter.kind.role].format(name)
            if get_origin(parameter.type) is dict:
                field = f"params.{name}"  # name=path, or JSON
            field = "output" if name == "output" and parameter.kind.role == "output" else field
            words.append(f"{parameter.option} {replaced.get(name, f'{{{field}:q}}')}")
        return " ".join([*words, log])

    def roots(self, **objects: Any) -> tuple[str, ...]:
        """Definitions that decide whether its results are up to date.

        Args:
            objects: Values of parameters whose methods it calls; these count as well.
        """
        root = self.work or f"{self.function.__module__}:{self.name}"
        uses, places = sorted(uses_of(root)), []
        for name, value in objects.items():
            called = [use.partition(".")[2] for use in uses if use.startswith(f"{name}.")]
            places += [f"{_place(type(value))}.{method}" for method in called]
        return (root, *places)

    def code(self, *more: str | Path, **objects: Any) -> str:
        """Hash of the code of :meth:`roots`, and of more."""
        return code_fingerprint(*self.roots(**objects), *more)

    def parser(self) -> argparse.ArgumentParser:
        """Parser of the verb's options."""
        summary = inspect.getdoc(self.function)
        parser = argparse.ArgumentParser(prog=f"vbon {self.verb}", description=summary)
        for parameter in self.parameters.values():
            parameter.add_to(parser)
        return parser

    def main(self, words: list[str]) -> None:
        """Run the verb."""
        self(**vars(self.parser().parse_args(words)))

    def __call__(self, **values: Any) -> None:
        """Run the step on paths and settings, and write the table that it returns, if any.

        Raises:
            VbonError: If a parameter is missing or unknown.
        """
        unknown = [name for name in values if name not in self.parameters]
        missing = [n for n, p in self.parameters.items() if p.is_required and n not in values]
        if unknown or missing:
            raise VbonError(f"step {self.name}: unknown {unknown}, missing {missing}")
        parameters = self.parameters.items()
        parsed = {name: p.parsed(values.get(name, p.default)) for name, p in parameters}
        job = Job(self, parsed)
        loaded = {n: p.kind.load(parsed[n]) if p.kind.load else parsed[n] for n, p in parameters}
        names = inspect.signature(self.function).parameters
        arguments = {name: value for name, value in {**loaded, "job": job}.items() if name in names}
        result = self.function(**arguments)
        if isinstance(result, pd.DataFrame):
            write_csv(parsed["output"], result, job.provenance(**_objects(arguments)))


@dataclass(frozen=True)
class Job:
    """One call of a step: its paths and settings, from which provenance follows."""

    step: Step
    values: Mapping[str, Any]

    def provenance(self, **changes: Any) -> dict[str, Any]:
        """Provenance of the outputs (:func:`vbon.artifacts.fingerprint.provenance`).

        Args:
            changes: Values that differ for one of several outputs; None omits a parameter. Objects
                whose methods the step calls are given by the name of their parameter.
        """
        objects = _objects(changes)
        values = {**self.values, **{k: v for k, v in changes.items() if k not in objects}}
        inputs: dict[str, str | Path] = {}
        for name in self.step.named("input"):
            inputs |= _files(name, values[name])
        others = {*self.step.named("input"), *self.step.named("output")}
        settings = {k: v for k, v in values.items() if k not in others and v is not None}
        return provenance(settings, inputs, self.step.roots(**objects))


def _objects(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are instances of classes of this package or of a plug-in."""
    plain = (str, int, float, bool, list, dict, tuple, type(None), pd.DataFrame, Job)
    return {name: value for name, value in values.items() if not isinstance(value, plain)}


def _files(name: str, value: Any) -> dict[str, str]:
    """Files of one input by their names in the provenance."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, str):
        return {name: value}
    if all(Path(path, "run.json").exists() for path in value):
        return {"/".join(Path(path).parts[-3:]): f"{path}/run.json" for path in value}
    return {f"{name}{number}": path for number, path in enumerate(value)}


def _parameter(declared: inspect.Parameter) -> Parameter:
    kind, type_ = Kind("setting"), declared.annotation
    if get_origin(type_) is Annotated:
        type_, kind = get_args(type_)[:2]
    is_required = declared.default is inspect.Parameter.empty
    default = None if is_required else declared.default
    return Parameter(declared.name, kind, type_, is_required, default)


def _place(cls: type) -> str:
    """Module, or file of a plug-in, and name of a class."""
    file = inspect.getfile(cls)
    is_ours = cls.__module__.partition(".")[0] == __name__.partition(".")[0]
    return f"{cls.__module__ if is_ours else file}:{cls.__name__}"


_STEPS: dict[str, Step] = {}


def step(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Decorator that declares a step; see the module and :class:`Step`.

    Example:
        >>> @step
        ... def count(points: table("points"), seed: int) -> pd.DataFrame:
        ...     "Count runs."
        >>> count.shell(log="")
        'vbon count --points {input.points:q} --seed {params.seed:q} --output {output:q} '
        >>> _ = _STEPS.pop("count")
    """
    if function is None:
        return lambda function: step(function, **options)
    declared = Step(function, **options)
    _STEPS[declared.name] = declared
    return declared


def steps() -> dict[str, Step]:
    """Every step by name, in the order of phases."""
    for phase in PHASES:
        import_module(f"vbon.{phase}.steps")
    return dict(sorted(_STEPS.items(), key=lambda item: PHASES.index(item[1].phase)))


def find_step(verb: str) -> Step | None:
    """The step of a verb, importing the steps of its phase alone; None if there is none."""
    name = verb.replace("-", "_")
    for phase in PHASES:
        if f"\ndef {name}(" in (PACKAGE / phase / "steps.py").read_text():
            import_module(f"vbon.{phase}.steps")
    return _STEPS.get(name)

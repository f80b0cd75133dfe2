"""Shapes of a task: workflow, figures, claims and report depend on these, never on a name."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from vbon.artifacts.functions import check_defined, check_function
from vbon.errors import ConfigError, DataError
from vbon.tasks.files import refusal, source_kind

_FEWEST_BPE = 256 + 4  # bytes, and special tokens of a classifier
ROLES = ("reference", "reward_model", "evaluator")
"""Models of every task: the one to align, the training reward, and the held-out reward."""
PARTS = (*ROLES, "train", "test")
"""Purposes of texts; each text has one."""


def evaluation_splits(section: Mapping[str, Any]) -> dict[str, float]:
    """Temperature of each set of responses to the test prompts, by its name in file names.

    Example:
        >>> evaluation_splits({"evaluation": {"temperatures": [0.5, 1]}})
        {'test-t0.5': 0.5, 'test-t1': 1}
        >>> evaluation_splits({"evaluation": {}, "sampling": {"temperature": 1.0}})
        {'test': 1.0}
    """
    temperatures = section["evaluation"].get("temperatures")
    if temperatures is None:
        return {"test": section["sampling"]["temperature"]}
    return {f"test-t{temperature:g}": temperature for temperature in temperatures}


def is_built(model: Mapping[str, Any]) -> bool:
    """Return True if a model is trained here, and is not an id, a function or a GGUF file."""
    return all(model.get(key) is None for key in ("id", "callable", "gguf"))


class Task(ABC):
    """A section of the configuration: where texts, prompts, models and rewards come from.

    A class is a *kind* of task; several sections may be of one kind.

    Args:
        section: The complete section, or the part of it that a step needs.
    """

    kind: ClassVar[str]
    """Name of the class's file, set on registration."""
    section_name: ClassVar[str | None] = None
    """Name of a section that is of this kind without saying so."""
    schema: ClassVar[str] = "section"
    """Keys of its section: a definition in ``workflow/schemas/config.schema.yaml``."""
    keys: ClassVar[Mapping[str, Any]] = {}
    """Further keys of its section, as properties of a JSON schema with defaults."""
    figures: ClassVar[tuple[str, ...]] = ()
    """Figures that show it (:mod:`vbon.figures.catalogue`)."""
    tables: ClassVar[tuple[str, ...]] = ("histories", "excerpts", "cards")
    """Tables that compare its runs, as far as the configuration has what they need."""
    claims: ClassVar[tuple[str, ...]] = ()
    """Groups of claims that it can test (:mod:`vbon.analysis.claims`)."""
    shares_pool: ClassVar[bool] = True
    """True if its studies use its models, prompts and reference draws."""
    has_ties: ClassVar[bool] = False
    """True if distinct responses often share a reward, so that best-of-n's KL is far below its
    closed form for distinct ones."""
    has_domains: ClassVar[bool] = False
    """True if points are also given by domain of the prompts."""

    def __init__(self, section: Mapping[str, Any]) -> None:
        self.section = section

    @classmethod
    def filled(cls, section: dict[str, Any]) -> dict[str, Any]:
        """A section as it is given, with keys that its other keys imply and no default states."""
        return section

    def check(self, where: str) -> None:  # noqa: B027
        """Refuse relations between keys of the section that its schema cannot state.

        Args:
            where: Path of the section in the configuration, for errors.

        Raises:
            ConfigError: In one line: the key, its value, the accepted values.
        """

    @property
    def splits(self) -> dict[str, float]:
        """Temperature of each set of responses to the test prompts, by name."""
        return evaluation_splits(self.section)

    @property
    @abstractmethod
    def num_prompts(self) -> dict[str, int]:
        """Number of prompts of each split, ``train`` and ``test``."""


class TextTask(Task):
    """A task of texts: disjoint parts of them train the models and give the prompts.

    A kind defines :meth:`texts`. The other methods read column ``text``, and ``label`` and
    ``domain`` if they exist; a kind with other columns overrides them.
    """

    schema = "text_section"
    texts_key: ClassVar[str] = "texts"
    """Key of the section with the source of texts."""
    whole: ClassVar[tuple[str, ...]] = ("reference",)
    """Models that, if they are built here, must read a prompt and its longest response."""
    figures = ("figure2a", "figure2b")
    tables = (
        *Task.tables, "data", "convergence", "prompt_means", "matched", "distances", "orderings",
        "bands", "inference", "trials", "unequal",
    )  # fmt: skip
    claims = ("tradeoff", "cost")

    @abstractmethod
    def texts(self, seed: int) -> pd.DataFrame:
        """All texts, each assigned to one part; most kinds end with :meth:`divided`.

        Returns:
            Schema "texts": ``source_id``, ``part`` (one of :data:`PARTS`) and any other columns;
            ``attrs["duplicates"]`` may count the texts that were dropped.
        """

    def divided(self, rows: pd.DataFrame, seed: int) -> pd.DataFrame:
        """Rows with distinct texts, each assigned to one part by the section's ``fractions``.

        Args:
            rows: Column ``text`` and any others; without ``source_id`` they are numbered.
            seed: Base seed; it decides the parts.

        Returns:
            Schema "texts"; ``attrs["duplicates"]`` is the number of rows dropped.
        """
        from vbon.tasks.texts import assign_parts, distinct

        dropped, rows = rows.attrs.get("duplicates", 0), distinct(rows, "text", None, seed)
        if "source_id" not in rows:
            names = [f"{self.kind}-{number:06d}" for number in range(len(rows))]
            rows.insert(0, "source_id", names)
        fractions = self.section[self.texts_key]["fractions"]
        parts = assign_parts(rows, "text", fractions, seed, self.texts_key)
        parts.attrs["duplicates"] = dropped + rows.attrs["duplicates"]
        return parts

    def check_rows(self, where: str) -> None:
        """Refuse files of this machine whose first rows show that they cannot be used.

        Args:
            where: Path of the section in the configuration, for errors.

        Raises:
            ConfigError: In one line: the key, the file and row, and what is accepted.
        """

    def prompts(
        self, texts: pd.DataFrame, tokenizer: Any, split: str, seed: int, taken: list[list[int]]
    ) -> pd.DataFrame:
        """Prompts of one split: by default the first tokens of its texts.

        With ``prompts.test_part: train`` the test prompts are of texts of the training part that
        gave no training prompt.

        Args:
            texts: Rows that :meth:`texts` returned.
            tokenizer: A Hugging Face tokenizer of the reference.
            split: ``train`` or ``test``.
            seed: Base seed.
            taken: Token ids of the other split's prompts, which must not occur again.

        Returns:
            Schema "prompts".
        """
        from vbon.tasks.texts import make_prompts

        settings = self.section["prompts"]
        rows = texts[texts["part"] == (settings["test_part"] if split == "test" else split)]
        limits = settings[f"num_{split}"], settings["min_tokens"], settings["max_tokens"]
        return make_prompts(rows, tokenizer, *limits, seed, exclude=taken)

    def train_model(
        self, role: str, texts: pd.DataFrame, seed: int, folder: Path
    ) -> dict[str, float]:
        """Train a model on the texts of its part and save it.

        By default the reference is a language model of the texts, and the other two are
        classifiers of their labels, 0 and 1.

        Args:
            role: One of :data:`ROLES`; its ``build`` settings are in the section.
            texts: Rows of that part.
            seed: Seed of this model.
            folder: Folder to write, in Hugging Face's format.

        Returns:
            Measured quality by name, for the card and the data report.

        Raises:
            DataError: If a classifier is requested of texts without labels.
        """
        from vbon.models.build import build_classifier, build_reference, build_tokenizer

        settings = self.section[role]["build"]
        options = {**self.section["tokenizer"], "max_tokens": settings["max_tokens"]}
        if role == "reference":
            tokenizer = build_tokenizer(texts["text"], **options)
            return build_reference(texts["text"].tolist(), tokenizer, settings, seed, folder)
        if "label" not in texts:
            raise DataError(
                f"{role}: texts of kind {self.kind} have no column 'label' that a classifier could "
                f"learn; give {role}.callable or {role}.id"
            )
        tokenizer = build_tokenizer(texts["text"], **options, classifier=True)
        return build_classifier(texts, tokenizer, settings, seed, folder)

    def quantities(self, texts: pd.DataFrame) -> dict[str, float]:
        """Properties of the texts for the data report, whose bounds are in ``checks``."""
        return {"num_texts": float(len(texts))}

    def cut(self, *keys: str) -> dict[str, Any]:
        """The part of the section for one step: kind, keys of the class, and others that exist."""
        named = (key for key in (*self.own_keys, *keys) if key in self.section)
        return {"kind": self.kind, **{key: self.section[key] for key in named}}

    @property
    def own_keys(self) -> tuple[str, ...]:
        """Keys that the class adds to the section."""
        return tuple(dict.fromkeys((self.texts_key, *self.keys)))

    @property
    def num_prompts(self) -> dict[str, int]:
        """Number of prompts of each split."""
        return {split: self.section["prompts"][f"num_{split}"] for split in ("train", "test")}

    def check(self, where: str) -> None:
        """Refuse parts without texts, and models and prompts of impossible sizes."""
        for role in ROLES:
            model = self.section[role]
            for key in ("callable", "gguf"):
                if None not in (model["id"], model.get(key)):
                    raise ConfigError(
                        f"{where}.{role}.{key}: {model[key]!r} is not allowed beside an id; give "
                        "one of them"
                    )
            for key, unset in {"label": None, "chat": False}.items():
                if model.get(key, unset) is not unset and model["id"] is None:
                    raise ConfigError(
                        f"{where}.{role}.{key}: {model[key]!r} needs a classifier with an id; "
                        f"give {where}.{role}.id, or remove {key}"
                    )
            if model.get("gguf_file") is not None and model["id"] is None:
                raise ConfigError(
                    f"{where}.{role}.gguf_file: {model['gguf_file']!r} is a file of a repository "
                    "or folder; give its id, or the path of a file as gguf"
                )
            if self.section[role].get("callable"):
                file, _, name = self.section[role]["callable"].rpartition(":")
                check_function(file, name, f"{where}.{role}.callable")
                check_defined(file, name, f"{where}.{role}.callable")
            build = self.section[role].get("build", {"width": 0, "heads": 1})
            if build["width"] % build["heads"]:
                raise ConfigError(
                    f"{where}.{role}.build.width: {build['width']} is not a multiple of "
                    f"{where}.{role}.build.heads = {build['heads']}"
                )
        texts = self.section.get(self.texts_key) or {}
        sources = texts.get("source"), texts.get("test_source")
        if sources[0] == "grammar" and sources[1] is not None:
            raise ConfigError(
                f"{where}.{self.texts_key}.test_source: {sources[1]!r} is not allowed with source: "
                "grammar, which writes texts for the test as well; give null"
            )
        for key, source in zip(("source", "test_source"), sources, strict=True):
            is_local = source is not None and source_kind(source) == "local"
            if reason := refusal(source) if is_local else None:
                raise ConfigError(f"{where}.{self.texts_key}.{key}: {reason}")
        needed = {role: is_built(self.section[role]) for role in ROLES}
        needed |= {"train": True, "test": sources[1] is None}
        for part, share in texts.get("fractions", {}).items():
            if needed[part] and not share > 0:
                raise ConfigError(
                    f"{where}.{self.texts_key}.fractions.{part}: {share} is not allowed; give more "
                    "than 0"
                )
        fractions, prompts = texts.get("fractions"), self.section["prompts"]
        if fractions and not math.isclose(sum(fractions.values()), 1.0, abs_tol=1e-9):
            raise ConfigError(
                f"{where}.{self.texts_key}.fractions: shares have sum {sum(fractions.values()):g}; "
                "they must add up to 1"
            )
        count = texts.get(f"num_{self.texts_key}")
        for split in ("train", "test") if fractions and count is not None else ():
            part = prompts.get("test_part", split) if split == "test" else split
            most = math.inf if part == "test" and sources[1] else count * fractions[part]
            if prompts[f"num_{split}"] > most + 1:
                raise ConfigError(
                    f"{where}.prompts.num_{split}: {prompts[f'num_{split}']} is more than the "
                    f"{most:g} texts of {where}.{self.texts_key}.fractions.{part}; lower it, or "
                    f"raise that or {where}.{self.texts_key}.num_{self.texts_key}"
                )
        temperatures = list(
            map("{:g}".format, self.section["evaluation"].get("temperatures") or ())
        )
        for name in (name for name in temperatures if temperatures.count(name) > 1):
            raise ConfigError(
                f"{where}.evaluation.temperatures: two are named {name}, with six digits; give "
                "temperatures that differ in these"
            )
        tokenizer = self.section.get("tokenizer", {})
        if tokenizer.get("kind") == "bpe" and any(needed[role] for role in ROLES):
            if tokenizer["vocab_size"] < _FEWEST_BPE:
                raise ConfigError(
                    f"{where}.tokenizer.vocab_size: {tokenizer['vocab_size']} is not allowed with "
                    f"kind: bpe, which has a token for each byte; give {_FEWEST_BPE} or more"
                )
            if tokenizer["fill"]:
                raise ConfigError(
                    f"{where}.tokenizer.fill: true is not allowed with kind: bpe; give words"
                )
        if prompts["max_tokens"] < prompts.get("min_tokens", 0):
            raise ConfigError(
                f"{where}.prompts.max_tokens: {prompts['max_tokens']} is below "
                f"{where}.prompts.min_tokens = {prompts['min_tokens']}"
            )
        room = prompts["max_tokens"] + self.section["sampling"]["max_new_tokens"]
        for role in self.whole:
            model = self.section[role]
            if is_built(model) and model.get("build", {}).get("max_tokens", room) < room:
                raise ConfigError(
                    f"{where}.{role}.build.max_tokens: {model['build']['max_tokens']} is too short "
                    f"for {where}.prompts.max_tokens and {where}.sampling.max_new_tokens, {room} "
                    "together"
                )

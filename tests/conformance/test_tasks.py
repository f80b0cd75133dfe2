"""Properties of every kind of task, those of a folder ``VBON_TASKS`` included."""

import ast
import json
import pickle
import re

import numpy as np
import pytest

from vbon.analysis.claims import CLAIMS
from vbon.artifacts import read_table, write_table
from vbon.artifacts.fingerprint import content_hash
from vbon.artifacts.steps import steps
from vbon.errors import ConfigError
from vbon.figures.catalogue import FIGURES
from vbon.models.build import build_tokenizer
from vbon.planning.config import merge, resolve, section_schema
from vbon.planning.runs import expand
from vbon.tasks.base import PARTS, ROLES, Task, TextTask
from vbon.tasks.registry import KINDS, make_task

NAMES = sorted(KINDS.files())
CLASSES = {name: KINDS.get(name) for name in NAMES}
TEXT = [name for name in NAMES if issubclass(CLASSES[name], TextTask)]
MODELS = {role: {"id": "someone/model"} for role in ROLES}
NEEDED = {"prompts": {"prompts": {"source": "someone/prompts"}, **MODELS}}
"""Keys without which a section of a kind is refused."""
BUILDING = [name for name in TEXT if "build" in section_schema(name)["properties"]["reference"][
    "properties"]]  # fmt: skip
LANGUAGES = [name for name in NAMES if name not in TEXT]
NUM_TEXTS = 400
METHODS = {"run_methods": ["reference"], "methods": {"reference": {}}}
_CACHE = {}


def resolved(kind, name="some", **changes):
    """A configuration with one section of a kind, and defaults."""
    section = merge({"kind": kind, **NEEDED.get(kind, {})}, changes)
    return resolve({"tasks": [name], "seeds": [0], **METHODS, name: section})


def small(kind):
    """Section of a kind with few texts and prompts: every ``num_`` of texts is lowered."""
    key = CLASSES[kind].texts_key
    properties = section_schema(kind)["properties"][key]["properties"]
    sizes = {name: NUM_TEXTS for name in properties if name.startswith("num_")}
    changes = {key: sizes, "prompts": {"num_train": 6, "num_test": 4}}
    return merge(resolved(kind)["some"], changes)


def texts_of(kind, seed=0):
    """Texts of a small section, written once per seed."""
    if (kind, seed) not in _CACHE:
        _CACHE[kind, seed] = make_task(small(kind)).texts(seed)
    return _CACHE[kind, seed]


def prompts_of(kind, seed=0):
    """Training and test prompts of a small section, as the step makes them."""
    task, texts = make_task(small(kind)), texts_of(kind)
    written = [column for column in texts if texts[column].map(type).eq(str).all()]
    corpus = [text for column in written for text in texts[column]]
    tokenizer = build_tokenizer(corpus, kind="bpe", vocab_size=1000)  # no token is unknown
    splits, taken = {}, []
    for split in ("train", "test"):
        splits[split] = task.prompts(texts, tokenizer, split, seed, taken)
        taken = splits[split]["prompt_ids"].tolist()
    return splits, tokenizer


def test_shipped_kinds_are_of_both_shapes():
    assert {"reviews", "posts"} <= set(TEXT)
    assert "enumerable" in LANGUAGES


@pytest.mark.parametrize("kind", NAMES)
def test_says_what_it_is(kind):
    cls, file = CLASSES[kind], KINDS.files()[kind]
    assert issubclass(cls, Task)
    assert cls.kind == file.stem == kind
    assert ast.get_docstring(ast.parse(file.read_text()))
    assert section_schema(kind)["description"] == " ".join(cls.__doc__.split())
    for name, node in cls.keys.items():
        assert {"description", "default"} <= node.keys(), f"describe {name} and give its default"
        assert "description" in section_schema(kind)["properties"][name]


@pytest.mark.parametrize("kind", NAMES)
def test_a_section_of_only_a_kind_is_complete(kind):
    section = resolved(kind)["some"]
    properties = section_schema(kind)["properties"]
    assert section["kind"] == kind
    assert {name for name, node in properties.items() if "default" in node} < section.keys()
    assert resolved(**{"kind": kind, **section})["some"] == section
    task = make_task(section)
    task.check("some")
    assert task.num_prompts.keys() == {"train", "test"}
    assert all(number > 0 for number in task.num_prompts.values())
    assert task.splits == {"test": section["sampling"]["temperature"]}
    assert len(expand(resolved(kind))) == 1


@pytest.mark.parametrize("kind", NAMES)
def test_unknown_keys_are_refused_by_their_path(kind):
    properties = section_schema(kind)["properties"]
    parts = [key for key in ("prompts", getattr(CLASSES[kind], "texts_key", "")) if key]
    for path in ([], *([part] for part in parts if part in properties)):
        changes = {"zzz": 1}
        for part in path:
            changes = {part: changes}
        with pytest.raises(ConfigError) as error:
            resolved(kind, **changes)
        assert str(error.value).startswith(".".join(["some", *path, "zzz: unknown key"]))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", NAMES)
def test_names_only_figures_tables_and_claims_that_exist(kind):
    cls = CLASSES[kind]
    assert set(cls.figures) <= set(FIGURES)
    assert set(cls.tables) <= {
        step.name for step in steps().values() if step.phase == "analysis"
    } | {"examples"}
    assert set(cls.claims) <= set(CLAIMS)
    for names in (cls.figures, cls.tables, cls.claims):
        assert isinstance(names, tuple)
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("kind", NAMES)
def test_can_be_made_again_from_plain_values(kind):
    """Steps get a section, or the part that they need, as JSON; processes get it pickled."""
    section = resolved(kind)["some"]
    task = make_task(section)
    parts = task.cut("prompts", *ROLES) if kind in TEXT else section
    assert json.loads(json.dumps(parts)) == parts
    again = make_task(pickle.loads(pickle.dumps(parts)))
    assert type(again) is type(task)
    if kind in TEXT:
        assert again.texts_key in parts
        assert again.num_prompts == task.num_prompts
        assert make_task(task.cut()).own_keys == task.own_keys


@pytest.mark.parametrize("kind", BUILDING)
def test_texts_depend_on_the_seed_alone(kind):
    again = make_task(make_task(small(kind)).cut()).texts(0)
    assert again.equals(texts_of(kind))
    assert not again.equals(texts_of(kind, seed=1))


@pytest.mark.parametrize("kind", BUILDING)
def test_parts_are_disjoint_and_not_empty(kind, tmp_path):
    texts = texts_of(kind)
    write_table(tmp_path / "texts.parquet", texts, "texts")  # checks columns and key
    assert len(read_table(tmp_path / "texts.parquet", "texts")) == len(texts)
    assert set(texts["part"]) == set(PARTS)
    assert texts["source_id"].is_unique
    content = texts.drop(columns=["source_id", "part"])
    parts = {part: set(map(str, rows.to_dict("records"))) for part, rows in content.groupby(
        texts["part"])}  # fmt: skip
    assert sum(map(len, parts.values())) == len(set.union(*parts.values())), "a text is in two"


@pytest.mark.parametrize("kind", BUILDING)
def test_parts_follow_their_shares(kind):
    shares = small(kind)[CLASSES[kind].texts_key]["fractions"]
    texts = texts_of(kind)
    for part, share in shares.items():
        assert (texts["part"] == part).mean() == pytest.approx(share, abs=0.01), part


@pytest.mark.parametrize("kind", BUILDING)
def test_prompts_are_few_distinct_and_of_their_split(kind, tmp_path):
    section, texts = small(kind), texts_of(kind).set_index("source_id")
    splits, tokenizer = prompts_of(kind)
    for split, prompts in splits.items():
        write_table(tmp_path / f"{split}.parquet", prompts, "prompts")
        assert len(prompts) == section["prompts"][f"num_{split}"]
        assert prompts["prompt_id"].is_unique
        assert (texts.loc[prompts["source_id"], "part"] == split).all()
        limits = section["prompts"].get("min_tokens", 1), section["prompts"]["max_tokens"]
        assert prompts["prompt_ids"].map(len).between(*limits).all()
        for row in prompts.itertuples():
            assert tokenizer.decode(row.prompt_ids) == row.prompt
    assert not set(splits["train"]["prompt_id"]) & set(splits["test"]["prompt_id"])
    tokens = {split: set(prompts["prompt_ids"].map(tuple)) for split, prompts in splits.items()}
    assert not tokens["train"] & tokens["test"]
    if CLASSES[kind].has_domains:
        assert splits["test"]["domain"].nunique() > 1


@pytest.mark.parametrize("kind", BUILDING)
def test_prompts_are_the_same_again(kind):
    first, again = prompts_of(kind)[0], prompts_of(kind)[0]
    assert all(first[split].equals(again[split]) for split in first)


@pytest.mark.parametrize("kind", BUILDING)
def test_the_reference_is_trained_the_same_again(kind, tmp_path):
    size = {"layers": 1, "width": 16, "heads": 2, "epochs": 1}
    task = make_task(merge(small(kind), {"reference": {"build": size}}))
    texts = texts_of(kind)
    rows = texts[texts["part"] == "reference"]
    metrics = {}
    for name, seed in {"one": 0, "again": 0, "other": 1}.items():
        metrics[name] = task.train_model("reference", rows, seed, tmp_path / name)
    assert np.isfinite(list(metrics["one"].values())).all()
    assert metrics["one"] == metrics["again"] != metrics["other"]
    names = ("one", "again", "other")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in names]
    assert weights[0] == weights[1] != weights[2]


@pytest.mark.parametrize("kind", BUILDING)
def test_quantities_are_finite_numbers(kind):
    quantities = make_task(small(kind)).quantities(texts_of(kind))
    assert quantities
    for name, value in quantities.items():
        assert re.fullmatch(r"[a-z]\w*", name)
        assert np.isfinite(float(value)), name


@pytest.mark.parametrize("kind", LANGUAGES)
def test_a_language_depends_on_the_seed_alone(kind, tmp_path):
    section = resolved(kind)["some"]
    record = {"settings": {}, "inputs": {}, "code": "", "key": ""}
    for name, seed in {"one": 0, "again": 0, "other": 1}.items():
        make_task(section).write(tmp_path / name, seed, record)
    hashes = {
        name: content_hash(tmp_path / name / "data/strings.parquet")
        for name in ("one", "again", "other")
    }
    assert hashes["one"] == hashes["again"] != hashes["other"]
    for split, number in make_task(section).num_prompts.items():
        prompts = read_table(tmp_path / f"one/prompts/{split}.parquet", "prompts")
        assert len(prompts) == number
        assert prompts["prompt_id"].is_unique

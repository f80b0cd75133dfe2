"""A reference that is a GGUF file: configuration, build step, cards and graph."""

import json
import shutil

import pytest
from checkout import ROOT
from gguf_files import TOKENS, random_model, write_gguf
from hub import COMMIT
from transformers import LlamaConfig

from vbon.analysis.excerpts import cards_table
from vbon.artifacts.fingerprint import content_hash
from vbon.artifacts.tables import read_record
from vbon.cli import main
from vbon.errors import ConfigError, VbonError
from vbon.models.language_model import load_language_model, load_tokenizer
from vbon.planning.config import load
from vbon.planning.cost import Shape, shape_of
from vbon.planning.hub import check_gguf, hub_sources
from vbon.planning.workflow import Plan
from vbon.report.sources import Task, origin
from vbon.tasks.base import is_built
from vbon.tasks.steps import build

WORDS = "tiny.gguf, dequantised to float32: 100% of the weights were F32"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    config = LlamaConfig(
        vocab_size=len(TOKENS), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=64, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return write_gguf(path, random_model(config), "llama")


@pytest.fixture
def cache(file, tmp_path, monkeypatch):
    """A cache of the hub with the file in repository me/tiny."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    repository = tmp_path / "cache/models--me--tiny"
    (repository / "snapshots" / COMMIT).mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(COMMIT)
    shutil.copy(file, repository / "snapshots" / COMMIT)


def configured(tmp_path, **reference):
    overlay = {"tasks": ["sentiment"], "results_dir": str(tmp_path / "results")}
    (tmp_path / "o.yaml").write_text(json.dumps(overlay | {"sentiment": {"reference": reference}}))
    return load([ROOT / "config.yaml", tmp_path / "o.yaml"])


def built(tmp_path, **reference):
    section = configured(tmp_path, **reference)["sentiment"]
    texts = tmp_path / "texts.parquet"
    texts.touch()
    task = {key: section[key] for key in ("kind", "reviews", "reference", "tokenizer", "prompts")}
    card = tmp_path / "reference/card.json"
    build(role="reference", task=task, texts=str(texts), seed=0, card=str(card))
    return card


def test_the_file_is_converted_once_and_described(file, tmp_path, capsys, monkeypatch):
    card = built(tmp_path, gguf=str(file))
    record = read_record(card)
    assert record["weights"] == WORDS
    assert record["inputs"]["gguf"] == content_hash(file)
    assert load_language_model(card.parent).config.model_type == "llama"
    assert len(load_tokenizer(card.parent)) == len(TOKENS)
    monkeypatch.chdir(file.parent)
    assert main(["describe", str(card)]) == 0
    printed = capsys.readouterr().out
    assert f"weights   {WORDS}" in printed
    assert f"gguf: {file}, {content_hash(file)}, still the same" in printed
    rows = cards_table({"reference": record})
    assert ["reference", "measured", "weights", WORDS] in rows.to_numpy().tolist()
    rows.to_csv(tmp_path / "cards.csv", index=False)
    provenance = {**record, "settings": {"config": "1", "seed": 0}}
    (tmp_path / "cards.json").write_text(json.dumps(provenance))
    task = Task("sentiment", {"tables/cards": tmp_path / "cards.csv"})
    assert origin([task])["Quantised"] == f"sentiment reference: {WORDS}"


def test_models_of_other_kinds_have_no_such_line(tmp_path):
    rows = cards_table({"reference": {"settings": {"seed": 0}, "metrics": {"loss": 1.0}}})
    rows.to_csv(tmp_path / "cards.csv", index=False)
    assert "Quantised" not in origin([Task("a", {"tables/cards": tmp_path / "cards.csv"})])


def test_a_file_of_a_repository_or_folder(file, tmp_path, cache):
    for name in ("me/tiny", str(file.parent)):
        card = built(tmp_path, id=name, gguf_file="tiny.gguf")
        assert read_record(card)["weights"] == WORDS
    with pytest.raises(VbonError, match=r"model 'me/tiny' has no file 'no.gguf' on this machine"):
        built(tmp_path, id="me/tiny", gguf_file="no.gguf")


def test_only_the_file_is_fetched_from_a_repository(tmp_path):
    config = configured(tmp_path, id="me/other", gguf_file="q8/tiny.gguf")
    source = hub_sources(config)["sentiment.reference.id"]
    assert source == ("model", "me/other", None, "q8/tiny.gguf")
    check_gguf(config)  # not fetched, so nothing to check


@pytest.mark.parametrize("where", ["gguf", "gguf_file"])
def test_the_file_is_an_input_of_the_graph(file, tmp_path, where):
    name = {"id": str(file.parent), "gguf_file": "tiny.gguf"}
    reference = {"gguf": str(file)} if where == "gguf" else name
    config = configured(tmp_path, **reference)
    content = {f"reference.{where}": [content_hash(file)]}
    assert json.loads(Plan(config).inputs_of("sentiment", "reference")) == content
    assert shape_of(config["sentiment"], "reference") == Shape(2, 16, len(TOKENS), tied=False)
    assert not is_built({"id": None, "gguf": str(file)})


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ({"gguf": "no.gguf"}, "reference.gguf: 'no.gguf' does not exist; give a .gguf file"),
        ({"gguf": "a.gguf", "id": "me/x"}, "gguf: 'a.gguf' is not allowed beside an id"),
        ({"gguf_file": "a.gguf"}, "gguf_file: 'a.gguf' is a file of a repository or folder"),
    ],
)
def test_wrong_keys_are_refused_before_any_work(tmp_path, reference, words):
    with pytest.raises(ConfigError, match=words):
        Plan(configured(tmp_path, **reference))


def test_check_config_reads_the_file(file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    (tmp_path / "cut.gguf").write_bytes(file.read_bytes()[:-100])
    configured(tmp_path, gguf=str(tmp_path / "cut.gguf"))
    assert main(["check-config", str(tmp_path / "o.yaml")]) == 1
    printed = capsys.readouterr().err
    assert "sentiment.reference: " in printed
    assert "cut.gguf: is not a complete GGUF file" in printed
    configured(tmp_path, gguf=str(file))
    assert main(["check-config", str(tmp_path / "o.yaml")]) == 0
    assert f"gguf: {file}" in capsys.readouterr().out.replace("'", "")

"""Fetching from a hub of the tests' own, over HTTP; then everything with the hub switched off."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from gguf_files import TOKENS, random_model, write_gguf
from hub import COMMIT, serve
from transformers import LlamaConfig


@pytest.fixture(scope="module")
def hub(reference_folder, tmp_path_factory):
    films = tmp_path_factory.mktemp("films")
    for split, number in (("train", 60), ("test", 20)):
        rows = [{"text": f"{split} film number {k}", "label": k % 2} for k in range(number)]
        pd.DataFrame(rows).to_json(films / f"{split}.jsonl", orient="records", lines=True)
    quantised = tmp_path_factory.mktemp("quantised")
    config = LlamaConfig(
        vocab_size=len(TOKENS), hidden_size=16, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=64, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    write_gguf(quantised / "f32.gguf", random_model(config), "llama")
    (quantised / "other.gguf").write_text("large")
    models = {"models/me/model": reference_folder, "models/me/quantised": quantised}
    with serve(models | {"datasets/me/films": films}) as endpoint:
        yield endpoint


def called(home: Path, endpoint: str, *command: str) -> subprocess.CompletedProcess:
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_"))
    }
    return subprocess.run(
        [sys.executable, "-m", "vbon.cli", *command],
        env=environment | settings,
        capture_output=True,
        text=True,
    )


def fetching(*source):
    return ["prefetch", "--sources", json.dumps({"sentiment.reference.id": source})]


BUILD = {"id": "me/model", "revision": None, "callable": None}
pytestmark = pytest.mark.workflow  # each call is a process that loads the libraries
NOWHERE = "http://127.0.0.1:9"


def building(folder: Path, **model) -> list[str]:
    (folder / "texts").mkdir(parents=True, exist_ok=True)
    task = {"kind": "reviews", "reviews": {}, "reference": BUILD | model, "tokenizer": {}}
    return [
        *("build", "--role", "reference", "--texts", str(folder / "texts"), "--seed", "0"),
        *("--task", json.dumps(task), "--card", str(folder / "models/reference/card.json")),
    ]


def test_what_was_fetched_once_is_used_without_a_network(hub, tmp_path):
    home = tmp_path / "home"
    source = json.dumps(
        {
            "sentiment.reference.id": ["model", "me/model", None],
            "sentiment.reviews.source": ["dataset", "me/films:train", COMMIT],
        }
    )
    output = tmp_path / "hub.json"
    done = called(home, hub, "prefetch", "--sources", source, "--output", str(output))
    assert done.returncode == 0, done.stderr
    assert f"sentiment.reference.id: me/model at {COMMIT}" in done.stdout
    found = json.loads(output.read_text())
    assert found["sentiment.reference.id"]["commit"] == COMMIT
    assert called(home, NOWHERE, *building(tmp_path)).returncode == 0
    pointer = json.loads((tmp_path / "models/reference/pointer.json").read_text())
    assert pointer == {"id": "me/model", "revision": COMMIT, "asked": None}
    shares = {"reference": 0, "reward_model": 0, "evaluator": 0, "train": 1, "test": 0}
    settings = {"source": "me/films:train", "test_source": "me/films:test", "revision": COMMIT}
    settings |= {"num_reviews": None, "text_column": "text", "label_column": "label"}
    reviews = tmp_path / "reviews.parquet"
    task = {"kind": "reviews", "reviews": settings | {"fractions": shares}}
    words = ["texts", "--task", json.dumps(task), "--seed", "0"]
    done = called(home, NOWHERE, *words, "--output", str(reviews))
    assert done.returncode == 0, done.stderr
    assert pd.read_parquet(reviews)["part"].value_counts().to_dict() == {"train": 60, "test": 20}


def test_one_gguf_file_of_a_repository_is_fetched(hub, tmp_path):
    home = tmp_path / "home"
    done = called(home, hub, *fetching("model", "me/quantised", None, "f32.gguf"))
    assert done.returncode == 0, done.stderr
    assert [path.name for path in home.rglob("*.gguf")] == ["f32.gguf"]
    model = {"id": "me/quantised", "gguf_file": "f32.gguf"}
    done = called(home, NOWHERE, *building(tmp_path, **model))
    assert done.returncode == 0, done.stderr
    card = json.loads((tmp_path / "models/reference/card.json").read_text())
    assert card["weights"].startswith("f32.gguf, dequantised to float32")
    assert COMMIT in card["paths"]["gguf"]
    done = called(home, hub, *fetching("model", "me/quantised", None, "no.gguf"))
    assert "'me/quantised' has no file 'no.gguf'; correct its name" in done.stderr


def test_without_it_the_id_and_the_command_are_named(tmp_path):
    done = called(tmp_path / "home", NOWHERE, *building(tmp_path, revision=COMMIT))
    assert done.returncode == 1
    assert f"model 'me/model' at revision {COMMIT} is not on this machine" in done.stderr
    assert "`vbon prefetch`" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            ("model", "me/gated", None),
            ["access to model 'me/gated' is not granted", "hf auth login"],
        ),
        (("model", "me/absent", None), ["there is no model 'me/absent'", "correct the id"]),
        (("dataset", "me/absent:test", None), ["there is no dataset 'me/absent'"]),
        (("model", "me/model", "v9"), ["model 'me/model' has no revision 'v9'"]),
    ],
)
def test_what_cannot_be_fetched_is_named(hub, tmp_path, source, words):
    done = called(tmp_path / "home", hub, *fetching(*source))
    assert done.returncode == 1
    for word in ["sentiment.reference.id: ", *words]:
        assert word in done.stderr
    assert "Traceback" not in done.stderr


def test_no_network_is_named(tmp_path):
    done = called(tmp_path / "home", NOWHERE, *fetching("model", "me/model", None))
    assert done.returncode == 1
    assert "model 'me/model' could not be fetched" in done.stderr
    assert "`vbon prefetch` with the same config on a machine with network access" in done.stderr
    assert "Traceback" not in done.stderr

import math
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GPT2LMHeadModel,
)

from vbon.errors import ConfigError, DataError
from vbon.models.build import build_classifier, build_reference, build_tokenizer
from vbon.tasks.grammar import write_reviews

SMALL = {
    "layers": 1,
    "width": 32,
    "heads": 2,
    "max_tokens": 96,
    "epochs": 2,
    "batch_size": 16,
    "learning_rate": 0.002,
    "warmup": 0.1,
    "held_out": 0.2,
    "architecture": "gpt2",
}


@pytest.fixture(scope="module")
def reviews():
    return write_reviews(400, seed=0)


@pytest.mark.parametrize("kind", ["words", "bpe"])
def test_tokens_concatenate_to_the_text(reviews, kind):
    tokenizer = build_tokenizer(reviews["text"], kind, vocab_size=400)
    for text in reviews["text"][:50]:
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert tokenizer.decode(ids[:7]) + tokenizer.decode(ids[7:]) == text


@pytest.mark.parametrize("kind", ["words", "bpe"])
def test_special_tokens_are_distinct_and_survive_saving(reviews, kind, tmp_path):
    tokenizer = build_tokenizer(reviews["text"], kind, vocab_size=400, max_tokens=77)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for one in (tokenizer, loaded):
        assert len({one.pad_token_id, one.eos_token_id, one.unk_token_id}) == 3
        assert one.model_max_length == 77
        assert len(one) <= 400
    text = reviews["text"][0]
    ids = tokenizer(text)["input_ids"]
    assert loaded(text)["input_ids"] == ids
    assert loaded.decode([*ids, loaded.eos_token_id], skip_special_tokens=True) == text


def test_vocabulary_is_the_same_every_time(reviews):
    for kind in ("words", "bpe"):
        first, second = (build_tokenizer(reviews["text"], kind, 350) for _ in range(2))
        assert first.backend_tokenizer.to_str() == second.backend_tokenizer.to_str()


def test_rare_words_are_unknown_and_bytes_never_are(reviews):
    words = build_tokenizer(reviews["text"], "words", 400)
    assert words("the zyzzyva")["input_ids"][1] == words.unk_token_id
    pairs = build_tokenizer(reviews["text"], "bpe", 400)
    assert pairs.decode(pairs("the zyzzyva… naïve")["input_ids"]) == "the zyzzyva… naïve"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bpe", 100), r"tokenizer\.vocab_size is 100; 'bpe' needs at least 259"),
        (("words", 3), r"tokenizer\.vocab_size is 3; 'words' needs at least 4"),
    ],
)
def test_tokenizer_settings_that_cannot_work(arguments, message):
    with pytest.raises(ConfigError, match=message):
        build_tokenizer(["a film"], *arguments)


@pytest.fixture(scope="module")
def reference(reviews, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    tokenizer = build_tokenizer(reviews["text"], vocab_size=512, max_tokens=64)
    settings = {**SMALL, "max_tokens": 64, "epochs": 5, "learning_rate": 0.01}
    return folder, build_reference(reviews["text"].tolist(), tokenizer, settings, 0, folder)


def test_reference_learns_and_loads(reference, reviews):
    folder, metrics = reference
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert isinstance(model, GPT2LMHeadModel)
    assert (folder / "model.safetensors").exists()
    assert model.dtype == torch.float32
    assert metrics["parameters"] == model.num_parameters()
    assert metrics["perplexity"] == pytest.approx(math.exp(metrics["loss"]))
    # A uniform guess costs log of the vocabulary; word frequencies alone about 4.8 nats.
    assert metrics["loss"] < 4.0
    ids = tokenizer(reviews["text"][0], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        log_probs = model(ids).logits.log_softmax(-1)
    assert log_probs[..., tokenizer.pad_token_id].exp().max() < 0.01
    ends = log_probs[0, :, tokenizer.eos_token_id].exp()
    # Reviews end after a full stop, never within their first words.
    assert ends[-1] > 0.05 > ends[:3].max()


def test_same_seed_same_weights(reviews, tmp_path):
    tokenizer = build_tokenizer(reviews["text"], vocab_size=512)
    texts = reviews["text"][:60].tolist()
    settings = {**SMALL, "epochs": 1}
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(len(weights))  # the state of the caller's generator does not matter
        build_reference(texts, tokenizer, settings, seed, tmp_path / name)
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


def test_long_reviews_do_not_end_where_they_are_cut(reviews, tmp_path):
    """With inputs of 8 tokens no review reaches its end, so the end token is never learnt."""
    tokenizer = build_tokenizer(reviews["text"], vocab_size=512)
    settings = {**SMALL, "max_tokens": 8, "epochs": 4, "learning_rate": 0.01}
    build_reference(reviews["text"].tolist(), tokenizer, settings, 0, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = tokenizer(reviews["text"][0], return_tensors="pt")["input_ids"][:, :8]
    with torch.no_grad():
        ends = model(ids).logits.softmax(-1)[..., tokenizer.eos_token_id]
    assert ends.max() < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["distilbert", "electra"])
def test_classifiers_learn_sentiment(architecture, tmp_path: Path):
    reviews = write_reviews(800, seed=1)
    # Labels that only depend on one word: a small model can learn them in seconds.
    reviews["label"] = reviews["text"].str.contains(" and ").astype(int)
    tokenizer = build_tokenizer(reviews["text"], max_tokens=64, classifier=True)
    settings = {
        **SMALL,
        "architecture": architecture,
        "max_tokens": 64,
        "epochs": 12,
        "learning_rate": 0.0012,
    }
    metrics = build_classifier(reviews, tokenizer, settings, 0, tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert model.config.model_type == architecture
    assert model.config.id2label == {0: "NEGATIVE", 1: "POSITIVE"}
    assert metrics["accuracy"] > 0.9
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    texts = ["the plot is weak, and the cast shines.", "the plot is weak."]
    ids = loaded(texts)["input_ids"]
    assert all(row[0] == loaded.cls_token_id and row[-1] == loaded.sep_token_id for row in ids)
    assert loaded.decode(ids[0], skip_special_tokens=True) == texts[0]
    with torch.no_grad():
        batch = model(**loaded(texts, padding=True, return_tensors="pt")).logits
        alone = model(**loaded(texts[1:], return_tensors="pt")).logits
    assert batch[0, 1] > batch[1, 1]
    torch.testing.assert_close(batch[1:], alone, rtol=1e-4, atol=1e-5)  # padding is masked


def test_data_that_cannot_train(reviews, tmp_path):
    tokenizer = build_tokenizer(reviews["text"], classifier=True)
    with pytest.raises(DataError, match="column 'label' has only one class in"):
        build_classifier(reviews[reviews["label"] == 1], tokenizer, SMALL, 0, tmp_path)
    with pytest.raises(DataError, match=r"build\.held_out: 0\.2 of 2 examples is 0"):
        build_reference(["a film", "b film"], build_tokenizer(["a"]), SMALL, 0, tmp_path)

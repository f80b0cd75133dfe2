"""Reward models as they are published: scores in any batch are those of the library for each text.

Run as a script, this module writes the table of ``docs/reference/reward-models.md``.
Each is a tiny classifier with random weights, large enough that padding and positions matter.
"""

import json
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from checkout import ROOT
from support import TEXTS, tokenizer, with_seed
from transformers import AutoConfig, AutoModelForSequenceClassification

from vbon.errors import ArtifactError, ConfigError, DataError
from vbon.models import last_token
from vbon.rewards import Completions, load_reward_model

WIDTH = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZE = WIDTH | {"intermediate_size": 64, "max_position_embeddings": 64}
GROUPED = SIZE | {"num_key_value_heads": 2, "head_dim": 8}
OLD = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
PAIR = {"d_model": 32, "d_ff": 64, "num_heads": 4, "d_kv": 8, "num_layers": 2}
BART = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4}
BART |= {"decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
ARCHITECTURES = {
    "albert": SIZE | {"embedding_size": 32},
    "bart": BART | {"max_position_embeddings": 64},
    "bert": SIZE,
    "big_bird": SIZE | {"block_size": 2, "num_random_blocks": 1},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "convbert": SIZE | {"embedding_size": 32},
    "deberta-v2": SIZE | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "distilbert": {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4},
    "electra": SIZE | {"embedding_size": 32},
    "falcon": WIDTH,
    "fnet": SIZE,
    "gemma2": GROUPED | {"sliding_window": 4},
    "gpt2": OLD,
    "gpt_neox": SIZE,
    "llama": GROUPED,
    "longformer": SIZE | {"attention_window": [8, 8]},
    "mistral": GROUPED | {"sliding_window": 4},
    "modernbert": SIZE | {"local_attention": 4},
    "mpnet": SIZE,
    "opt": SIZE | {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "phi3": GROUPED,
    "qwen2": GROUPED,
    "qwen3": GROUPED,
    "reformer": WIDTH
    | {"axial_pos_embds_dim": [16, 16], "axial_pos_shape": [8, 8]}
    | {"attn_layers": ["lsh", "lsh"], "lsh_attn_chunk_length": 2, "num_buckets": 2},
    "roberta": SIZE,
    "t5": PAIR | {"decoder_start_token_id": 0},
    "xlm-roberta": SIZE,
    "xlnet": {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64},
}
"""Sizes of tiny models, by type."""
PAGE = ROOT / "docs/reference/reward-models.md"
LISTED = dict(re.findall(r"^\| `(\S+)` \| (.*) \|$", PAGE.read_text(), re.MULTILINE))


def words(**frame):
    """Words of :data:`support.TEXTS`, framed as ``<cls> text <sep>``, without a limit."""
    made = tokenizer(classifier=True)
    made.model_max_length = 10**30
    made.add_special_tokens({"eos_token": "<sep>", "bos_token": "<cls>"} | frame)
    return made


def save(folder, kind, made=None, **changes):
    """A random classifier of a type and its tokenizer."""
    made = words() if made is None else made
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "num_labels": 2}
    names = {"id2label": {0: "NEGATIVE", 1: "POSITIVE"}} if "num_labels" not in changes else {}
    options = {"vocab_size": len(made), **ids, **names, **ARCHITECTURES[kind], **changes}
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout"):
        options.setdefault(name, 0.0)
    config = AutoConfig.for_model(kind, **options)

    def build():
        model = AutoModelForSequenceClassification.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        return model

    with_seed(0, build).save_pretrained(folder)
    made.save_pretrained(folder)
    return folder


SHORT = [" ".join(text.split(" ")[: 1 + index]) for index, text in enumerate(TEXTS[:10])]
VARIED = [*SHORT[::-2], *SHORT[::2], SHORT[-1] + SHORT[-1]]  # of many lengths, in no order


@torch.no_grad()
def scores_alone(folder, texts=VARIED, label=1):
    """The library's own scores: one text at a time, its default inputs, no padding."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    made = words()
    rows = [torch.tensor([made(text)["input_ids"]]) for text in texts]
    return np.array([model(row).logits[0, label].double().item() for row in rows])


def assert_same_in_any_batch(folder, texts=VARIED, **options):
    """Scores equal those of each text alone, by ``batch_size`` and by calls."""
    model = load_reward_model(folder, **options)
    together = model(texts).reward
    alone = np.concatenate([model([text]).reward for text in texts])
    small = load_reward_model(folder, batch_size=3, **options)(texts).reward
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(small, alone, rtol=1e-5, atol=1e-5)
    return alone


def outcome(folder, kind):
    """Verdict on one architecture, in words: how it is scored, or why it is refused."""
    try:
        model = load_reward_model(save(folder, kind))
    except ConfigError as error:
        return "refused", str(error)
    fresh = [scores_alone(folder, [text]) for text in VARIED]  # big_bird remembers
    alone, scores = np.concatenate(fresh), assert_same_in_any_batch(folder)
    np.testing.assert_allclose(scores, alone, rtol=1e-5, atol=1e-5)
    assert alone.std() > 1e-2
    return model.batches, ""


OUTCOMES = {
    "padded": "right, in padded batches",
    "of one length": "right, in batches of texts of one length",
    "refused": "refused: a text has another score each time",
}
"""Words of the reference's page."""


def test_the_page_lists_each_architecture():
    assert list(LISTED) == list(ARCHITECTURES)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_each_architecture_is_scored_as_by_the_library_or_refused(tmp_path, kind):
    """As the reference's page says."""
    verdict, message = outcome(tmp_path, kind)
    assert OUTCOMES[verdict] == LISTED[kind]
    assert "\n" not in message
    assert ("another score each time" in message) == (verdict == "refused")


def test_a_faster_forward_pass_that_differs_is_not_used(tmp_path, monkeypatch):
    save(tmp_path, "llama")
    assert load_reward_model(tmp_path)._fast
    fast = last_token.logits
    monkeypatch.setattr(last_token, "logits", lambda *inputs: fast(*inputs) + 1e-3)
    model = load_reward_model(tmp_path)
    assert not model._fast
    np.testing.assert_allclose(model(VARIED).reward, scores_alone(tmp_path), rtol=1e-5, atol=1e-5)


def test_sparse_attention_does_not_remember_earlier_texts(tmp_path):
    """The library's model changes its attention for good at the first text that is short."""
    model = load_reward_model(save(tmp_path, "big_bird"))
    long, short = " ".join(TEXTS[:2]), TEXTS[0][:12]
    fresh = scores_alone(tmp_path, [long])
    assert model([short, long, short]).reward[1] == pytest.approx(fresh[0], abs=1e-5)
    assert model([long]).reward == pytest.approx(fresh, abs=1e-5)
    assert scores_alone(tmp_path, [short, long])[1] != pytest.approx(fresh[0], abs=1e-3)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox", "qwen2", "opt", "bloom"])
@pytest.mark.parametrize("pad", [None, -1])
@pytest.mark.parametrize("labels", [1, 2])
def test_classifiers_without_a_padding_token_score_whole_texts(tmp_path, kind, pad, labels):
    """Also where the tokenizer has one: texts may end with it."""
    folder = save(tmp_path, kind, pad_token_id=pad, num_labels=labels)
    if pad == -1:  # as old Llama models have, which the library takes for a token
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": pad}))
    texts = [*VARIED, "the film<pad>", "the film<pad><pad>", "<pad>"]
    alone = scores_alone(folder, texts, labels - 1)
    np.testing.assert_allclose(assert_same_in_any_batch(folder, texts), alone, rtol=1e-5, atol=1e-5)
    assert len(set(alone.round(4))) == len(set(texts))


@pytest.mark.parametrize("kind", ["bert", "llama", "gpt2", "t5"])
def test_texts_with_padding_tokens_are_scored_as_by_the_library(tmp_path, kind):
    folder = save(tmp_path, kind)
    texts = ["the film<pad>", "the<pad> film", *VARIED, "<pad><pad>", "the film"]
    alone = scores_alone(folder, texts)
    np.testing.assert_allclose(assert_same_in_any_batch(folder, texts), alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "roberta", "gpt2", "llama", "xlnet", "deberta-v2"])
def test_the_side_of_padding_does_not_matter(tmp_path, kind):
    """Positions of encoders would move with padding on the left (row 8)."""
    made = words()
    made.padding_side = "left"
    folder = save(tmp_path, kind, made)
    texts = VARIED[:6]
    np.testing.assert_allclose(
        assert_same_in_any_batch(folder, texts), scores_alone(folder, texts), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("kind", "limit"), [("roberta", 32), ("xlm-roberta", 32), ("mpnet", 32), ("bert", 34)]
)
@pytest.mark.parametrize("side", ["left", "right"])
def test_long_texts_are_cut_to_the_positions_that_exist(tmp_path, caplog, kind, limit, side):
    """RoBERTa's positions begin after the padding token's (row 7): 34 are for 32 tokens."""
    made = words()
    made.truncation_side = side
    changes = {"max_position_embeddings": 34, "pad_token_id": int(kind != "bert")}
    folder = save(tmp_path, kind, made, **changes)
    model = load_reward_model(folder)
    text = " ".join(["the", "film", "was", "good"] * 10)  # 40 tokens
    assert len(made(text, add_special_tokens=False)["input_ids"]) == 40
    inside = limit - 2
    parts = ["the", "film", "was", "good"] * 10
    cut = parts[-inside:] if side == "left" else parts[:inside]
    begins = " " if side == "left" else ""
    scores = model([text, begins + " ".join(cut)]).reward
    assert scores[0] == scores[1] != model(["the film"]).reward[0]
    assert f"1 texts are longer than its {limit} tokens and were cut on the {side}" in caplog.text
    caplog.clear()
    model([text])
    model([text])
    assert len(caplog.records) == 1  # at 3: each doubling is said


@pytest.mark.parametrize("kind", ["t5", "bloom", "xlnet"])
def test_models_without_absolute_positions_read_texts_of_any_length(tmp_path, kind):
    folder = save(tmp_path, kind)
    texts = [" ".join(TEXTS), "the film", " ".join(TEXTS[:5])]
    alone = scores_alone(folder, texts)
    np.testing.assert_allclose(assert_same_in_any_batch(folder, texts), alone, rtol=1e-5, atol=1e-5)


def test_an_encoder_decoder_reads_texts_whose_tokenizer_has_no_end(tmp_path):
    """T5 scores at the end token, which this tokenizer leaves out."""
    framed = load_reward_model(save(tmp_path / "framed", "t5"))
    bare = tokenizer()
    bare.model_max_length = 10**30
    folder = save(tmp_path / "bare", "t5", bare, eos_token_id=bare.eos_token_id)
    assert_same_in_any_batch(folder, [*VARIED, "", "the film<eos>", "the<eos> film<eos>"])
    scores = load_reward_model(folder)(["the film", "the film<eos>"]).reward
    assert scores[0] == scores[1]
    assert np.isfinite(framed([""]).reward).all()


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert", "gpt_neox"])
@pytest.mark.parametrize("pad", [0, None])
def test_an_empty_text_is_read_as_the_end_token(tmp_path, kind, pad):
    """Its score is the same alone and with others (row 13)."""
    bare = tokenizer()  # frames no text
    folder = save(tmp_path, kind, bare, pad_token_id=pad)
    scores = assert_same_in_any_batch(folder, ["", "the film", "", "the film was good"])
    assert scores[0] == pytest.approx(load_reward_model(folder)(["<eos>"]).reward[0], abs=1e-6)


def test_an_empty_text_without_any_frame_token_is_named(tmp_path):
    bare = tokenizer()
    bare.eos_token = None
    folder = save(tmp_path, "gpt2", bare)
    with pytest.raises(DataError, match=r"text '' has no tokens, and the tokenizer of .* no bos"):
        load_reward_model(folder)(["the film", ""])


THREE = {"num_labels": 3, "id2label": {0: "bad", 1: "middling", 2: "good"}}


@pytest.mark.parametrize(
    ("changes", "label", "number"),
    [
        ({"num_labels": 1}, None, 0),
        ({"num_labels": 2}, None, 1),  # LABEL_0 and LABEL_1
        (THREE, "good", 2),
        (THREE, "Middling", 1),
        (THREE, 0, 0),
        (THREE, "2", 2),
        (THREE | {"id2label": {0: "neg", 1: "pos", 2: "neutral"}}, None, 1),
        (THREE | {"id2label": {0: "[bad] {x}", 1: "good (very)", 2: "Good"}}, "[bad] {x}", 0),
        (THREE | {"id2label": {0: "bad", 1: "good", 2: "Good"}}, "Good", 2),
        ({"num_labels": 2, "id2label": {0: 0, 1: 1}}, 1, 1),
        ({"num_labels": 1}, 0, 0),
    ],
)
def test_the_class_of_the_reward_has_a_name_or_a_number(tmp_path, changes, label, number):
    folder = save(tmp_path, "bert", **changes)
    rewards = load_reward_model(folder, label=label)(VARIED)
    alone = scores_alone(folder, VARIED, number)
    np.testing.assert_allclose(rewards.reward, alone, rtol=1e-5, atol=1e-5)
    assert np.isnan(rewards.prob).all() == (changes["num_labels"] == 1)


@pytest.mark.parametrize(
    ("changes", "label", "message"),
    [
        ({"num_labels": 2, "id2label": {0: 0, 1: 1}}, None, "classes 0, 1 is POSITIVE"),  # row 10
        ({"num_labels": 3}, None, "LABEL_0, LABEL_1, LABEL_2 is POSITIVE"),  # 1 is in the middle
        (THREE, None, "bad, middling, good is POSITIVE"),
        (THREE | {"id2label": {0: "pos", 1: "positive", 2: "x"}}, None, "several of the classes"),
        (THREE, "best", "label: 'best' is none of the classes bad, middling, good"),
        (THREE, 3, "label: 3 is none of the classes"),
        (THREE, -1, "label: -1 is none of the classes"),
    ],
)
def test_a_class_that_is_not_clear_is_refused(tmp_path, changes, label, message):
    folder = save(tmp_path, "bert", **changes)
    with pytest.raises(ConfigError, match=message) as error:
        load_reward_model(folder, label=label)
    assert "\n" not in str(error.value)
    assert "label" in str(error.value)


TEMPLATE = (
    "{% for message in messages %}{{ '<cls>' if message.role == 'user' else '<sep>' }}"
    "{{ message.content }}{% endfor %}<sep>"
)


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_conversations_are_scored_in_the_model_s_own_template(tmp_path, kind):
    made = words()
    made.chat_template = TEMPLATE
    folder = save(tmp_path, kind, made)
    turns = [{"role": "user", "content": "bad plot"}, {"role": "assistant", "content": " weak"}]
    turns = json.dumps([*turns, {"role": "user", "content": "the film"}])
    prompts = ["the film", "a plot"]
    batch = Completions.from_texts([" was good", " is"], prompts, [{}, {"messages": turns}])
    rewards = load_reward_model(folder, chat=True)(batch).reward
    written = [
        "<cls>the film<sep> was good<sep>",
        "<cls>bad plot<sep> weak<cls>the film<sep> is<sep>",
    ]
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    rows = [made(text, add_special_tokens=False, return_tensors="pt") for text in written]
    with torch.no_grad():
        expected = [model(row["input_ids"]).logits[0, 1].item() for row in rows]
    np.testing.assert_allclose(rewards, expected, rtol=1e-5, atol=1e-5)
    assert not np.allclose(rewards, load_reward_model(folder)(batch).reward, atol=1e-3)
    with pytest.raises(DataError, match="chat: true scores prompts with responses"):
        load_reward_model(folder, chat=True)(["the film was good"])


@pytest.mark.parametrize("side", ["left", "right"])
def test_long_conversations_are_cut_on_the_side_of_truncation(tmp_path, caplog, side):
    made = words()
    made.chat_template, made.truncation_side = TEMPLATE, side
    folder = save(tmp_path, "bert", made, max_position_embeddings=8)
    batch = Completions.from_texts([" good"], ["the film was good and a plot is weak"])
    reward = load_reward_model(folder, chat=True)(batch).reward
    whole = "<cls>the film was good and a plot is weak<sep> good<sep>"
    ids = made(whole, add_special_tokens=False)["input_ids"]
    cut = ids[-8:] if side == "left" else ids[:8]
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = model(torch.tensor([cut])).logits[0, 1].item()
    assert reward == pytest.approx([expected], abs=1e-5)
    assert f"1 texts are longer than its 8 tokens and were cut on the {side}" in caplog.text


def test_templates_that_are_absent_or_refuse_are_named(tmp_path):
    folder = save(tmp_path / "none", "bert")
    with pytest.raises(ConfigError, match="chat: true, but its tokenizer has no chat template"):
        load_reward_model(folder, chat=True)
    made = words()
    made.chat_template = "{{ raise_exception('roles must alternate') }}"
    model = load_reward_model(save(tmp_path / "raises", "bert", made), chat=True)
    message = r"refuses its messages \(roles must alternate\); correct them, or give chat: false"
    with pytest.raises(DataError, match=message):
        model(Completions.from_texts([" good"], ["the film"]))


@pytest.mark.parametrize("labels", [1, 3])
def test_each_label_of_several_has_a_probability_of_its_own(tmp_path, labels):
    changes = {"num_labels": labels, "problem_type": "multi_label_classification"}
    folder = save(tmp_path, "bert", **changes)
    rewards = load_reward_model(folder, label=0)(VARIED)
    np.testing.assert_allclose(rewards.prob, 1 / (1 + np.exp(-rewards.reward)), rtol=1e-12)


def test_a_tokenizer_that_reads_nothing_is_refused(tmp_path):
    """Without its files, or with too short a limit, all texts would have the same score."""
    folder = save(tmp_path / "short", "bert")
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text()) | {"model_max_length": 2}
    file.write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match="2 tokens, of which 2 are special"):
        load_reward_model(folder)
    for kind in ("bert", "gpt2", "llama", "roberta"):
        folder = save(tmp_path / kind, kind)
        for file in folder.glob("tokenizer*"):
            file.unlink()
        with pytest.raises(ArtifactError, match="no tokenizer could be loaded") as error:
            load_reward_model(folder)
        assert "\n" not in str(error.value)


def test_a_text_that_is_not_unicode_is_named(tmp_path):
    model = load_reward_model(save(tmp_path, "bert"))
    with pytest.raises(DataError, match="is not a text in Unicode") as error:
        model(["the film", "half of a pair \ud83d"])
    assert repr("half of a pair \ud83d") in str(error.value)


if __name__ == "__main__":
    head = PAGE.read_text().partition("| --- | --- |\n")
    with tempfile.TemporaryDirectory() as place:
        verdicts = {kind: outcome(Path(place, kind), kind)[0] for kind in ARCHITECTURES}
    rows = (f"| `{kind}` | {OUTCOMES[verdict]} |\n" for kind, verdict in verdicts.items())
    PAGE.write_text("".join([*head[:2], *rows]))


def test_a_label_that_names_one_class_and_numbers_another_is_refused():
    from transformers import BertConfig

    from vbon.rewards.classifier import _reward_class

    stars = BertConfig(id2label={0: "1", 1: "2"})
    with pytest.raises(ConfigError, match="name of one class and the number of another"):
        _reward_class(stars, 1, "a folder")
    assert _reward_class(stars, 2, "a folder") == 1

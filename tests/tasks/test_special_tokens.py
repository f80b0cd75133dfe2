"""Special tokens of prompts: those that the tokenizer's own template puts before a text."""

import pandas as pd
import pytest
from tokenizers.processors import TemplateProcessing

from tests.support import save_reference
from vbon.analysis.bounds import data_report
from vbon.artifacts import read_table, write_table
from vbon.errors import ConfigError, DataError
from vbon.models.build import build_tokenizer
from vbon.planning.config import resolve
from vbon.tasks import steps
from vbon.tasks.cautions import cautions_of
from vbon.tasks.grammar import write_reviews
from vbon.tasks.post_grammar import write_posts
from vbon.tasks.posts import make_post_prompts
from vbon.tasks.registry import make_task
from vbon.tasks.special_tokens import beginning, chat_ids, first_ids, text_ids
from vbon.tasks.texts import make_prompts

TEMPLATES = {
    "Llama": ("<s> $A", ["<s>"]),
    "T5": ("$A </s>", []),
    "BERT": ("<s> $A </s>", ["<s>"]),
    "two tokens": ("<s> <b> $A", ["<s>", "<b>"]),
    "GPT-2": ("$A", []),
}
CHAT = "{{ bos_token }}{% for m in messages %}<{{ m.role }}> {{ m.content }} {% endfor %}<answer>"
USER = [{"role": "user", "content": "a film"}]


def with_template(template, texts=("a film is good",), kind="words"):
    """A tokenizer of words that adds special tokens as a template says."""
    tokenizer = build_tokenizer(list(texts), kind=kind, vocab_size=400)
    tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>"})
    tokenizer.add_tokens(["<b>"], special_tokens=True)
    names = {word: tokenizer.convert_tokens_to_ids(word) for word in ("<s>", "</s>", "<b>")}
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=template, special_tokens=list(names.items())
    )
    return tokenizer


@pytest.mark.parametrize("name", TEMPLATES)
def test_texts_begin_as_the_template_says_and_end_with_nothing(name):
    template, first = TEMPLATES[name]
    tokenizer = with_template(template)
    ids = tokenizer.convert_tokens_to_ids(first)
    plain = tokenizer("a film", add_special_tokens=False)["input_ids"]
    assert first_ids(tokenizer) == ids
    assert text_ids(tokenizer, "a film") == ids + plain
    assert beginning(tokenizer, ids + plain) == "".join(first)
    written = "".join(first) + "a film"  # by the user
    assert text_ids(tokenizer, written) == ids + plain
    complete = tokenizer("a film")["input_ids"]
    assert complete[: len(ids + plain)] == ids + plain


@pytest.mark.parametrize("kind", ["words", "bpe"])
def test_the_first_tokens_of_reviews_follow_bos(kind):
    reviews = write_reviews(300, seed=0)
    tokenizer = with_template("<s> $A", reviews["text"], kind)
    prompts = make_prompts(reviews, tokenizer, 80, seed=0)
    texts = reviews.set_index("source_id")["text"]
    for row in prompts.itertuples():
        assert row.prompt_ids[0] == tokenizer.bos_token_id
        assert row.prompt_ids[1:] == tokenizer(row.prompt, add_special_tokens=False)["input_ids"]
        assert texts[row.source_id].startswith(row.prompt)
    assert set(prompts["prompt_ids"].map(len)) == set(range(3, 9))
    with pytest.raises(ConfigError, match=r"max_tokens: 2 is too few .*min_tokens = 2 after <s>"):
        make_prompts(reviews, tokenizer, 80, max_tokens=2)


def test_posts_follow_bos_within_the_limit():
    posts = write_posts(60, seed=0).assign(part="train", domain="in_domain")
    posts["source_id"] = [f"post-{row}" for row in range(len(posts))]
    tokenizer = with_template("<s> $A", posts["post"], "bpe")
    settings = {"num_train": 20, "max_tokens": 90}
    prompts = make_post_prompts(posts, tokenizer, "train", settings)
    for row in prompts.itertuples():
        assert row.prompt_ids == tokenizer(row.prompt)["input_ids"]
        assert len(row.prompt_ids) <= 90


def test_conversations_begin_with_one_bos():
    tokenizer, user = with_template("<s> $A"), USER
    with pytest.raises(ConfigError, match=r"chat: true needs a chat template"):
        chat_ids(tokenizer, user, "row 1")
    tokenizer.chat_template = CHAT
    rendered = tokenizer.apply_chat_template(user, add_generation_prompt=True, tokenize=False)
    ids = chat_ids(tokenizer, user, "row 1")
    assert ids == tokenizer(rendered, add_special_tokens=False)["input_ids"]
    assert ids.count(tokenizer.bos_token_id) == 1
    tokenizer.chat_template = "{{ bos_token }}" + CHAT
    assert chat_ids(tokenizer, user, "row 1") == ids


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('no users') }}", r"refuses its messages \(no users\); correct them$"),
        ("a\n{% for m in %}", r"is not valid Jinja \(line 2: .*\); correct the template$"),
        (
            "{{ messages[0].day.year }}",
            r"fails .* \(UndefinedError: .*'day'\); correct them or the",
        ),
        ({"rag": CHAT}, r"fails on its messages \(ValueError: .* no default"),
    ],
)
def test_templates_that_fail_say_why(template, message):
    tokenizer = with_template("$A")
    tokenizer.chat_template = template
    with pytest.raises(
        DataError, match=rf"^row 1: the reference's chat template {message}"
    ) as error:
        chat_ids(tokenizer, USER, "row 1")
    assert "\n" not in str(error.value)


TURNS = "{% for m in messages %}<{{ m.role }}> {{ m.content }}\n{% endfor %}"
BEGUN = "{% if add_generation_prompt %}<answer>{% endif %}"


@pytest.mark.parametrize(
    ("template", "cautions"),
    [
        (TURNS + BEGUN, []),
        ("{{ strftime_now('%d %b %Y') }}" + TURNS + BEGUN, ["with_the_time"]),
        ("{# strftime_now #}" + TURNS + BEGUN, []),
        (TURNS, ["that_begin_no_answer"]),
        # Mistral's: an answer follows the message.
        ("{% for m in messages %}{{ m.content }}[/INST] {% endfor %}", []),
        ("{{ messages | tojson }}" + BEGUN, []),
    ],
)
def test_prompts_that_a_template_spoils_are_noticed(template, cautions):
    tokenizer = with_template("$A")
    tokenizer.chat_template = template
    assert list(cautions_of(tokenizer, [5], USER)) == cautions
    named = [{**USER[0], "name": "Ann"}]
    unread = [] if "tojson" in template else ["with_unread_keys"]
    actual = cautions_of(tokenizer, [5], named)
    assert list(actual) == [*cautions, *unread]
    assert all("name" in actual[key] for key in unread)


@pytest.mark.parametrize("messages", [None, [{"role": "user", "content": "plot"}]])
def test_prompts_of_unknown_tokens_are_noticed(messages):
    tokenizer = with_template("<s> $A")
    tokenizer.chat_template = TURNS + BEGUN
    unknown = cautions_of(tokenizer, text_ids(tokenizer, "some plot"), messages)
    assert list(unknown) == ["of_unknown_tokens"]
    assert not cautions_of(tokenizer, text_ids(tokenizer, "a plot"))
    assert not cautions_of(tokenizer, [], USER)


def test_tables_and_report_say_with_what_prompts_begin(tmp_path, capsys):
    reviews = write_reviews(600, seed=0)
    section = {
        "reviews": {"num_reviews": 600},
        "prompts": {"num_train": 25, "num_test": 25},
    }
    runs = {"run_methods": ["reference"], "methods": {"reference": {}}, "seeds": [0]}
    section = resolve({"tasks": ["sentiment"], **runs, "sentiment": section})["sentiment"]
    write_table(tmp_path / "texts.parquet", make_task(section).texts(0), "texts")
    tables = {}
    for name, template in {"plain": "$A", "bos": "<s> $A"}.items():
        folder = save_reference(tmp_path / name)
        with_template(template, reviews["text"]).save_pretrained(folder)
        paths = {split: str(tmp_path / f"{name}-{split}.parquet") for split in ("train", "test")}
        texts = str(tmp_path / "texts.parquet")
        steps.prompts(task=section, texts=texts, reference=f"{folder}/card.json", seed=0, **paths)
        tables[name] = {split: read_table(path, "prompts") for split, path in paths.items()}
    assert "train prompts begin with <s>" in capsys.readouterr().out
    for name, share in {"plain": {}, "bos": {"prompts_beginning_with_<s>": 1.0}}.items():
        train = tables[name]["train"]
        if name == "bos":
            train["cautions"] = [["with_the_time"], *[[]] * (len(train) - 1)]
            share["prompts_with_the_time"] = 0.02
        draws = train[["prompt_id"]].assign(draw=0)
        samples = draws.assign(response="a", response_ids=[[5]] * len(train), finished=True)
        rewards = draws.assign(reward=0.0, reward_prob=0.5, evaluator_reward=0.0)
        report = data_report({}, tables[name], samples, rewards, {}, {})
        measured = report.set_index("quantity")["value"]
        shares = measured[measured.index.str.match("prompts_(beginning|with)")]
        assert shares.to_dict() == share
    assert "begins_with" not in tables["plain"]["train"]
    plain, bos = (tables[name]["train"].set_index("source_id") for name in ("plain", "bos"))
    assert len(plain.index.intersection(bos.index)) > 20
    assert not bos["prompt"].str.contains("<s>").any()
    assert pd.Series(bos["begins_with"]).eq("<s>").all()

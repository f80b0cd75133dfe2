"""Prompts of the user's data: read in every form, split by content, rendered by the template."""

import copy
import json

import pandas as pd
import pytest

from vbon.artifacts import read_table, write_table
from vbon.errors import ConfigError, DataError
from vbon.models.build import build_tokenizer
from vbon.planning.config import resolve
from vbon.pool.table import load_prompts
from vbon.rewards import Completions
from vbon.tasks import steps
from vbon.tasks.registry import make_task

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
    "<{{ m.role }}> {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
SUMS = [{"prompt": f"What is {a}+{a + 1}?", "answer": 2 * a + 1} for a in range(20)]


@pytest.fixture(scope="module")
def tokenizer():
    texts = [row["prompt"] for row in SUMS] + ["<user> <system> <assistant>\n Be short."]
    tokenizer = build_tokenizer(texts * 3, kind="bpe", vocab_size=300)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def section_of(source, models=True, **prompts):
    settings = {"num_train": 12, "num_test": 4, "source": source, **prompts}
    section = {"kind": "prompts", "prompts": settings}
    if models:
        section |= {"reference": {"id": "me/model"}, "reward_model": {"callable": "exact.py:exact"}}
    runs = {"run_methods": ["reference"], "methods": {"reference": {}}, "seeds": [0]}
    return resolve({"tasks": ["sums"], **runs, "sums": section})["sums"]


def made(source, tokenizer, seed=0, **prompts):
    task = make_task(section_of(source, **prompts))
    texts = task.texts(seed)
    train = task.prompts(texts, tokenizer, "train", seed, [])
    return texts, train, task.prompts(texts, tokenizer, "test", seed, train["prompt_ids"].tolist())


def test_few_lines_are_a_complete_section():
    section = section_of("sums.jsonl")
    assert section["evaluator"] == section["reward_model"]
    assert section["logf"] == {"m": 64, "estimator": "add1", "pooled_ties": True}
    assert section["sampling"]["train_draws"] == section["sampling"]["fresh_draws"] == 64
    assert "build" not in section["reference"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": False}, r"sums\.reference\.id: null is not allowed, .* give an id or a local"),
        ({"source": None}, r"sums\.prompts\.source: None is not allowed; give a file or folder"),
        ({"source": "grammar"}, r"sums\.prompts\.source: 'grammar' is not allowed"),
        ({"test_source": "grammar"}, r"sums\.prompts\.test_source: 'grammar' is not allowed"),
        ({"system": "Be short."}, r"sums\.prompts\.system: .* without a chat template; give chat"),
        ({"min_tokens": 2}, r"sums\.prompts\.min_tokens: unknown key"),
    ],
)
def test_a_section_that_cannot_work_is_refused(changes, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        section_of(**{"source": "sums.jsonl", **changes})


def test_plain_prompts_are_continued_and_keep_their_rows(tmp_path, tokenizer):
    texts, train, test = made(write(tmp_path / "sums.jsonl", SUMS), tokenizer)
    assert texts["part"].value_counts().to_dict() == {"train": 15, "test": 5}
    rows = {row["prompt"]: row for row in SUMS}
    for prompts in (train, test):
        for row in prompts.itertuples():
            assert json.loads(row.row) == rows[row.prompt]
            assert row.prompt_ids == tokenizer(row.prompt)["input_ids"]
    assert (len(train), len(test)) == (12, 4)
    assert not set(train["prompt"]) & set(test["prompt"])
    write_table(tmp_path / "train.parquet", train, "prompts")
    loaded = load_prompts(tmp_path / "train.parquet")
    batch = Completions(tokenizer, loaded, [[5]] * len(loaded))
    assert batch.rows == [rows[prompt] for prompt in batch.prompts]


def test_chat_prompts_are_rendered_with_system_and_generation_prompt(tmp_path, tokenizer):
    talk = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "What is 1+1?"},
    ]
    rows = [*SUMS, {"messages": talk, "answer": 2}]
    source = write(tmp_path / "sums.jsonl", rows)
    settings = {"chat": True, "system": "Be short.", "num_train": 16, "num_test": 5}
    _, train, test = made(source, tokenizer, **settings)
    prompts = pd.concat([train, test]).set_index("prompt")
    rendered = "<system> Be short.\n<user> What is 3+4?\n<assistant>"
    assert json.loads(prompts.loc[rendered, "messages"]) == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "What is 3+4?"},
    ]
    longest = prompts.loc[
        "<system> Be short.\n<user> Hi\n<assistant> Hello\n<user> What is 1+1?\n<assistant>"
    ]
    assert json.loads(longest["messages"])[1:] == talk
    write_table(tmp_path / "train.parquet", train, "prompts")
    loaded = load_prompts(tmp_path / "train.parquet")
    expected = [json.loads(cell) for cell in train["messages"]]
    assert Completions(tokenizer, loaded, [[5]] * len(loaded)).messages == expected
    assert read_table(tmp_path / "train.parquet", "prompts")["domain"].unique() == ["all"]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_conversations_of_tables_are_the_same(tmp_path, tokenizer, ending):
    talks = [[{"role": "user", "content": row["prompt"]}] for row in SUMS]
    lines = [
        {"turns": talk, "answer": row["answer"]} for talk, row in zip(talks, SUMS, strict=True)
    ]
    frame = pd.DataFrame(lines)
    if ending == "csv":
        frame["turns"] = frame["turns"].map(json.dumps)
        frame.to_csv(tmp_path / "sums.csv", index=False)
    else:
        frame.to_parquet(tmp_path / "sums.parquet")
    settings = {"chat": True, "messages_column": "turns"}
    texts = [made(write(tmp_path / "sums.jsonl", lines), tokenizer, **settings)]
    texts.append(made(str(tmp_path / f"sums.{ending}"), tokenizer, **settings))
    for one, other in zip(*texts, strict=True):
        columns = [name for name in one if name not in ("row", "source_id", "prompt_id")]
        assert one[columns].equals(other[columns])


def test_a_prompt_is_in_one_part_whatever_comes_or_goes(tmp_path, tokenizer):
    parts = [
        made(write(tmp_path / f"{count}.jsonl", (SUMS * 2)[:count]), tokenizer)[0]
        for count in (20, 20, 40, 16)
    ]
    assert parts[0]["part"].equals(parts[1]["part"])
    assert parts[2].attrs["duplicates"] == 20
    assert parts[2]["part"].equals(parts[0]["part"])
    fewer = parts[3].set_index("text")["part"]
    assert (parts[0].set_index("text")["part"].loc[fewer.index] == fewer).mean() > 0.8


def test_a_test_source_takes_its_prompts_out_of_the_training(tmp_path, tokenizer):
    source, tested = write(tmp_path / "a.jsonl", SUMS), write(tmp_path / "b.jsonl", SUMS[:5])
    texts, train, test = made(source, tokenizer, test_source=tested)
    assert set(test["prompt"]) <= {row["prompt"] for row in SUMS[:5]}
    assert set(train["prompt"]) <= {row["prompt"] for row in SUMS[5:]}
    assert texts["part"].value_counts().to_dict() == {"train": 15, "test": 5}
    shares = made(source, tokenizer, test_share=0.4)[0]["part"].value_counts()
    assert shares.to_dict() == {"train": 12, "test": 8}


def test_long_prompts_are_dropped_and_counted(tmp_path, tokenizer):
    rows = [*SUMS, {"prompt": "very " * 40}]
    _, train, test = made(write(tmp_path / "a.jsonl", rows), tokenizer, max_tokens=30)
    assert pd.concat([train, test])["prompt_ids"].map(len).max() < 30
    with pytest.raises(
        DataError, match=r"prompts: 1\d rows for train give 0 distinct prompts, 12 "
    ):
        made(write(tmp_path / "a.jsonl", rows), tokenizer, max_tokens=2)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "x"}, r"line 1: no column 'prompt' .* 'messages' .*; columns found: text"),
        ({"prompt": " "}, "line 1: column 'prompt' is empty or not text; got ' '"),
        ({"prompt": []}, r"line 1: column 'prompt' is empty or not text; got \[\]"),
        ({"prompt": ["x"]}, "line 1: column 'prompt', message 1: needs the texts 'role' and 'con"),
        ({"prompt": "x", "tools": [{"type": "function"}]}, "column 'tools' has functions, which"),
        ({"prompt": "x", "tools": '[{"name": 1}]'}, "column 'tools' has functions, which are not"),
        ({"messages": []}, r"line 1: no column 'prompt' .* 'messages' .*; columns found: messages"),
        ({"messages": "Hi"}, "line 1: column 'messages' is text that is not JSON"),
        ({"messages": '{"role": "user", "role": ""}'}, "message 1: needs .*'role' twice"),
        ({"messages": ["Hi"]}, "message 1: needs the texts 'role' and 'content'; got 'Hi'"),
        ({"messages": [{"role": "user", "content": [{}]}]}, "content', and no parts such as imag"),
        ({"messages": [{"role": "user", "content": None}]}, "message 1: needs the texts"),
        ({"messages": [{"role": "assistant", "content": "Hi"}]}, "ends with an answer; the last"),
        ([1], "line 1: is not a JSON object but list"),
    ],
)  # fmt: skip
def test_rows_that_give_no_prompt_are_named(tmp_path, tokenizer, row, message):
    with pytest.raises(DataError, match=message) as caught:
        made(write(tmp_path / "bad.jsonl", [row]), tokenizer, chat=True)
    assert "\n" not in str(caught.value)


def test_conversations_need_chat_and_chat_a_template(tmp_path, tokenizer):
    talk = {"messages": [{"role": "user", "content": "Hi"}]}
    with pytest.raises(DataError, match=r"line 1: column 'messages' .*; give prompts\.chat: true"):
        made(write(tmp_path / "a.jsonl", [talk]), tokenizer)
    bare = build_tokenizer(["a b"], kind="bpe", vocab_size=300)
    source = write(tmp_path / "a.jsonl", SUMS)
    with pytest.raises(ConfigError, match=r"prompts\.chat: true needs a chat template, which the"):
        made(source, bare, chat=True)
    tool = [{"messages": [{"role": "tool", "content": str(n)}]} for n in range(20)]
    remedies = {None: "correct them$", "Be": r"correct them, or drop prompts\.system$"}
    for system, remedy in remedies.items():
        with pytest.raises(DataError, match=rf"refuses its messages \(no tools\); {remedy}"):
            made(write(tmp_path / "t.jsonl", tool), tokenizer, chat=True, system=system)


def test_what_json_lacks_is_text_in_a_row(tmp_path, tokenizer):
    frame = pd.DataFrame(SUMS).assign(day=pd.Timestamp("2026-01-02"))
    frame.to_parquet(tmp_path / "a.parquet")
    _, train, _ = made(str(tmp_path / "a.parquet"), tokenizer)
    assert json.loads(train["row"].iloc[0])["day"] == "2026-01-02 00:00:00"


@pytest.mark.parametrize("blank", [None, "", []])
def test_a_row_without_a_conversation_has_its_prompt(tmp_path, tokenizer, blank):
    rows = [row | {"messages": blank} for row in SUMS]
    _, train, _ = made(write(tmp_path / "sums.jsonl", rows), tokenizer, chat=True)
    assert train["messages"].map(json.loads).map(lambda turns: turns[0]["role"]).eq("user").all()


def test_a_prompt_column_of_messages_is_a_conversation(tmp_path, tokenizer):
    rows = [{"prompt": [{"role": "user", "content": row["prompt"]}]} for row in SUMS]
    source = write(tmp_path / "trl.jsonl", rows)
    texts = [made(source, tokenizer, chat=True)]
    texts.append(made(write(tmp_path / "sums.jsonl", SUMS), tokenizer, chat=True))
    for one, other in zip(*texts, strict=True):
        columns = [name for name in one if name not in ("row", "source_id", "prompt_id")]
        assert one[columns].equals(other[columns])
    with pytest.raises(DataError, match=r"column 'prompt' is a conv.*give prompts\.chat: true"):
        made(source, tokenizer)


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_whole_messages_reach_template_and_rewards(tmp_path, ending):
    words = build_tokenizer(["What is add 1 2 3 + ?"] * 3, kind="bpe", vocab_size=300)
    words.chat_template = (
        "{% for m in messages %}{{ m.role }}{{ m.content }}{% if m.tool_calls is defined %}"
        "{{ m.tool_calls[0].name }}{% endif %}{% endfor %}{{ '>' if add_generation_prompt }}"
    )
    talks = [
        [
            {"role": "user", "content": f"What is 1 + {n}?"},
            {"role": "assistant", "tool_calls": [{"name": "add"}]},
            {"role": "tool", "content": str(1 + n), "tool_call_id": "a"},
        ]
        for n in range(20)
    ]
    if ending == "jsonl":
        source = write(tmp_path / "a.jsonl", [{"messages": talk} for talk in talks])
    else:
        source = str(tmp_path / "a.parquet")  # which has each key in each message
        pd.DataFrame({"messages": talks}).to_parquet(source)
    _, train, _ = made(source, words, chat=True)
    for row in train.itertuples():
        messages = json.loads(row.messages)
        assert messages in talks
        assert (
            row.prompt == f"user{messages[0]['content']}assistantaddtool{messages[2]['content']}>"
        )


def test_cautions_are_in_the_table_and_printed_once(tmp_path, tokenizer, capsys):
    words = copy.deepcopy(tokenizer)
    words.chat_template = TEMPLATE.partition("{% if add_gen")[0]
    words.save_pretrained(tmp_path)
    section = section_of(write(tmp_path / "sums.jsonl", SUMS), chat=True)
    write_table(tmp_path / "texts.parquet", make_task(section).texts(0), "texts")
    paths = {name: str(tmp_path / f"{name}.parquet") for name in ("texts", "train", "test")}
    steps.prompts(task=section, reference=f"{tmp_path}/card.json", seed=0, **paths)
    lines = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert len(lines) == 2
    assert lines[0].startswith("warning: 12 of 12 train prompts end with '")
    cautions = read_table(paths["test"], "prompts")["cautions"]
    assert cautions.map(list).tolist() == [["that_begin_no_answer"]] * 4

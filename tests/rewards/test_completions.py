"""Batches that reward models receive: the same texts as ever, and views made when they are read."""

import json

import pytest
from support import Language

from vbon.batches import Prompts
from vbon.rewards import Completions, full_texts
from vbon.tasks.language import build_tokenizer

LANGUAGE, LETTERS = Language(), build_tokenizer(3)
RESPONSES = LANGUAGE.responses[:5]


class Counting:
    """A tokenizer that counts its calls."""

    def __init__(self):
        self.calls = 0

    def batch_decode(self, *parts, **options):
        self.calls += 1
        return LETTERS.batch_decode(*parts, **options)


def completions(tokenizer=LETTERS):
    return Completions(tokenizer, LANGUAGE.prompts, RESPONSES, [1, 0, 1, 1, 0])


def test_texts_are_prompt_and_response_decoded_together():
    lists = LANGUAGE.prompts.id_lists()
    expected = full_texts(LETTERS, [lists[row] for row in (1, 0, 1, 1, 0)], RESPONSES)
    assert list(completions()) == completions().texts == expected
    assert completions()[1:3] == expected[1:3]
    assert len(completions()) == 5


def test_prompts_and_responses_are_decoded_apart():
    lists = LANGUAGE.prompts.id_lists()
    batch = completions()
    assert batch.prompts == LETTERS.batch_decode([lists[row] for row in (1, 0, 1, 1, 0)])
    assert batch.responses == LETTERS.batch_decode(RESPONSES, skip_special_tokens=True)


def test_a_view_is_made_once_and_only_if_it_is_read():
    tokenizer = Counting()
    batch = completions(tokenizer)
    assert (len(batch), batch.rows, tokenizer.calls) == (5, [None] * 5, 0)
    assert (batch.responses, batch.responses, tokenizer.calls)[2] == 1


def test_rows_and_messages_follow_their_prompt():
    details = {"b": {"row": json.dumps({"answer": 5}), "messages": json.dumps([{"role": "user"}])}}
    prompts = Prompts.from_lists([[1], [2]], ["a", "b"])
    prompts = Prompts(prompts.ids, prompts.lengths, prompts.prompt_id, details)
    batch = Completions(LETTERS, prompts, [[1], [2], [3]], [1, 0, 1])
    assert batch.rows == [{"answer": 5}, None, {"answer": 5}]
    assert batch.messages == [[{"role": "user"}], None, [{"role": "user"}]]
    batch.rows[0]["answer"] = 6
    assert batch.rows[2] == {"answer": 5}
    chosen = prompts.select(prompts.lengths.new_tensor([1]))
    assert Completions(LETTERS, chosen, [[1]]).rows == [{"answer": 5}]


def test_each_response_needs_a_prompt():
    with pytest.raises(ValueError, match="2 prompts for 1 responses"):
        Completions(LETTERS, LANGUAGE.prompts, [[1]])

import pandas as pd
import pytest

from vbon.artifacts import write_table
from vbon.errors import DataError
from vbon.models.build import build_tokenizer
from vbon.planning.config import resolve
from vbon.tasks.grammar import write_reviews
from vbon.tasks.registry import make_task
from vbon.tasks.texts import make_prompts


@pytest.fixture(scope="module")
def reviews() -> pd.DataFrame:
    return write_reviews(400, seed=0)


@pytest.fixture(scope="module", params=["words", "bpe"])
def tokenizer(request, reviews):
    return build_tokenizer(reviews["text"], kind=request.param, vocab_size=400)


def test_prompts_are_prefixes_that_decode_to_their_text(reviews, tokenizer, tmp_path):
    prompts = make_prompts(reviews, tokenizer, 150, seed=0)
    texts = reviews.set_index("source_id")
    for prompt in prompts.itertuples():
        assert tokenizer.decode(prompt.prompt_ids) == prompt.prompt
        assert texts.loc[prompt.source_id, "text"].startswith(prompt.prompt)
        label = texts.loc[prompt.source_id, "label"]
        assert prompt.domain == ("positive" if label else "negative")
    assert set(prompts["prompt_ids"].map(len)) == set(range(2, 9))
    assert prompts["prompt_ids"].map(tuple).is_unique
    write_table(tmp_path / "prompts.parquet", prompts, "prompts")


def test_a_prompt_keeps_its_id_when_others_come_or_go(reviews, tokenizer):
    everything = make_prompts(reviews, tokenizer, 150, seed=0).set_index("source_id")["prompt_id"]
    fewer = make_prompts(reviews[::2], tokenizer, 60, seed=0).set_index("source_id")["prompt_id"]
    common = everything.index.intersection(fewer.index)
    assert len(common) > 30
    assert everything[common].equals(fewer[common])
    other = make_prompts(reviews, tokenizer, 150, seed=1).set_index("source_id")["prompt_id"]
    common = everything.index.intersection(other.index)
    assert not everything[common].equals(other[common])


def test_excluded_prompts_do_not_occur(reviews, tokenizer):
    train = make_prompts(reviews[:200], tokenizer, 100, seed=0)
    free = make_prompts(reviews[200:], tokenizer, 80, seed=0)
    test = make_prompts(reviews[200:], tokenizer, 80, seed=0, exclude=train["prompt_ids"])
    known = set(train["prompt_ids"].map(tuple))
    assert set(free["prompt_ids"].map(tuple)) & known  # without the exclusion some would
    assert not set(test["prompt_ids"].map(tuple)) & known


@pytest.mark.parametrize("part", ["test", "train"])
def test_test_prompts_are_of_the_part_that_the_section_names(reviews, tokenizer, part):
    section = {
        "reviews": {"num_reviews": 1200, "fractions": {"train": 0.5, "test": 0.2, "reference": 0.3,
                                                       "reward_model": 0, "evaluator": 0}},
        "prompts": {"num_train": 100, "num_test": 80, "test_part": part},
        "reward_model": {"callable": "rewards.py:f"}, "evaluator": {"callable": "rewards.py:f"},
    }  # fmt: skip
    runs = {"run_methods": ["reference"], "methods": {"reference": {}}, "seeds": [0]}
    task = make_task(resolve({"tasks": ["sentiment"], **runs, "sentiment": section})["sentiment"])
    texts = task.texts(seed=0)
    train = task.prompts(texts, tokenizer, "train", 0, [])
    test = task.prompts(texts, tokenizer, "test", 0, train["prompt_ids"].tolist())
    parts = texts.set_index("source_id")["part"]
    assert set(parts[train["source_id"]]) == {"train"}
    assert set(parts[test["source_id"]]) == {part}
    assert not set(test["source_id"]) & set(train["source_id"])
    assert not set(map(tuple, test["prompt_ids"])) & set(map(tuple, train["prompt_ids"]))


def test_too_few_reviews_are_counted(reviews, tokenizer):
    short = pd.DataFrame({"source_id": ["s"], "text": ["a film"], "label": [1]})
    few = pd.concat([reviews[:9], reviews[:1], short], ignore_index=True)
    with pytest.raises(
        DataError, match=r"11 texts give \d distinct prompts, 30 are .*[1-9] repeat"
    ):
        make_prompts(few, tokenizer, 30)


def test_short_reviews_are_left_out():
    tokenizer = build_tokenizer(["a film"], vocab_size=10)
    short = pd.DataFrame({"source_id": ["s"], "text": ["a film"], "label": [1]})
    with pytest.raises(DataError, match="1 texts too short"):
        make_prompts(short, tokenizer, 1)

import numpy as np
import pytest
import torch

from vbon.artifacts import read_table
from vbon.batches import Prompts
from vbon.models.tabular import TabularLM
from vbon.rewards import full_texts
from vbon.tasks import language
from vbon.tasks.steps import languages

SETTINGS = {
    "num_letters": 3,
    "num_prompts": 2,
    "policy_class": "tabular",
    "logit_scale": 1.0,
    "layers": 1,
    "width": 16,
    "fit_steps": 300,
}


def prompts() -> Prompts:
    frame = language.make_prompts(3, 2)
    return Prompts.from_lists(frame["prompt_ids"].tolist(), frame["prompt_id"].tolist())


def test_probabilities_of_all_responses_sum_to_one():
    reference = language.build_reference(SETTINGS, 4, prompts(), seed=0)
    assert isinstance(reference, TabularLM)
    exact = language.log_probs(reference, prompts(), language.all_responses(3, 4))
    assert exact.shape == (2, 121)
    torch.testing.assert_close(exact.exp().sum(1), torch.ones(2).double(), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_the_transformer_comes_close_to_the_table():
    table = language.build_reference(SETTINGS, 3, prompts(), seed=0)
    small = language.build_reference(
        {**SETTINGS, "policy_class": "transformer"}, 3, prompts(), seed=0
    )
    responses = language.all_responses(3, 3)
    both = [language.log_probs(model, prompts(), responses).exp() for model in (table, small)]
    assert (both[0] - both[1]).abs().sum(1).max() / 2 < 0.1


def test_texts_are_unique_and_decoded_as_the_rewards_spell_them():
    frame, responses = language.make_prompts(3, 2), language.all_responses(3, 3)
    rewards = language.make_rewards(frame, responses, 3, "injective", seed=0)
    assert rewards["text"].is_unique
    ids = [list(row) for row in frame["prompt_ids"] for _ in responses]
    tokenizer = language.build_tokenizer(3)
    assert full_texts(tokenizer, ids, responses * 2) == rewards["text"].tolist()


@pytest.mark.parametrize(("kind", "distinct"), [("injective", 80), ("tied", 5)])
def test_rewards_are_injective_or_heavily_tied(kind, distinct):
    frame, responses = language.make_prompts(3, 2), language.all_responses(3, 3)
    rewards = language.make_rewards(frame, responses, 3, kind, seed=0)["reward"]
    assert rewards.nunique() == distinct


def test_another_seed_is_another_language():
    first, same, other = (
        language.build_reference(SETTINGS, 3, prompts(), seed=seed).table for seed in (0, 0, 1)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_the_exact_cdf_is_written_beside_the_pool(tmp_path):
    root = tmp_path / "language"
    section = {
        **SETTINGS,
        "kind": "enumerable",
        "reward": "tied",
        "exact_cdf": True,
        "rewards": {"transform": "exp", "batch_size": 8},
        "sampling": {
            "max_new_tokens": 3,
            "temperature": 1.0,
            "train_draws": 50,
            "test_draws": 20,
            "fresh_draws": 10,
            "backend": "native",
            "prompts_per_shard": 10,
            "prompts_per_batch": 4,
        },
        "logf": {"m": 50, "estimator": "add1", "pooled_ties": True},
    }
    languages(roots={str(root): section}, seed=0)
    table = read_table(root / "reference/logf/train.parquet", "logf")
    strings = read_table(root / "data/strings.parquet", "strings")
    for prompt_id, levels, below, level in table[
        ["prompt_id", "levels", "log_below", "log_level"]
    ].itertuples(index=False):
        group = strings[strings["prompt_id"] == prompt_id]
        mass = np.exp(group["log_prob"])
        for reward, log_below, log_level in zip(levels, below, level, strict=True):
            transformed = np.exp(group["reward"])
            assert np.exp(log_level) == pytest.approx(mass[transformed == reward].sum())
            assert np.exp(log_below) == pytest.approx(mass[transformed < reward].sum(), abs=1e-12)

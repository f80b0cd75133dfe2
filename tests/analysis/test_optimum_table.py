import numpy as np
import pandas as pd
import pytest

from vbon.analysis import optimum
from vbon.batches import Prompts
from vbon.objectives import oracle
from vbon.tasks.language import (
    all_responses,
    build_reference,
    log_probs,
    make_prompts,
    make_rewards,
)

SECTION = {
    "num_letters": 3,
    "num_prompts": 2,
    "policy_class": "tabular",
    "logit_scale": 1.0,
    "layers": 1,
    "width": 16,
    "fit_steps": 300,
    "sampling": {"max_new_tokens": 3},
}


@pytest.fixture(scope="module")
def language() -> optimum.Language:
    frame = make_prompts(3, 2)
    prompts = Prompts.from_lists(frame["prompt_ids"].tolist(), frame["prompt_id"].tolist())
    responses = all_responses(3, 3)
    reference = build_reference(SECTION, 3, prompts, seed=0)
    log_ref = log_probs(reference, prompts, responses).numpy()
    table = make_rewards(frame, responses, 3, "injective", seed=0)
    rewards = table["reward"].to_numpy().reshape(2, -1)
    return optimum.Language(prompts, responses, list(log_ref), list(rewards))


def test_limits_of_the_optima(language):
    """N -> 1 and beta -> inf give the reference, N -> inf and beta -> 0 the best string."""
    table = optimum.limits(language).set_index(["optimum", "value"])
    for name in ("best_of_n", "lower_bound"):
        assert table.loc[(name, 1.0), "tv_to_reference"] < 1e-6
        assert table.loc[(name, 1.001), "tv_to_reference"] < 1e-2
        assert table.loc[(name, 1e6), "tv_to_argmax"] < 1e-2
    assert table.loc[("kl_rl", 1e6), "tv_to_reference"] < 1e-5
    assert table.loc[("kl_rl", 1e-5), "tv_to_argmax"] < 1e-9


def test_exact_and_bound_coincide_for_long_strings():
    table = optimum.exact_and_bound(SECTION, seed=0)
    assert table["length"].max() == SECTION["sampling"]["max_new_tokens"] + 3
    assert list(table.groupby("length")["strings"].first()) == [3**n for n in range(1, 7)]
    by_length = table[table["n"] == 2].set_index("length")["tv"]
    assert by_length[1] > 0.1
    assert by_length[6] < by_length[3] < by_length[1]


@pytest.mark.slow
def test_an_estimated_cdf_moves_the_optimum_less_with_more_draws(language):
    settings = {"num_pools": 60, "m": [8, 128], "n": [4]}
    keys = ["method", "policy_class", "cdf", "estimator", "setting"]
    row = ["vbon_l", "tabular", "8", "add1", "n4"]
    trained = pd.DataFrame([[*row, 0.25]], columns=[*keys, "tv_to_optimum"])
    table = optimum.pool_study(language, settings, trained, seed=0).set_index(["estimator", "m"])
    few, many = table.loc[("add1", 8)], table.loc[("add1", 128)]
    assert few["pools"] == 120
    assert few["tv"] - many["tv"] > 4 * np.hypot(few["tv_se"], many["tv_se"])
    # a constant added to log F changes no optimum
    assert table.loc[("digamma", 8), "tv"] == pytest.approx(table.loc[("posterior", 8), "tv"])
    assert few["trained_tv"] == 0.25
    assert table["trained_tv"].count() == 1
    # strings have mass, and what is level with the pool's best is not above it
    assert few["saturation_continuous"] == pytest.approx(4 / 12)
    assert 0 < many["saturation"] < few["saturation"] < 4 / 12


def test_curves_are_the_oracles(language):
    table = optimum.curves(language).set_index(["series", "parameter"])
    expected = np.mean(
        [
            oracle.metrics(oracle.optimum("best_of_n", *parts, n=4.0), *parts)["win_rate"]
            for parts in language
        ]
    )
    assert table.loc[("best_of_n", 4.0), "win_rate"] == pytest.approx(expected)
    assert table.loc[("best_of_n", 1.0), "kl"] == pytest.approx(0, abs=1e-9)

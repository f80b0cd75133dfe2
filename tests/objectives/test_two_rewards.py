"""Right or wrong: best-of-n, log F and their estimates where a language has two rewards."""

import numpy as np
import pandas as pd
import pytest
import torch
from support import Language, until_converged

from vbon.evaluation.policy import select_responses
from vbon.methods.best_of_n import BestOfN
from vbon.methods.vbon import VBoN
from vbon.objectives import oracle
from vbon.objectives.best_of_n import kl_upper_bound, kl_with_ties, log_bon_ratio, log_masses
from vbon.pool.cdf import EstimatedCDF


class Verified(Language):
    """The language of the tests; about a third of its strings are right."""

    @property
    def rewards(self):
        return (super().rewards > 0.4).astype(float)


@pytest.fixture(scope="module")
def verified():
    return Verified()


def right(language, prompt):
    """Reference log-probs, rewards, and mass of the right strings."""
    log_ref, rewards = language.log_ref[prompt].numpy(), language.rewards[prompt]
    return log_ref, rewards, np.exp(log_ref[rewards == 1]).sum()


@pytest.mark.parametrize("n", [1, 2, 4.5, 16])
def test_best_of_n_keeps_the_proportions_within_a_reward(verified, n):
    """It is right unless all draws are wrong; among right ones no string gains on another."""
    for prompt in (0, 1):
        log_ref, rewards, p = right(verified, prompt)
        assert 0.1 < p < 0.7
        best = oracle.optimum("best_of_n", log_ref, rewards, n=n)
        masses = np.array([(1 - p) ** n, 1 - (1 - p) ** n])
        expected = np.exp(log_ref) * (masses / [1 - p, p])[rewards.astype(int)]
        np.testing.assert_allclose(np.exp(best), expected, rtol=1e-6)
        numbers = oracle.metrics(best, log_ref, rewards)
        assert numbers["reward"] == pytest.approx(masses[1])
        assert numbers["win_rate"] == pytest.approx(
            masses[1] * (1 - p / 2) + masses[0] * (1 - p) / 2
        )
        assert numbers["kl"] == pytest.approx(
            (masses * np.log(masses / [1 - p, p])).sum(), abs=1e-9
        )


def test_a_pool_of_the_language_has_its_kl(verified):
    for prompt in (0, 1):
        log_ref, rewards, p = right(verified, prompt)
        count = round(1000 * p)
        pool = np.repeat([0.0, 1.0], [1000 - count, count])
        exact = oracle.kl(oracle.optimum("best_of_n", log_ref, rewards, n=8), log_ref)
        assert kl_with_ties(pool, 8) == pytest.approx(exact, abs=2e-3)
        assert exact < 0.8 * kl_upper_bound(8)
    drawn = np.random.default_rng(0).normal(size=(3, 40))
    np.testing.assert_allclose(kl_with_ties(drawn, 5), kl_upper_bound(5))
    tied = drawn.round(1)
    assert (kl_with_ties(tied, 5) < kl_upper_bound(5)).all()
    np.testing.assert_allclose(kl_with_ties(tied, 1), 0, atol=1e-12)


def test_a_pool_estimates_both_masses_and_without_pooled_ties_neither(verified):
    pool = torch.from_numpy(verified.pool(4000))
    nothing = torch.full((2, 2), torch.nan).double()
    for prompt in (0, 1):
        log_ref, rewards, _ = right(verified, prompt)
        index = torch.full((len(rewards),), prompt)
        exact = log_bon_ratio(*log_masses(rewards, log_ref), 4)
        errors = {}
        for is_tied in (True, False):
            cdf = EstimatedCDF(pool, nothing, pooled_ties=is_tied)
            masses = cdf(index, torch.from_numpy(rewards), torch.from_numpy(log_ref).double())
            ratio = log_bon_ratio(*(part.numpy() for part in masses), 4)
            errors[is_tied] = np.abs(ratio - exact).max()
        assert errors[True] < 0.15
        assert errors[False] > 1


def test_vbon_on_a_pool_reaches_best_of_n(verified):
    pool = torch.from_numpy(verified.pool(4000))
    cdf = EstimatedCDF(pool, torch.full((2, 2), torch.nan).double(), pooled_ties=True)
    policy, _ = verified.train(VBoN(n=4), until_converged(), cdf=cdf)
    for prompt, ours in enumerate(verified.log_probs(policy)):
        log_ref, rewards, _ = right(verified, prompt)
        best = oracle.optimum("best_of_n", log_ref, rewards, n=4)
        assert oracle.total_variation(log_ref, best) > 0.3
        assert oracle.total_variation(ours.numpy(), best) < 0.05


def test_selected_responses_have_the_exact_win_rate_and_log_ratio(verified):
    """Best of 4 of fresh draws against sums over all strings; 4 standard errors."""
    count = 8000
    fresh = verified.draws(count).assign(reward_prob=np.nan, evaluator_reward=0.0, finished=True)
    fresh["response"] = ""
    pools = dict(zip(("short", "long"), verified.pool(4000, seed=1), strict=True))
    picked = select_responses(BestOfN(n=4), fresh, pools, count // 4, has_ties=True)
    for prompt, name in enumerate(("short", "long")):
        log_ref, rewards, p = right(verified, prompt)
        rows: pd.DataFrame = picked[picked["prompt_id"] == name]
        best = oracle.metrics(oracle.optimum("best_of_n", log_ref, rewards, n=4), log_ref, rewards)
        wins = np.where(rows["reward"] == 1, 1 - p / 2, (1 - p) / 2)
        assert abs(wins.mean() - best["win_rate"]) < 4 * wins.std() / np.sqrt(len(wins))
        assert rows["kl"].iloc[0] == pytest.approx(best["kl"], rel=0.1)
        ratios = rows["log_prob"] - rows["log_prob_ref"]
        assert ratios.mean() == pytest.approx(best["kl"], rel=0.1)

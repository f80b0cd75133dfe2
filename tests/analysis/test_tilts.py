"""Tilts of stored draws against closed forms and the oracle of small languages."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from vbon.analysis.tilts import Pools, curves, distances, largest_resolved
from vbon.objectives import oracle
from vbon.objectives.frontier import kl_frontier, kl_upper_bound, win_rate


def table(rewards):
    """Rows of schema "rewards" from an array [prompts, draws]."""
    prompts, draws = rewards.shape
    names = np.repeat([f"p{i:03d}" for i in range(prompts)], draws)
    columns = {"prompt_id": names, "draw": np.tile(np.arange(draws), prompts)}
    frame = pd.DataFrame({**columns, "reward": rewards.ravel()})
    return frame.assign(reward_prob=1 / (1 + np.exp(-frame["reward"])))


@pytest.fixture(scope="module")
def gaussian():
    """Quantiles of a normal reward: a pool without noise, shuffled; three equal prompts."""
    quantiles = norm.ppf((np.arange(4000) + 0.5) / 4000)
    rng = np.random.default_rng(0)
    return Pools.of(table(np.stack([rng.permutation(quantiles) for _ in range(3)])))


@pytest.mark.parametrize("family", ["best_of_n", "kl_rl", "win_rate"])
@pytest.mark.parametrize("rewards", [[0.3, -1.0, 2.0, 0.0], [0.0, 1.0, 1.0, 0.0, 1.0]])
def test_tilts_are_the_oracle_of_a_language_of_the_draws(family, rewards):
    """Each draw is a string of equal probability; draws of equal reward are ties."""
    pools, log_ref = (
        Pools.of(table(np.array([rewards]))),
        np.full(len(rewards), -np.log(len(rewards))),
    )
    for value in (1.0, 2.0, 3.5):
        settings = {"n": value, "kl_coef": value}
        exact = oracle.optimum(family, log_ref, np.sort(rewards), **settings)
        assert pools.log_ratio(family, value)[0] == pytest.approx(exact - log_ref, abs=1e-12)
        known, means = oracle.metrics(exact, log_ref, np.sort(rewards)), pools.means(family, value)
        for name in ("kl", "win_rate", "reward"):
            assert means[name] == pytest.approx(known[name], abs=1e-12)


@pytest.mark.parametrize("n", [1.0, 1.5, 2, 8, 64])
def test_best_of_n_of_many_draws_has_its_closed_form(gaussian, n):
    means = gaussian.means("best_of_n", n)
    assert means["win_rate"] == pytest.approx(win_rate(n), abs=1e-4)
    assert means["kl"] == pytest.approx(kl_upper_bound(n), abs=0.02 * n / 64 + 1e-4)


@pytest.mark.parametrize("beta", [4.0, 1.0, 0.7])
def test_kl_rl_of_a_normal_reward_is_a_shifted_normal(gaussian, beta):
    """N(0, 1) times exp(r / beta) is N(1 / beta, 1), at KL 1 / (2 beta^2)."""
    means = gaussian.means("kl_rl", beta)
    assert means["reward"] == pytest.approx(1 / beta, rel=0.01)
    assert means["kl"] == pytest.approx(0.5 / beta**2, rel=0.02)
    assert means["win_rate"] == pytest.approx(norm.cdf(1 / beta / np.sqrt(2)), abs=1e-3)


def test_curves_start_at_the_reference_and_end_where_the_pool_does(gaussian):
    exact = curves(gaussian, {"vbon": 600, "vbon_l": 10**9})
    for _, curve in exact[exact["series"] != "resolved"].groupby("series"):
        assert curve["kl"].is_monotonic_increasing
        assert curve["kl"].iloc[0] < 1e-3
        assert (curve["kl"] >= kl_frontier(curve["win_rate"].to_numpy()) - 1e-3).all()
    assert exact.loc[exact["series"] == "best_of_n", "parameter"].max() == pytest.approx(4000 / 9)
    last = exact[exact["series"] == "kl_rl"].iloc[-1]["parameter"]
    assert gaussian.unseen("kl_rl", last) <= 0.1 < gaussian.unseen("kl_rl", 0.9 * last)
    limit = exact[exact["series"] == "resolved"]
    assert limit["method"].tolist() == ["vbon"]  # the other limit is beyond the test pools
    n = limit["parameter"].item()
    assert n / (n + 600) == pytest.approx(0.1)
    assert n == largest_resolved(600)


def drawn(pools, family, parameter, count, rng):
    """Responses of a policy that is an optimum: draws of the pools by weight."""
    ratio = pools.log_ratio(family, parameter)
    rows = []
    for prompt, name in enumerate(pools.prompts):
        pick = rng.choice(pools.draws, size=count, p=np.exp(ratio[prompt]) / pools.draws)
        kl = (np.exp(ratio[prompt]) / pools.draws) @ ratio[prompt]
        rows.append(
            pd.DataFrame({"prompt_id": name, "kl": kl, "reward": pools.rewards[prompt, pick]})
        )
    return pd.concat(rows, ignore_index=True).assign(log_prob_ref=-30.0)


OPTIMA = {"vbon": "best_of_n", "vbon_l": "lower_bound", "ppo": "kl_rl", "ipo": "win_rate"}


@pytest.mark.parametrize("method", OPTIMA)
def test_an_optimal_policy_has_no_distance_and_the_reference_has_its_own(gaussian, method):
    rng, family = np.random.default_rng(1), OPTIMA[method]
    record = {"method": method, "setting": "x", "n": 4.0, "kl_coef": 1.0}
    tilt = "best_of_n" if family == "lower_bound" else family
    value = record["n" if tilt == "best_of_n" else "kl_coef"]
    ranked = {name: row for name, row in zip(gaussian.prompts, gaussian.rewards, strict=True)}
    exact = curves(gaussian, {})
    runs = [(record, drawn(gaussian, tilt, value, 20_000, rng)) for _ in range(2)]
    row = distances(runs, OPTIMA, gaussian, ranked, exact).iloc[0]
    assert row["runs"] == 2
    assert row["kl_to_optimum"] == pytest.approx(0, abs=0.02)
    assert row["over_own_oracle"] == pytest.approx(0, abs=0.01)
    assert row["excess"] == pytest.approx(row["kl"] - kl_frontier(row["win_rate"]), abs=1e-3)
    reference = drawn(gaussian, tilt, 1 if tilt == "best_of_n" else 1e9, 20_000, rng)
    row = distances([(record, reference)], OPTIMA, gaussian, ranked, exact).iloc[0]
    # KL(reference ‖ best-of-n) = n - 1 - log n; to the shifted normal it is half of its square,
    # to the density e^u / (e - 1) the log of its constant minus the mean of u
    known = {"best_of_n": 3 - np.log(4), "kl_rl": 0.5, "win_rate": np.log(np.e - 1) - 0.5}[tilt]
    assert row["kl_to_optimum"] == pytest.approx(known, abs=0.05 * known)
    assert np.isnan(row["kl_to_optimum_sd"])  # one seed


def test_optima_above_the_pool_have_no_distance(gaussian):
    record = {"method": "vbon", "setting": "n512", "n": 512.0, "kl_coef": None}
    runs = [(record, drawn(gaussian, "best_of_n", 100, 50, np.random.default_rng(0)))]
    ranked = dict(zip(gaussian.prompts, gaussian.rewards, strict=True))
    row = distances(runs, OPTIMA, gaussian, ranked, curves(gaussian, {})).iloc[0]
    assert row["unseen"] == pytest.approx(512 / 4512)
    assert np.isnan(row["kl_to_optimum"])
    assert np.isfinite(row["excess_se"])


def test_standard_error_of_the_excess_is_that_of_repeated_prompts():
    """The spread over repeated sets of prompts, whose KL and win rate vary together."""
    rng, errors, values = np.random.default_rng(3), [], []
    for _ in range(60):
        shift = rng.normal(1, 0.3, size=(40, 1))
        quantiles = np.tile(norm.ppf((np.arange(400) + 0.5) / 400), (40, 1))
        pools = Pools.of(table(quantiles))
        replies = shift + rng.normal(size=(40, 4))
        frame = pd.DataFrame({"prompt_id": np.repeat(pools.prompts, 4), "reward": replies.ravel()})
        frame["kl"], frame["log_prob_ref"] = np.repeat(shift**2 / 2, 4) + 0.2, -30.0
        record = {"method": "ppo", "setting": "x", "n": None, "kl_coef": 1.0}
        ranked = dict(zip(pools.prompts, pools.rewards, strict=True))
        row = distances([(record, frame)], OPTIMA, pools, ranked, curves(pools, {})).iloc[0]
        values.append(row["excess"])
        errors.append(row["excess_se"])
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.3)


def test_no_trained_run_gives_a_table_without_rows(gaussian):
    empty = distances([], OPTIMA, gaussian, {}, curves(gaussian, {}))
    assert len(empty) == 0
    assert {"kl_to_optimum", "over_own_oracle"} <= set(empty)

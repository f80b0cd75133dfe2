"""Section 6's claims on made-up responses whose answer is known."""

import numpy as np
import pandas as pd
import pytest

from vbon.analysis.temperatures import (
    NAMES,
    Evidence,
    by_prompt,
    example_table,
    paper_settings,
    section6_table,
)
from vbon.artifacts import write_table
from vbon.artifacts.tables import write_record
from vbon.cli import main
from vbon.errors import DataError

PROMPTS = [f"p{number:03d}" for number in range(60)]
DOMAINS = {name: "in_domain" if k % 2 else "out_of_domain" for k, name in enumerate(PROMPTS)}
LEVELS = {
    ("reference", "default"): 0.5,
    ("best_of_n", "n100"): 0.9,
    ("ppo", "beta0.05"): 0.7,
    ("ppo", "beta0.0101"): 0.6,
    ("dpo", "beta0.1"): 0.5,
    ("bonbon", "n8"): 0.5,
    ("vbon", "n21"): 0.7,
    ("vbon", "n100"): 0.8,
}

KLS = {("ppo", "beta0.05"): 4.0}


def tables(
    levels=LEVELS, temperatures=(0.5, 1.0), gap=0.0, noise=0.02, seeds=1, spread=0.0, draws=0
):
    """Tables by prompt; training seeds differ by ``spread``, prompts by ``noise``."""
    rng = np.random.default_rng(draws)
    by_policy = {}
    for temperature in temperatures:
        for (method, setting), level in levels.items():
            for seed in range(seeds):
                values = level + noise * rng.normal(size=len(PROMPTS)) + spread * rng.normal()
                values += gap * np.array([DOMAINS[name] == "in_domain" for name in PROMPTS])
                columns = {"evaluator_win_rate": values, "evaluator_reward": 10 * values}
                columns["kl"] = np.full(len(PROMPTS), KLS.get((method, setting), 1.0))
                table = pd.DataFrame(columns, index=PROMPTS)
                by_policy[method, setting, seed, temperature] = table
    return by_policy


def claims(**changes):
    evidence = Evidence.of(tables(**changes), DOMAINS, seed=0, replicates=400)
    table = section6_table(evidence)
    assert (table["claim"] == table["key"].map(NAMES)).all()
    assert ((table["low"] <= table["value"]) & (table["value"] <= table["high"])).all()
    return table


def verdicts(table, key, temperature, metric="evaluator_win_rate"):
    rows = table[(table["key"] == key) & (table["temperature"] == temperature)]
    return rows[rows["metric"] == metric]["verdict"].tolist()


def test_what_is_so_is_seen_and_what_is_not_is_not():
    table = claims()
    assert (
        verdicts(table, "best_of_n_best", 0.5)
        == verdicts(table, "best_of_n_best", 1.0)
        == ["supported"]
    )
    assert verdicts(table, "domains_equal", 0.5) == ["supported"]
    assert verdicts(table, "domains_differ", 1.0) != ["supported"]
    assert verdicts(table, "vbon_above_ppo", 0.5) == ["supported"]
    assert verdicts(table, "vbon_equals_ppo", 1.0) == ["not supported"]
    # n = 21 belongs to 0.05, where both are alike, n = 100 to 0.0101, where they are not.
    assert verdicts(table, "vbon_equals_ppo_equal_coefficient", 1.0) == [
        "supported",
        "not supported",
    ]
    assert verdicts(table, "offline_competitive", 0.5) == ["not supported"]
    assert verdicts(table, "offline_not_competitive", 1.0) == ["supported"]


def test_a_gap_of_domains_is_found():
    table = claims(gap=0.2)
    assert verdicts(table, "domains_equal", 0.5) == ["not supported"]
    assert verdicts(table, "domains_differ", 1.0) == ["supported"]
    # Rewards of other posts are other rewards.
    assert not len(table[(table["key"].str.contains("domains")) & (table["metric"] != METRIC)])


METRIC = "evaluator_win_rate"


def test_too_much_noise_decides_nothing():
    table = claims(levels=dict.fromkeys(LEVELS, 0.5), noise=2.0)
    assert verdicts(table, "vbon_above_ppo", 0.5) == ["undecided"]
    assert verdicts(table, "domains_equal", 0.5) == ["undecided"]


def test_claims_about_methods_that_were_not_run_are_left_out():
    levels = {key: level for key, level in LEVELS.items() if key[0] in ("reference", "ppo")}
    keys = set(claims(levels=levels)["key"])
    assert keys == {"domains_equal", "domains_differ"}


def test_intervals_are_those_of_paired_prompts():
    """The width is that of the difference, not of what prompts have in common."""
    table = claims()
    row = table[table["key"] == "vbon_above_ppo"].iloc[0]
    expected = 2 * 1.96 * 0.02 * np.sqrt(2 / len(PROMPTS))
    assert row["high"] - row["low"] == pytest.approx(expected, rel=0.35)


def test_the_paper_s_settings_and_policies_of_other_prompts():
    evidence = Evidence.of(tables(), DOMAINS, seed=0, replicates=5)
    shown = paper_settings(evidence)
    assert (shown["vbon"], shown["ppo"], shown["reference"]) == ("n100", "beta0.05", "default")
    made = tables()
    made["dpo", "beta0.1", 0, 0.5] = made["dpo", "beta0.1", 0, 0.5].iloc[1:]
    with pytest.raises(DataError, match=r"dpo beta0\.1: other prompts"):
        Evidence.of(made, DOMAINS, seed=0, replicates=5)


def test_a_setting_that_the_paper_does_not_show_counts():
    levels = LEVELS | {("ppo", "beta0.0101"): 0.95}
    table = claims(levels=levels)
    assert verdicts(table, "best_of_n_best", 0.5) == ["not supported"]
    assert verdicts(table, "best_of_n_best_paper", 0.5) == ["supported"]
    rows = table[(table["key"] == "best_of_n_above_setting") & (table["value"] < 0)]
    assert set(rows["statistic"]) == {"BoN n100 minus PPO beta0.0101"}
    statistic = table.loc[table["key"] == "best_of_n_best_paper", "statistic"].iloc[0]
    assert "PPO beta0.05" in statistic
    assert "0.0101" not in statistic


def test_less_kl_at_an_equal_score():
    table = claims()
    assert verdicts(table, "vbon_as_good_as_ppo", 0.5) == ["supported"]
    assert verdicts(table, "vbon_less_kl_than_ppo", 0.5, "kl") == ["supported"]
    row = table[table["key"] == "vbon_less_kl_than_ppo"].iloc[0]
    assert (row["value"], row["kl"], row["other_kl"]) == (0.25, 1.0, 4.0)
    assert row["statistic"] == "KL of vBoN n21 over that of PPO beta0.05"


def test_the_best_of_equal_settings_is_not_above_one_that_equals_them():
    """Choosing and measuring on the same prompts has the bias of a maximum; halves have none."""
    count, repeats, noise = 8, 200, 1.0
    others = [("ppo", f"beta{k}") for k in range(1, count + 1)]
    levels = dict.fromkeys([("best_of_n", "n100"), *others], 0.5)
    honest, naive = [], []
    for draws in range(repeats):
        values = tables(levels, (1.0,), noise=noise, draws=draws)
        evidence = Evidence.of(values, DOMAINS, seed=0, replicates=0)
        where = METRIC, 1.0
        honest.append(evidence.gap_to_best(("best_of_n", "n100"), others, *where)[0])
        best = max(evidence.mean(other, *where)[0] for other in others)
        naive.append(evidence.mean(("best_of_n", "n100"), *where)[0] - best)
    error = np.std(honest) / np.sqrt(repeats)  # 0.010: Monte Carlo, of the mean of 200 differences
    assert error < 0.012
    assert abs(np.mean(honest)) < 3 * error
    expected = -1.4236 * noise / np.sqrt(len(PROMPTS))  # mean of the largest of 8 normal numbers
    assert np.mean(naive) == pytest.approx(expected, abs=3 * np.std(naive) / np.sqrt(repeats))
    assert np.mean(naive) < -10 * error


def test_seeds_are_averaged_and_none_overwrites_another():
    three = tables(seeds=3, spread=0.1)
    evidence = Evidence.of(three, DOMAINS, seed=0, replicates=3)
    parts = [three["ppo", "beta0.05", seed, 0.5][METRIC].mean() for seed in range(3)]
    assert evidence.mean(("ppo", "beta0.05"), METRIC, 0.5)[0] == pytest.approx(np.mean(parts))
    of_one = {key: table for key, table in three.items() if key[2] == 1}
    single = Evidence.of(of_one, DOMAINS, seed=0, replicates=3)
    assert single.mean(("ppo", "beta0.05"), METRIC, 0.5)[0] == pytest.approx(parts[1])


def test_intervals_hold_seeds_and_prompts():
    """The variance is the sum of that over seeds and that over prompts, of both policies."""
    evidence = Evidence.of(tables(seeds=3, spread=0.1, noise=0.2), DOMAINS, 0, replicates=4000)
    pair, expected = (("vbon", "n100"), ("ppo", "beta0.05")), 0.0
    gap = np.subtract(*(evidence.mean(setting, METRIC, 0.5) for setting in pair))
    means = [evidence.values[setting][METRIC, 0.5] for setting in pair]
    expected += sum(values.mean(axis=1).var(ddof=1) / 3 for values in means)
    by_prompt = np.subtract(*(values.mean(axis=0) for values in means))
    expected += by_prompt.var() / len(PROMPTS)
    # Where both are resampled, the noise of single cells counts once more: 0.2² / 180 per policy.
    expected += 2 * 0.2**2 / 180
    assert gap[1:].var() == pytest.approx(expected, rel=0.15)


def responses(rewards):
    frame = pd.DataFrame({"prompt_id": ["a", "a", "b"], "draw": [0, 1, 0]})
    frame["response"], frame["reward"] = [" one", " two", " three"], 0.0
    return frame.assign(evaluator_reward=rewards, kl=0.5)


def test_wins_are_counted_against_each_prompt_s_own_pool():
    pools = {"a": np.array([0.0, 1.0]), "b": np.array([5.0, 5.0])}
    table = by_prompt(responses([0.5, 2.0, 5.0]), pools)
    assert table["evaluator_win_rate"].to_dict() == {"a": 0.75, "b": 0.5}
    assert table["evaluator_reward"].to_dict() == {"a": 1.25, "b": 5.0}
    assert table["kl"].to_dict() == {"a": 0.5, "b": 0.5}


def test_the_example_is_the_first_response_to_the_post():
    both = [({"method": "ppo", "setting": "x"}, responses([1.0, 2.0, 3.0])),
            ({"method": "vbon", "setting": "y"}, responses([4.0, 5.0, 6.0])),
            ({"method": "vbon", "setting": "y"}, responses([7.0, 8.0, 9.0]))]  # fmt: skip
    table = example_table("a", both)
    assert table["summary"].tolist() == ["one", "one"]
    assert table["evaluator_reward"].tolist() == [1.0, 4.0]


@pytest.fixture
def study(tmp_path):
    """Two posts and what one run left of them."""
    words = ["source_id", "subreddit", "domain", "title", "post", "summary", "chosen", "rejected"]
    posts = pd.DataFrame([["x"] * 8, ["y"] * 8], columns=words).assign(part="test")
    posts["subreddit"] = ["dogs", "relationship_advice"]
    write_table(tmp_path / "texts.parquet", posts, "texts")
    prompts = pd.DataFrame({"prompt_id": ["a", "b"], "source_id": ["x", "y"], "domain": "d"})
    prompts["prompt"], prompts["prompt_ids"] = ["POST: one", "POST: two"], [[1], [2]]
    write_table(tmp_path / "prompts.parquet", prompts, "prompts")
    frame = responses([1.0, 2.0, 3.0]).assign(finished=True, sample_seed=0, reward_prob=np.nan)
    frame["response_ids"] = [[1]] * 3
    for column in ("log_prob", "log_prob_ref", "kl", "kl_k3"):
        frame[column] = 0.0
    write_table(tmp_path / "run/responses/test-t0.5.parquet", frame, "responses")
    record = {"method": "ppo", "setting": "beta0.05", "seed": 0, "status": "ok"}
    write_record(tmp_path / "run/run.json", record | {"key": "k"})
    return tmp_path


@pytest.mark.parametrize(
    ("subreddit", "prompt", "summary"),
    [("dogs", "> POST: one", "one"), ("relationship_advice", "> POST: two", "three")],
)
def test_the_example_is_of_the_subreddit_asked_for(study, subreddit, prompt, summary, capsys):
    files = ["--measured", f"{study}/run/run.json", "--texts", f"{study}/texts.parquet"]
    files += ["--test-prompts", f"{study}/prompts.parquet", "--split", "test-t0.5"]
    output = ["--output", f"{study}/table2.csv"]
    assert main(["example", *files, *output, "--subreddit", subreddit]) == 0
    assert pd.read_csv(study / "table2.csv")["summary"].tolist() == [summary]
    rendered = ["--csv", f"{study}/table2.csv", "--output", f"{study}/table2.md"]
    assert main(["render", *rendered]) == 0
    markdown = (study / "table2.md").read_text()
    assert markdown.startswith(f"{prompt}\n\n| method |")
    assert main(["example", *files, *output, "--subreddit", "cats"]) == 1
    message = "prompts.example: no test prompt is of r/cats; accepted: dogs, relationship_advice"
    assert message in capsys.readouterr().err


def test_histories_that_were_watched_are_gathered(study, capsys):
    columns = [
        "episodes",
        "objective",
        "reward",
        "kl",
        "clip_fraction",
        "grad_norm",
        "learning_rate",
        "seconds",
    ]
    history = pd.DataFrame({"step": [0, 1], **dict.fromkeys(columns, 1.0)})
    path, words = study / "run/history.parquet", ["monitored", "--runs", f"{study}/run/run.json"]
    write_table(path, history, "history")
    assert main([*words, "--output", f"{study}/monitored.csv"]) == 1
    assert "no run has column 'evaluator_reward'; set rewards.monitored" in capsys.readouterr().err
    write_table(path, history.assign(evaluator_reward=[2.0, 3.0]), "history")
    assert main([*words, "--output", f"{study}/monitored.csv"]) == 0
    table = pd.read_csv(study / "monitored.csv")
    assert table["evaluator_reward"].tolist() == [2.0, 3.0]
    assert set(table["method"]) == {"ppo"}

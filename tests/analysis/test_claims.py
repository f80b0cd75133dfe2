"""Each claim on tables made to support it, to contradict it, to leave it open, and without data."""

import numpy as np
import pandas as pd
import pytest

from vbon.analysis import orderings as tradeoffs
from vbon.analysis import temperatures
from vbon.analysis.claims import CLAIMS, COLUMNS, claims_table
from vbon.analysis.claims.base import binding
from vbon.analysis.claims.page import claims_page
from vbon.analysis.verdicts import NOT_SUPPORTED, SUPPORTED, UNDECIDED, Rule, Statistic
from vbon.cli import main

BY_KEY = {claim.key: claim for claims in CLAIMS.values() for claim in claims}
ORDERINGS = {  # key of a claim: key of the ordering that it takes together
    "best_of_n_is_on_top": "best_of_n_above_fine_tuned",
    "vbon_is_closest": "vbon_closest_to_best_of_n",
    "vbon_has_the_largest_share": "vbon_largest_share",
    "dpo_wins_more": "dpo_above_ppo",
    "dpo_has_less_reward": "dpo_below_ppo",
    "bon_sft_is_worst": "bon_sft_worst",
    "exact_equals_bound": "exact_equals_bound",
}
SECTION6 = {
    "best_of_n_is_best": ["best_of_n_best"],
    "vbon_is_above_ppo": ["vbon_above_ppo"],
    "vbon_equals_ppo": ["vbon_equals_ppo"],
    "vbon_needs_less_kl": ["vbon_as_good_as_ppo", "vbon_less_kl_than_ppo"],
    "offline_methods_keep_up_at_first": ["offline_competitive", "offline_not_competitive"],
    "domains_agree": ["domains_equal", "domains_differ"],
}
ABOVE = Rule(low=0)
ENDS = {SUPPORTED: (0.1, 0.3), UNDECIDED: (-0.1, 0.3), NOT_SUPPORTED: (-0.3, -0.1)}
LETTERS = {"+": SUPPORTED, "?": UNDECIDED, "-": NOT_SUPPORTED}


def rows_of(key, verdicts, **columns):
    """Rows of a table of statistics, one per verdict, all read by the same rule."""
    rows = []
    for verdict in (LETTERS[letter] for letter in verdicts):
        statistic = Statistic("gap", sum(ENDS[verdict]) / 2, *ENDS[verdict], ABOVE, key=key)
        assert statistic.verdict == verdict
        rows.append(statistic.row())
    return pd.DataFrame(rows).assign(**columns)


def orderings(key, verdicts, note=np.nan):
    columns = {"axes": "win_rate", "note": note}
    return rows_of(key, verdicts, **columns).drop(columns=["metric", "temperature"])


def section6(keys, verdicts):
    columns = {"temperature": 0.5, "metric": "evaluator_reward"}
    parts = [rows_of(k, v, **columns) for k, v in zip(keys, verdicts, strict=True)]
    return pd.concat(parts, ignore_index=True).drop(columns="note")


@pytest.mark.parametrize("key", ORDERINGS)
@pytest.mark.parametrize(
    ("read", "verdict"), [("++", SUPPORTED), ("+-", NOT_SUPPORTED), ("+?", UNDECIDED)]
)
def test_orderings_are_taken_together(key, read, verdict):
    other = orderings("another", "---")
    table = pd.concat([other, orderings(ORDERINGS[key], read)])
    row = BY_KEY[key].row({"orderings": table})
    assert row["verdict"] == verdict
    assert (row["low"], row["high"]) == ENDS[verdict]
    assert row["note"].startswith("2 of 2 supported" if read == "++" else "1 of 2 supported, 1 of")
    assert row["note"].endswith("from tables/orderings.csv")


@pytest.mark.parametrize("key", SECTION6)
@pytest.mark.parametrize(
    ("read", "verdict"), [("+", SUPPORTED), ("-", NOT_SUPPORTED), ("?", UNDECIDED)]
)
def test_temperatures_are_taken_together(key, read, verdict):
    keys = SECTION6[key]
    tables = {"section6": section6(keys, ["+++"] * (len(keys) - 1) + ["++" + read])}
    row = BY_KEY[key].row(tables)
    assert row["verdict"] == verdict
    assert row["statistic"] == "evaluator reward at t = 0.5: gap"
    assert f"{3 * len(keys) - (read != '+')} of {3 * len(keys)} supported" in row["note"]
    lacking = tables["section6"].replace({"key": {keys[-1]: "another"}})
    without = BY_KEY[key].row({"section6": lacking})
    assert without["verdict"] == UNDECIDED
    assert f"section6.csv has no row {keys[-1]!r}" in without["note"]


def test_equal_coefficients_are_reported_and_do_not_decide():
    keys = ["vbon_above_ppo", "vbon_above_ppo_equal_coefficient"]
    row = BY_KEY["vbon_is_above_ppo"].row({"section6": section6(keys, ["++", "+?-"])})
    assert row["verdict"] == SUPPORTED
    expected = "at equal coefficients 1 of 3 supported, 1 of 3 undecided, 1 of 3 not supported"
    assert expected in row["note"]
    assert "evaluator reward: gap is -0.200 at t = 0.5;" in row["note"]


def test_settings_above_best_of_n_are_named_beside_the_verdict_at_the_paper_s_settings():
    keys = ["best_of_n_best", "best_of_n_best_paper", "best_of_n_above_setting"]
    table = section6(keys, ["+-", "++", "-+"])
    table.loc[4, "statistic"] = "BoN n100 minus PPO beta0.0101"
    row = BY_KEY["best_of_n_is_best"].row({"section6": table})
    assert row["verdict"] == NOT_SUPPORTED
    assert "at the paper's settings 2 of 2 supported; evaluator reward: BoN n100" in row["note"]
    assert "BoN n100 minus PPO beta0.0101 is -0.200 at t = 0.5; from" in row["note"]


def test_claims_take_keys_that_the_tables_have():
    assert set(ORDERINGS.values()) <= set(tradeoffs.NAMES)
    assert {key for keys in SECTION6.values() for key in keys} <= set(temperatures.NAMES)


def statistic(value, low, high, rule=ABOVE):
    return Statistic("s", value, low, high, rule)


def test_the_row_shows_the_statistic_that_decides():
    sure, near, open_, failed = (
        statistic(0.5, 0.4, 0.6),
        statistic(0.02, 0.01, 0.03),
        statistic(0.1, -0.1, 0.3),
        statistic(-0.5, -0.6, -0.4),
    )
    assert binding([sure, open_, failed, near]) is failed
    assert binding([sure, open_, near]) is open_
    assert binding([sure, near]) is near  # 2 widths of its interval inside; the other one 2.5
    assert binding([failed, statistic(-0.9, -1, -0.8)]).value == -0.9
    # In widths of the intervals, so that statistics of other units can be compared.
    assert binding([statistic(0.3, 0.2, 0.4), statistic(15.0, 14, 16)]).value == 0.3
    assert binding([statistic(0.0, -0.01, 0.01, Rule.within(0.02)), sure]).value == 0.0
    lacking = statistic(np.nan, np.nan, np.nan)
    assert binding([lacking, open_]) is lacking


def test_a_statistic_survives_its_table(tmp_path):
    """Every rule, ranges without an end among them, and a verdict that no rule gives."""
    where = {"key": "k", "metric": "win_rate", "temperature": 0.5, "note": "n"}
    rules = [ABOVE, Rule(high=0.1), Rule.within(0.2, "words"), Rule(0.4, 0.4, "the number")]
    before = [Statistic("s", 0.4, 0.3, 0.5, Rule(r.low, r.high, str(r)), **where) for r in rules]
    before.append(Statistic("s", 0.4, 0.3, 0.5, before[0].rule, verdict=UNDECIDED, **where))
    pd.DataFrame([one.row() for one in before]).to_csv(tmp_path / "table.csv", index=False)
    rows = pd.read_csv(tmp_path / "table.csv").to_dict("records")
    assert [Statistic.of(row) for row in rows] == before
    verdicts = [SUPPORTED, NOT_SUPPORTED, NOT_SUPPORTED, SUPPORTED, UNDECIDED]
    assert [one.verdict for one in before] == verdicts


def test_methods_that_were_not_run_are_named():
    key = "best_of_n_is_on_top"
    table = orderings(ORDERINGS[key], "++", note="no runs of bonbon")
    assert "no runs of bonbon" in BY_KEY[key].row({"orderings": table})["note"]
    table.loc[1, ["value", "low", "high"]] = np.nan
    table.loc[1, "verdict"] = UNDECIDED
    row = BY_KEY[key].row({"orderings": table})
    assert row["verdict"] == UNDECIDED
    assert np.isnan(row["value"])
    lacking = statistic(np.nan, np.nan, np.nan)
    assert str(lacking) == "s (no number) undecided"
    single = statistic(0.1, np.nan, np.nan)
    assert str(single) == "s 0.1 (no interval; interval above 0) undecided"


def table1(rejected=1, error=0.027, prompts=500):
    rows = [
        {"variant": "nested", "m": 200, "rejection_rate": rejected / prompts, "rmse_90": 0.01},
        {"variant": "independent", "m": 200, "rejection_rate": 0.5, "rmse_90": error},
        {"variant": "nested", "m": 5, "rejection_rate": 0.9, "rmse_90": 0.9},
    ]
    return pd.DataFrame(rows).assign(prompts=prompts)


@pytest.mark.parametrize(
    ("rejected", "verdict"), [(1, SUPPORTED), (60, NOT_SUPPORTED), (25, UNDECIDED)]
)
def test_rejections_of_nested_samples(rejected, verdict):
    row = BY_KEY["nested_samples_pass"].row({"table1": table1(rejected)})
    assert row["verdict"] == verdict
    assert row["value"] == pytest.approx(rejected / 500)
    assert row["low"] < row["value"] < row["high"]


def test_the_binomial_interval_is_exact():
    row = BY_KEY["nested_samples_pass"].row({"table1": table1(0, prompts=20)})
    assert row["low"] == 0
    assert row["high"] == pytest.approx(1 - 0.025 ** (1 / 20))  # P(none of 20) = 2.5 %


@pytest.mark.parametrize(
    ("error", "verdict"), [(0.027, SUPPORTED), (0.06, NOT_SUPPORTED), (0.035, UNDECIDED)]
)
def test_the_error_of_log_f(error, verdict):
    row = BY_KEY["log_f_settles"].row({"table1": table1(error=error)})
    assert row["verdict"] == verdict
    # Over prompts the squared error has a relative standard deviation of the root of 2 / 500.
    width = 2 * 1.96 * 9 * error / np.sqrt(1000)
    assert row["high"] - row["low"] == pytest.approx(width, rel=0.05)


def test_the_error_that_settles_is_tied_to_n():
    """The KL between tilts by (n - 1) log F and by an estimate of it, at the limit of the error."""
    from vbon.analysis.claims.draws import LIMIT, LOST

    error = np.random.default_rng(0).normal(scale=LIMIT, size=200_000)
    assert np.log(np.mean(np.exp(error))) - error.mean() == pytest.approx(LOST, rel=0.05)
    note = BY_KEY["log_f_settles"].row({"table1": table1(error=0.02)})["note"]
    assert "below the limit up to n = 16;" in note


def figure4(gap, spread, sizes=(16, 32, 512), seeds=3):
    rng = np.random.default_rng(0)
    rows = [
        {"m": m, "seed": seed, "status": "ok", "win_rate": 0.8 + (gap if m == 32 else 0)}
        for m in sizes
        for seed in range(seeds)
    ]
    table = pd.DataFrame(rows)
    table["win_rate"] += 0.05 * table["seed"] + spread * rng.normal(size=len(table))
    return table


@pytest.mark.parametrize(
    ("gap", "spread", "verdict"),
    [(0.0, 0.002, SUPPORTED), (-0.06, 0.002, NOT_SUPPORTED), (0.0, 0.03, UNDECIDED)],
)
def test_few_draws_against_many(gap, spread, verdict):
    row = BY_KEY["few_draws_are_competitive"].row({"figure4": figure4(gap, spread)})
    assert row["verdict"] == verdict
    assert row["rule"] == "two one-sided tests at 5 %: 90 % interval within ± 0.02"


def test_few_draws_are_paired_by_seed_and_a_lost_run_is_left_out():
    table = figure4(0.004, 0)
    row = BY_KEY["few_draws_are_competitive"].row({"figure4": table})
    assert row["value"] == pytest.approx(0.004)
    assert row["high"] - row["low"] == pytest.approx(0, abs=1e-9)  # seeds differ by 0.05
    table.loc[0:7, "status"] = "diverged"  # of M = 512 one seed is left
    lost = BY_KEY["few_draws_are_competitive"].row({"figure4": table})
    assert lost["verdict"] == UNDECIDED
    small = BY_KEY["few_draws_are_competitive"].row({"figure4": figure4(0, 0.01, (8, 24))})
    assert small["verdict"] == UNDECIDED
    assert "has M = 8, 24: it needs 32" in small["note"]


def costs(ratio, spread=0.05, pool=0.0, runs=8):
    rng = np.random.default_rng(0)
    parts = []
    for method, scale, share in (("ppo", 10, 0.0), ("vbon", 10 * ratio, pool)):
        own = {"setting": [f"s{k}" for k in range(runs)], "seed": 0, "hardware": "x", "updates": 9}
        table = pd.DataFrame(own).assign(method=method)
        table["train_seconds"] = scale * np.exp(spread * rng.normal(size=runs))
        table["pool_sample_seconds"] = table["pool_score_seconds"] = share / 2
        parts.append(table)
    table = pd.concat(parts, ignore_index=True)
    return {"costs": table, "points": table[["method", "setting", "seed"]].assign(status="ok")}


TRAINS = "training_takes_as_long"
COSTS = "the_pool_included"


@pytest.mark.parametrize(
    ("ratio", "spread", "verdict"),
    [(1.02, 0.05, SUPPORTED), (1.6, 0.05, NOT_SUPPORTED), (1.5, 0.15, UNDECIDED)],
)
def test_training_seconds(ratio, spread, verdict):
    row = BY_KEY[TRAINS].row(costs(ratio, spread))
    assert row["verdict"] == verdict
    assert row["low"] < row["value"] < row["high"]


def test_seconds_of_a_busy_machine_decide_less():
    tables = costs(1.4, 0.02)
    assert BY_KEY[TRAINS].row(tables)["verdict"] == NOT_SUPPORTED
    tables["costs"].loc[0, "train_seconds"] *= 3
    row = BY_KEY[TRAINS].row(tables)
    assert row["verdict"] == UNDECIDED
    assert "runs of one method differ by a factor of 3" in row["note"]
    tables["costs"]["pool_sample_seconds"] *= 0
    tables["costs"].loc[tables["costs"]["method"] == "vbon", "pool_sample_seconds"] = 1e3
    assert BY_KEY[COSTS].row(tables)["verdict"] == NOT_SUPPORTED  # no other work explains that


def test_the_pool_is_charged_in_the_second_row_alone():
    tables = costs(1.0, 0.02, pool=20.0)
    assert BY_KEY[TRAINS].row(tables)["verdict"] == SUPPORTED
    dear = BY_KEY[COSTS].row(tables)
    assert dear["verdict"] == NOT_SUPPORTED
    assert dear["value"] == pytest.approx(3, rel=0.05)
    assert BY_KEY[COSTS].row(costs(1.0, 0.02, pool=0.5))["verdict"] == SUPPORTED


def test_only_runs_that_trained_and_did_not_diverge_are_timed():
    tables = costs(1.0, 0.02)
    expected = BY_KEY[TRAINS].row(tables)["value"]
    extra = tables["costs"].iloc[[0, 15]].assign(setting="n1", updates=[0, 9], train_seconds=1e6)
    tables["costs"] = pd.concat([tables["costs"], extra])
    status = extra[["method", "setting", "seed"]].assign(status=["ok", "diverged"])
    tables["points"] = pd.concat([tables["points"], status])
    assert BY_KEY[TRAINS].row(tables)["value"] == pytest.approx(expected)
    one = {name: table.iloc[:9] for name, table in costs(1.0).items()}
    assert "1 of vbon among trained runs" in BY_KEY[TRAINS].row(one)["note"]


def studies(shift=0.0, method="vbon", control=0.1):
    names = ["best_of_n", "bon_sft", "bonbon", "vbon", "ppo"]
    table = pd.DataFrame({"method": names, "setting": "n4", "seed": 0, "status": "ok"})
    table = table.assign(kl=1.0, kl_se=0.02, win_rate=0.8, win_rate_se=0.02)
    mapped = table.copy()
    mapped.loc[mapped["method"] == method, "kl"] += shift
    mapped.loc[mapped["method"] == "ppo", "win_rate"] += control
    return {"identity": table, "invariance": mapped}


RANKS = "ranks_alone_count"


def test_ranks_alone_count():
    row = BY_KEY[RANKS].row(studies())
    assert (row["verdict"], row["value"]) == (SUPPORTED, 0)
    assert "PPO changes its win rate by 0.1 (se 0.028)" in row["note"]
    for method in ("best_of_n", "bon_sft", "bonbon", "vbon"):
        assert BY_KEY[RANKS].row(studies(1e-8, method))["verdict"] == NOT_SUPPORTED
    assert BY_KEY[RANKS].row(studies(1e-12))["verdict"] == SUPPORTED


def test_without_a_control_the_test_is_void():
    row = BY_KEY[RANKS].row(studies(control=0.01))
    assert row["verdict"] == UNDECIDED
    assert row["note"].startswith("the control is void: PPO changes its win rate by 0.01")
    assert BY_KEY[RANKS].row(studies(1e-3, control=0.0))["verdict"] == NOT_SUPPORTED
    absent = {name: table.iloc[1:] for name, table in studies().items()}
    assert "no runs of best_of_n" in BY_KEY[RANKS].row(absent)["note"]


@pytest.mark.parametrize("group", CLAIMS)
def test_without_tables_every_claim_is_undecided_and_names_what_is_missing(group):
    table = claims_table([group], {})
    assert list(table.columns) == COLUMNS
    assert table["key"].tolist() == [claim.key for claim in CLAIMS[group]]
    assert table["claim"].tolist() == [claim.name for claim in CLAIMS[group]]
    assert (table["verdict"] == UNDECIDED).all()
    assert table["note"].str.contains(r"\.csv is missing: ").all()


def test_groups_are_put_together_in_their_order():
    table = claims_table(["cost", "tradeoff"], {})
    assert table["key"].tolist() == [c.key for g in ("cost", "tradeoff") for c in CLAIMS[g]]
    assert claims_table([], {}).empty


def test_claims_have_names_keys_and_definitions_of_their_own():
    claims = [claim for group in CLAIMS.values() for claim in group]
    assert len(BY_KEY) == len({claim.name for claim in claims}) == len(claims) == 19
    assert list(CLAIMS) == ["tradeoff", "draws", "cost", "summaries", "invariance"]
    for claim in claims:
        assert all(word in claim.definition for word in ("Statistic", "Interval:", "Rule:"))
        assert claim.source


def test_the_page_lists_every_claim_with_its_group_and_definition():
    page = claims_page()
    headings = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]
    assert headings == [claim.name for claim in BY_KEY.values()]
    for group, claims in CLAIMS.items():
        for claim in claims:
            assert claim.definition.rstrip() in page
            assert f"Paper: {claim.source}. Group: `{group}`. Key: `{claim.key}`." in page


def test_the_verb_reads_tables_and_writes_one_row_per_claim(tmp_path):
    folder = tmp_path / "tables"
    folder.mkdir()
    table = orderings("best_of_n_above_fine_tuned", "++")
    table.to_csv(folder / "orderings.csv", index=False)
    output = folder / "claims.csv"
    words = ["--evidence", f"orderings={folder}/orderings.csv", "--output", str(output)]
    assert main(["claims", "--groups", "tradeoff", "draws", "cost", *words]) == 0
    table = pd.read_csv(output).set_index("key")
    assert len(table) == 12
    assert table["verdict"]["best_of_n_is_on_top"] == SUPPORTED
    assert table["claim"]["best_of_n_is_on_top"] == "BoN is on top"
    assert table["note"]["log_f_settles"].startswith("tables/table1.csv is missing")
    assert output.with_suffix(".json").exists()


def test_a_table_of_other_code_leaves_its_claims_open():
    key = "best_of_n_is_on_top"
    table = orderings(ORDERINGS[key], "++")
    row = BY_KEY[key].row({"orderings": table.replace({"verdict": {SUPPORTED: "seen"}})})
    assert row["verdict"] == UNDECIDED
    assert "['seen']" in row["note"]
    older = BY_KEY[key].row({"orderings": table.drop(columns="key")})
    assert older["verdict"] == UNDECIDED
    assert "no column 'key'" in older["note"]

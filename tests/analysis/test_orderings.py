"""Each claim on sweeps made to support it, to contradict it and to leave it open."""

import numpy as np
import pandas as pd
import pytest
from sweep import study, sweep

from vbon.analysis.attainment import sweeps
from vbon.analysis.equivalence import equivalence_table
from vbon.analysis.orderings import (
    COLUMNS,
    PAPER_SHARES,
    POOL,
    best_of_n_beats_the_rest,
    best_of_n_beats_vbon,
    bon_sft_is_worst,
    common_levels,
    dpo_against_ppo,
    exact_equals_bound,
    gap_at_matched_kl,
    gap_in_area,
    orderings_table,
    shares_agree_with_the_paper,
    vbon_beats_the_rest,
    vbon_has_the_largest_share,
    vbon_is_closest_to_best_of_n,
)
from vbon.analysis.pareto import membership

METRICS = ["win_rate", "reward_prob", "evaluator_reward"]
# The paper's picture: vBoN nearest to BoN, DPO cheap in KL with a loss of reward, BoN-SFT dear.
PICTURE = {
    "bon_sft": (6.0, 2.0),
    "ppo": (1.3, 0.9),
    "dpo": (0.4, 0.3),
    "bonbon": (2.0, 1.0),
    "vbon": (0.12, 0.14),
    "vbon_l": (0.12, 0.14),
}
LOSS = {"reward_prob": {"dpo": 0.22}}


@pytest.fixture(scope="module")
def supporting():
    return sweep(excess=PICTURE, lost=LOSS)


def renamed(points, first, second):
    """The same sweep with two methods' names exchanged, which turns every claim about them."""
    return points.assign(method=points["method"].replace({first: second, second: first}))


def verdicts(points, claim, equivalence=None):
    """Verdicts of one claim's rows."""
    table = orderings_table(points, 0, 100, equivalence=equivalence, claims=(claim,))
    return table["verdict"].tolist()


CASES = [
    (best_of_n_beats_vbon, ("best_of_n", "vbon"), 4),
    (best_of_n_beats_the_rest, ("best_of_n", "vbon"), 2),
    (vbon_beats_the_rest, ("vbon", "ppo"), 4),
    (vbon_is_closest_to_best_of_n, ("vbon", "bonbon"), 2),
    (dpo_against_ppo, ("dpo", "ppo"), 4),
    (bon_sft_is_worst, ("bon_sft", "vbon"), 4),
]


@pytest.mark.parametrize(("claim", "names", "rows"), CASES)
def test_trade_off_claims(supporting, claim, names, rows):
    assert verdicts(supporting, claim) == ["supported"] * rows
    assert verdicts(renamed(supporting, *names), claim) == ["not supported"] * rows


@pytest.mark.parametrize(("claim", "names", "rows"), CASES)
def test_trade_off_claims_stay_open_where_methods_are_alike(supporting, claim, names, rows):
    """The second method's runs, noise and all, under the first one's name as well."""
    one, other = names
    spread = 0.03 * np.random.default_rng(1).normal(size=len(supporting))
    noisy = supporting.assign(**{name: supporting[name] + spread for name in METRICS})
    alike = pd.concat(
        [
            supporting[supporting["method"] != one],
            noisy[noisy["method"] == other].assign(method=one),
        ]
    )
    if claim is bon_sft_is_worst:  # alike with all of its rivals, not with vBoN alone
        alike = alike[alike["method"].isin(["reference", "best_of_n", one, other])]
    if claim is vbon_is_closest_to_best_of_n:
        alike = alike[alike["method"].isin(["reference", "best_of_n", one, other])]
    found = verdicts(alike, claim)
    assert "undecided" in found
    assert len(found) == rows


@pytest.mark.parametrize(
    ("shift", "verdict"), [(0.0, "supported"), (0.08, "not supported"), (0.02, "undecided")]
)
def test_exact_and_bound_at_matched_kl(shift, verdict):
    points = sweep(excess=PICTURE, diverged=False)
    points["win_rate"] -= shift * (points["method"] == "vbon_l")
    assert verdicts(points, exact_equals_bound) == [verdict]


@pytest.mark.parametrize(
    ("shift", "spread", "verdict"),
    [(0.0, 0.002, "supported"), (0.06, 0.002, "not supported"), (0.0, 0.2, "undecided")],
)
def test_exact_and_bound_in_the_study(supporting, shift, spread, verdict):
    pairs = equivalence_table(supporting, study(supporting, spread, shift))
    table = orderings_table(supporting, 0, 20, equivalence=pairs, claims=(exact_equals_bound,))
    row = table.iloc[1]
    assert row["verdict"] == verdict
    assert row["low"] < pairs.iloc[-1]["low"] < row["value"]  # 95 % is wider than 90 %


def test_largest_share(supporting):
    claim = vbon_has_the_largest_share
    assert verdicts(supporting, claim) == ["supported", "supported"]
    assert verdicts(renamed(supporting, "vbon", "bonbon"), claim) == [
        "not supported",
        "not supported",
    ]


def staircase(counts, noise=0.0):
    """A front with the given number of runs of each method, spread evenly over the KLs."""
    names = np.repeat(list(counts), list(counts.values()))
    names = np.random.default_rng(0).permutation(names)
    kl = np.linspace(0.1, 5, len(names))
    frame = pd.DataFrame({"method": names, "status": "ok", "kl": kl, "seed": 0})
    frame["setting"] = [f"s{k:.3f}" for k in kl]
    rises = np.linspace(0.5, 0.95, len(names))
    return frame.assign(win_rate=rises, reward_prob=rises, win_rate_se=noise)


def test_shares_against_the_papers():
    found = {}
    for axis, expected in PAPER_SHARES.items():
        counts = {method: round(100 * share) for method, share in expected.items()}
        table = orderings_table(staircase(counts), 0, 100, claims=(shares_agree_with_the_paper,))
        found[axis] = table[table["axes"] == axis]
        assert (found[axis]["verdict"] == "supported").all()
        assert found[axis]["value"].to_numpy() == pytest.approx(found[axis]["paper"].to_numpy())
    other = staircase({"vbon": 5, "dpo": 5, "ppo": 90, "bonbon": 5})
    table = orderings_table(other, 0, 100, claims=(shares_agree_with_the_paper,))
    assert (
        table.set_index(["claim", "axes"])["verdict"]["share of ppo", "win_rate"] == "not supported"
    )
    assert (
        table.set_index(["claim", "axes"])["verdict"]["share of vbon", "win_rate"]
        == "not supported"
    )


def test_shares_are_those_of_the_captions_four_methods(supporting):
    table = orderings_table(supporting, 0, 20, claims=(shares_agree_with_the_paper,))
    four = supporting[supporting["method"].isin(POOL)]
    for axis, rows in table.groupby("axes"):
        assert rows["value"].sum() == pytest.approx(1)
        front = four["method"][membership(four, "all", axis)["on_front"]].value_counts()
        for row in rows.itertuples():
            share = front.get(row.claim.removeprefix("share of "), 0) / front.sum()
            assert row.value == pytest.approx(share)


def test_gaps_by_hand():
    """Two noiseless lines over the root of KL, 0.1 apart: both ways of comparing see 0.1."""
    kl = np.linspace(0.25, 4, 30)
    line = pd.DataFrame({"status": "ok", "kl": kl, "setting": [f"s{k}" for k in kl]})
    line["win_rate"] = 0.6 + 0.1 * np.sqrt(kl)
    both = pd.concat(
        [line.assign(method="a"), line.assign(method="b", win_rate=line["win_rate"] - 0.1)]
    )
    found = sweeps(both, "win_rate", 0, 5)
    levels = common_levels(found)
    value, drawn = gap_at_matched_kl(levels["a"], levels["b"])
    assert (value, *drawn) == pytest.approx([0.1] * 6)
    area = gap_in_area(found["a"], found["b"], 0.0)[0]
    assert area == pytest.approx(0.1 * (4 - 0.25) / 4)  # neither has anything below 0.25 nats
    apart = line.assign(method="c", kl=line["kl"] + 10)
    far = common_levels(sweeps(pd.concat([both, apart]), "win_rate", 0, 5))
    assert np.isnan(gap_at_matched_kl(far["a"], far["c"])[0])


def test_the_table_lists_every_claim(supporting):
    pairs = equivalence_table(supporting, study(supporting))
    table = orderings_table(supporting, 0, 50, equivalence=pairs)
    assert list(table.columns) == COLUMNS
    assert set(table["verdict"]) <= {"supported", "not supported", "undecided"}
    assert len(table) == 4 + 2 + 4 + 2 + 4 + 4 + 2 + 2 + 8
    assert (table["low"] <= table["high"]).all()
    assert table["rule"].notna().all()
    again = orderings_table(supporting, 0, 50, equivalence=pairs)
    pd.testing.assert_frame_equal(table, again, check_exact=True)


def test_methods_that_were_not_run_are_named(supporting):
    few = supporting[supporting["method"].isin(["reference", "best_of_n", "ppo", "vbon"])]
    table = orderings_table(few, 0, 20)
    notes = table.set_index("claim")["note"]
    assert (notes["DPO better than PPO in win rate"] == "no runs of dpo").all()
    assert (notes["BoN-SFT has the worst trade-off"] == "no runs of bon_sft, dpo, bonbon").all()
    assert (notes["vBoN > others"] == "no runs of dpo, bonbon").all()  # but still compared with PPO
    rest = table[table["value"].isna()]
    assert (rest["verdict"] == "undecided").all()
    assert table.set_index("claim")["value"]["vBoN > others"].notna().all()


def test_a_task_without_a_probability_keeps_its_other_claims(supporting):
    table = orderings_table(supporting.drop(columns="reward_prob"), 0, 20)
    lost = table[table["axes"] == "reward_prob"]
    assert (lost["verdict"] == "undecided").all()
    assert table.loc[table["axes"] == "win_rate", "value"].notna().all()

"""Two results folders: what is marked, what is not, and what is said of where they come from."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from sweep import complete

from vbon.analysis.compare import FALSE_MARKS, METRICS, changed_claims, compare_points, runs_of_one
from vbon.cli import main

SE = {
    "kl": 0.02,
    "win_rate": 0.006,
    "reward": 0.03,
    "reward_prob": 0.006,
    "evaluator_win_rate": 0.006,
}


def sweep(seed, training=1.0, methods=("ppo", "vbon"), settings=20, seeds=3):
    """Points of settings with the same truth, noise of prompts and of training apart.

    Args:
        seed: Of the noise.
        training: Standard deviation that training adds, in standard errors over prompts.
    """
    rng = np.random.default_rng(seed)
    rows = [
        {"method": method, "setting": f"s{k}", "seed": s, "level": 0.5 + 0.4 * k / settings}
        for method in methods
        for k in range(settings)
        for s in range(seeds)
    ]
    table = pd.DataFrame(rows).assign(task="sentiment", study="", status="ok", domain="all")
    table = table.assign(temperature=1.0, sample_seed=0, num_prompts=256)
    spread = np.hypot(1, training)
    for metric, se in SE.items():
        table[metric] = table["level"] + spread * se * rng.normal(size=len(table))
        table[f"{metric}_se"] = se
    return table.drop(columns="level")


def test_the_same_points_have_no_differences():
    table = compare_points(sweep(0), sweep(0))
    assert len(table) == 2 * 20 * len(METRICS)
    assert (table["difference"] == 0).all()
    assert (table["p"] == 1).all()
    assert not table["differs"].any()


@pytest.mark.parametrize("training", [0.0, 3.0])
def test_noise_alone_is_rarely_marked(training):
    """Under the null any mark is false: at most 5 % of comparisons may have one.

    Of 8 comparisons that is 0.4, with a standard deviation of 0.6.
    """
    marked = [
        compare_points(*(sweep(2 * k + one, training, settings=10) for one in (0, 1)))["differs"]
        for k in range(8)
    ]
    assert sum(own.any() for own in marked) <= 8 * FALSE_MARKS + 3 * 0.6


def test_standard_errors_grow_with_the_spread_of_seeds():
    calm, wild = (compare_points(sweep(0, x), sweep(1, x)).set_index("metric") for x in (0, 3))
    known = np.sqrt(2 * 0.006**2 / 3)  # of a mean of three differences
    assert calm.loc["win_rate", "se"].median() == pytest.approx(known, rel=0.25)
    # phi is a mean of 40 squares a method: its root has a relative error of 1 / sqrt(160) = .08.
    assert wild.loc["win_rate", "se"].median() == pytest.approx(known * np.sqrt(10), rel=0.25)
    assert (wild["df"] == 40).all()


def test_a_method_that_moved_is_marked_and_others_are_not():
    after = sweep(1)
    after.loc[after["method"] == "vbon", "win_rate"] += 0.05  # 6 standard errors of a mean of three
    table = compare_points(sweep(0), after)
    own = table[(table["method"] == "vbon") & (table["metric"] == "win_rate")]
    assert own["differs"].mean() > 0.9
    assert own["difference"].mean() == pytest.approx(0.05, abs=4 * 0.01 / np.sqrt(60))
    assert table.loc[table["method"] == "ppo", "differs"].mean() < 0.02


def test_a_single_seed_is_judged_by_its_prompts():
    before, after = sweep(0, 0, seeds=1), sweep(0, 0, seeds=1)
    after.loc[0, "kl"] += 0.02 * np.sqrt(2) * 6
    table = compare_points(before, after)
    row = table[(table["setting"] == "s0") & (table["metric"] == "kl")].iloc[0]
    assert row["se"] == pytest.approx(0.02 * np.sqrt(2))
    assert row["df"] == 510
    assert table["differs"].sum() == 1


def test_rounding_of_closed_forms_and_unknown_noise_are_not_marked():
    before = sweep(0, seeds=1).assign(kl_se=0.0, win_rate_se=np.nan)
    after = before.assign(kl=before["kl"] * (1 + 1e-14), win_rate=0.1)
    table = compare_points(before, after)
    assert not table["differs"].any()
    assert table.loc[table["metric"] == "win_rate", "p"].isna().all()
    moved = compare_points(before, before.assign(kl=before["kl"] + 1e-6))
    assert moved.loc[moved["metric"] == "kl", "differs"].all()  # no noise could do that


def test_sample_seeds_are_averaged_and_planes_told_apart():
    parts = [
        sweep(0, 0, seeds=2).assign(sample_seed=s, temperature=t) for s in (0, 1) for t in (0.5, 1)
    ]
    table = compare_points(pd.concat(parts), pd.concat(parts))
    assert len(table) == 2 * 20 * 2 * len(METRICS)
    assert (table["seeds"] == 2).all()
    assert set(table["temperature"]) == {0.5, 1.0}
    shifted = [part.assign(win_rate=part["win_rate"] + 0.01 * part["seed"]) for part in parts]
    wide = compare_points(pd.concat(parts), pd.concat(shifted))
    assert (wide.loc[wide["metric"] == "win_rate", "df"].isin([20, 4 * 255])).all()  # not 40


def test_runs_and_verdicts_that_are_not_the_same():
    before, after = sweep(0).iloc[1:], sweep(0).iloc[:-1].copy()
    after.loc[5, "status"] = "diverged"
    only_a, only_b, ended = runs_of_one(before, after)
    assert only_a == ["sentiment vbon s19 seed 2"]
    assert only_b == ["sentiment ppo s0 seed 0"]
    assert ended == ["sentiment ppo s1 seed 2"]
    table = compare_points(before, after)
    assert table.set_index(["method", "setting"]).loc[("ppo", "s0"), "seeds"].tolist() == [2] * 5
    claims = pd.DataFrame({"task": "t", "claim": ["one", "two"], "verdict": ["supported"] * 2})
    other = claims.assign(verdict=["undecided", "supported"])
    assert changed_claims(claims, other).values.tolist() == [["t", "one", "supported", "undecided"]]


def by_prompt(seed, difficulty=0.2, noise=0.04, training=0.0, prompts=40, seeds=3, settings=10):
    """Points and means per prompt: difficulty is that of the prompts, noise and training new.

    The noise is independent on each prompt, training moves all prompts of a run.
    """
    rng = np.random.default_rng(seed)
    level = 0.5 + difficulty * np.random.default_rng(99).normal(size=prompts)
    rows = [
        pd.DataFrame({"method": "vbon", "setting": f"s{k}", "seed": s,
                      "prompt_id": [f"p{p}" for p in range(prompts)],
                      "win_rate": level + noise * rng.normal(size=prompts)
                      + training * rng.normal()})
        for k in range(settings) for s in range(seeds)
    ]  # fmt: skip
    means = pd.concat(rows).assign(task="sentiment", study="")
    groups = means.groupby(["task", "study", "method", "setting", "seed"], as_index=False)
    points = groups["win_rate"].mean().assign(win_rate_se=groups["win_rate"].sem()["win_rate"])
    same = {"status": "ok", "domain": "all", "temperature": 1.0, "num_prompts": prompts}
    return points.assign(**same), means


@pytest.mark.parametrize("training", [0.0, 0.03])
def test_paired_prompts_leave_the_noise_of_responses_and_training(training):
    """Two folders with 10 settings of 3 seeds: known variance of a mean of differences.

    The mean variance over settings has a relative error of 1 / sqrt(10) from training, whose phi
    has 20 degrees of freedom, so that of its root is at most 16 %.
    """
    (a, before), (b, after) = (by_prompt(k, training=training) for k in (0, 1))
    table = compare_points(a, b, means=(before, after))
    truth = np.sqrt(2 * (0.04**2 / 40 + training**2) / 3)
    assert np.sqrt((table["noise"] ** 2).mean()) == pytest.approx(truth, rel=4 * 0.16 / 2)
    if not training:
        assert (table["noise"] < table["se"] / 3).all()  # the difficulty of prompts cancels
    assert table["differs"].sum() == 0
    shifted = after.assign(win_rate=after["win_rate"] + 5 * truth)
    moved = compare_points(a, b.assign(win_rate=b["win_rate"] + 5 * truth), (before, shifted))
    assert moved["differs"].mean() > 0.8
    assert (moved["noise"] > 0.5 * table["noise"]).all()


def test_prompts_are_paired_only_where_they_are_equal():
    (a, before), (b, after) = (by_prompt(k) for k in (0, 1))
    other = after["prompt_id"].where(after["setting"] != "s3", after["prompt_id"] + "x")
    table = compare_points(a, b, (before, after.assign(prompt_id=other))).set_index("setting")
    assert table["noise"].isna().equals(table.index.to_series() == "s3")
    plain = compare_points(a, b).set_index("setting")
    assert plain["noise"].isna().all()
    assert table.loc["s3", ["se", "df"]].equals(plain.loc["s3", ["se", "df"]])
    equal = compare_points(a, a, (before, before))
    assert (equal["noise"] == 0).all()
    assert (equal["p"] == 1).all()
    domains = [pd.concat([t.assign(domain=d) for d in "ab"]) for t in (a, b)]
    assert compare_points(*domains, means=(before, after))["noise"].isna().all()


@pytest.fixture
def folders(tmp_path):
    """Two results folders with points, costs, a card and claims; the second one is a copy."""
    one = tmp_path / "a"
    task = one / "sentiment"
    (task / "tables").mkdir(parents=True)
    points = complete(sweep(0).drop(columns="study"))
    points.to_csv(task / "points.csv", index=False)
    (task / "studies/figure4").mkdir(parents=True)
    points[points["method"] == "vbon"].to_csv(task / "studies/figure4/points.csv", index=False)
    pd.DataFrame({"hardware": ["machine one"]}).to_csv(task / "costs.csv", index=False)
    card = {"settings": {"seed": 0, "bootstrap": 10}, "code": "x", "versions": {"torch": "1"}}
    (task / "tables/orderings.json").write_text(json.dumps(card))
    verdicts = pd.DataFrame({"claim": ["BoN is on top"], "verdict": ["supported"]})
    verdicts.to_csv(task / "tables/claims.csv", index=False)
    return one, shutil.copytree(one, tmp_path / "b")


def test_equal_folders_are_said_to_be_equal(folders, capsys):
    assert main(["compare", *map(str, folders), "--fail-on-difference"]) == 0
    told = capsys.readouterr().out
    assert "same bytes: 4 of 4 tables that both have" in told
    assert "among them sentiment/points.csv, sentiment/studies/figure4/points.csv" in told
    assert "300 of 300 rows are equal" in told  # 40 and 20 settings, five metrics
    assert "nothing is beyond noise" in told
    assert "->" not in told


def test_what_changed_is_told(folders, tmp_path, capsys):
    a, b = folders
    task = b / "sentiment"
    points = pd.read_csv(task / "points.csv")
    points.loc[points["setting"] == "s3", "kl"] += 1.0
    points.to_csv(task / "points.csv", index=False)
    pd.DataFrame({"hardware": ["machine two"]}).to_csv(task / "costs.csv", index=False)
    card = {"settings": {"seed": 0, "bootstrap": 20}, "code": "y", "versions": {"torch": "2"}}
    (task / "tables/orderings.json").write_text(json.dumps(card))
    claims = task / "tables/claims.csv"
    claims.write_text(claims.read_text().replace("supported", "undecided"))
    output = tmp_path / "rows.csv"
    assert main(["compare", str(a), str(b), "--output", str(output)]) == 0
    told = capsys.readouterr().out
    for line in (
        "same bytes: 1 of 4 tables",
        "hardware: machine one -> machine two",
        "versions: torch 1 -> 2",
        "code: another for 1 of 1 records",
        "setting: bootstrap 10 -> 20 (in 1 of 1 records)",
        "claim: sentiment: BoN is on top: supported -> undecided",
        "298 of 300 rows are equal",
    ):
        assert line in told
    marked = pd.read_csv(output, keep_default_na=False).query("differs == True")
    assert set(marked["setting"]) == {"s3"}
    assert set(marked["metric"]) == {"kl"}
    with pytest.raises(SystemExit) as ended:
        main(["compare", str(a), str(b), "--fail-on-difference"])
    assert ended.value.code == 1


def test_tables_of_prompt_means_are_read(folders, tmp_path):
    for folder, seed in zip(folders, (0, 1), strict=True):
        points, means = by_prompt(seed)
        shutil.rmtree(folder / "sentiment/studies")
        complete(points.drop(columns="study")).to_csv(folder / "sentiment/points.csv", index=False)
        columns = ["method", "setting", "seed", "prompt_id", "win_rate"]
        means[columns].to_csv(folder / "sentiment/tables/prompt_means.csv", index=False)
    output = tmp_path / "rows.csv"
    assert main(["compare", *map(str, folders), "--output", str(output)]) == 0
    rows = pd.read_csv(output, keep_default_na=False, na_values=[""])
    assert rows.loc[rows["metric"] == "win_rate", "noise"].notna().all()
    assert rows.loc[rows["metric"] != "win_rate", "noise"].isna().all()


def test_a_missing_run_fails_where_that_is_asked_for(folders):
    a, b = folders
    path = b / "sentiment/points.csv"
    pd.read_csv(path).iloc[:-1].to_csv(path, index=False)
    assert main(["compare", str(a), str(b)]) == 0
    with pytest.raises(SystemExit):
        main(["compare", str(a), str(b), "--fail-on-difference"])


def test_a_folder_without_points_names_what_was_looked_for(folders, tmp_path, capsys):
    assert main(["compare", str(folders[0]), str(tmp_path / "nowhere")]) == 1
    error = capsys.readouterr().err
    assert "nowhere: found neither {task}/points.csv nor {task}/studies/{name}/points.csv" in error
    assert error.count("\n") == 1


def claims_of(folder, **verdicts):
    """A results folder with claims: verdicts by task, in the order of their keys."""
    for task, words in verdicts.items():
        rows = [
            {
                "claim": f"claim {k}",
                "key": f"k{k}",
                "value": k,
                "low": 0,
                "high": 9,
                "verdict": word,
            }
            for k, word in enumerate(words)
        ]
        (folder / task / "tables").mkdir(parents=True)
        pd.DataFrame(rows).to_csv(folder / task / "tables/claims.csv", index=False)
    return folder


def test_a_claim_holds_if_both_data_seeds_support_it(tmp_path, capsys):
    words = ("supported", "undecided", "not supported")
    a = claims_of(tmp_path / "a", films=[one for one in words for _ in words], books=words)
    b = claims_of(tmp_path / "b", films=words * 3)
    output = tmp_path / "both.csv"
    assert main(["verdicts", str(a), str(b), "--output", str(output)]) == 0
    table = pd.read_csv(output)
    assert set(table["task"]) == {"films"}  # books are in one folder only
    holds = ["yes", "undecided", "no", "undecided", "undecided", "no", "no", "no", "no"]
    assert table["holds"].tolist() == holds
    assert "1 of 9 claims hold in both; only in one folder: books" in capsys.readouterr().out


def test_verdicts_need_claims_about_a_common_task(tmp_path, capsys):
    a = claims_of(tmp_path / "a", films=["supported"])
    b = claims_of(tmp_path / "b", books=["supported"])
    (tmp_path / "c").mkdir()
    assert main(["verdicts", str(a), str(b)]) == 1
    assert "about films" in (message := capsys.readouterr().err)
    assert "about books" in message
    assert main(["verdicts", str(a), str(tmp_path / "c")]) == 1
    assert f"{tmp_path / 'c'}: no {{task}}/tables/claims.csv" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"\x00\xff\x00", b'a,b\n"1,2\n', b"a\n1,2\n3,4,5\n"])
@pytest.mark.parametrize(
    "name", ["sentiment/points.csv", "sentiment/costs.csv", "sentiment/tables/claims.csv",
             "sentiment/tables/prompt_means.csv"],
)  # fmt: skip
def test_tables_that_are_no_tables_are_named(folders, capsys, name, content):
    path = folders[1] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    assert main(["compare", *map(str, folders)]) == 1
    printed = capsys.readouterr().err
    assert str(path) in printed
    assert len(printed.splitlines()) == 1


@pytest.mark.parametrize("content", [b"[]", b"{", b"null", b"", b"\xff", b"[" * 100_000])
def test_cards_that_are_no_cards_are_named(folders, capsys, content):
    for folder in folders:
        card = folder / "sentiment/tables/pareto.json"
        card.parent.mkdir(parents=True, exist_ok=True)
        card.write_bytes(content)
    assert main(["compare", *map(str, folders)]) == 1
    printed = capsys.readouterr().err
    assert "pareto.json is damaged" in printed
    assert len(printed.splitlines()) == 1

"""Figures 2, 6 and 7, drawn from a synthetic sweep of every method."""

import subprocess
import sys
from functools import cache

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from sweep import study, sweep

from vbon.analysis.attainment import attainment_bands, matched_table
from vbon.analysis.equivalence import equivalence_table
from vbon.analysis.pareto import membership, pareto_table
from vbon.errors import DataError
from vbon.figures import tradeoff
from vbon.figures.catalogue import FIGURES
from vbon.figures.style import method_styles
from vbon.figures.tradeoff import figure2, figure6
from vbon.objectives.frontier import kl_upper_bound, win_rate, win_rate_frontier


def contents(stem):
    return [stem.with_suffix(suffix).read_bytes() for suffix in (".pdf", ".svg", ".png", ".csv")]


@pytest.fixture(scope="module")
def points():
    """The sweep, and a method registered by a user."""
    whole = sweep()
    mine = whole[whole["method"] == "vbon_l"].head(8).assign(method="my_method")
    return pd.concat([whole, mine.assign(kl=mine["kl"] * 1.3)], ignore_index=True)


@pytest.fixture(scope="module")
def tables(points):
    """All tables that a figure may be drawn from."""
    return {
        "points": points,
        "attainment": attainment_bands(points, 0, 50),
        "pareto": pareto_table(points, 0, 50),
        "equivalence": equivalence_table(points, study(points)),
        "oracle_curves": None,
    }


@pytest.fixture(scope="module")
def drawn(tables, tmp_path_factory):
    """Folder in which whole figures are drawn once, and the table of the figure of a name."""
    folder = tmp_path_factory.mktemp("drawn")
    return folder, cache(lambda name: FIGURES[name](tables, folder / name))


@pytest.fixture(scope="module")
def win_rates(points, tmp_path_factory):
    """Stem of figure 2a and the table it returned."""
    stem = tmp_path_factory.mktemp("figures") / "new_folder" / "figure2a"
    return stem, figure2(points, "win_rate", stem, title="Figure 2a")


def test_the_table_beside_the_figure_is_the_one_drawn(win_rates):
    stem, table = win_rates
    read = pd.read_csv(f"{stem}.csv")
    pd.testing.assert_frame_equal(read, table, check_dtype=False, rtol=1e-15)
    assert set(read["series"]) == {"run", "best_of_n_mean", "best_of_n_analytic", "frontier"}


def test_every_run_is_in_the_table_with_its_fronts(points, win_rates):
    runs = win_rates[1].query("series == 'run'")
    assert len(runs) == len(points)
    marks = membership(points, "paper", "win_rate")
    for column, expected in [
        ("metric", points["win_rate"]),
        ("metric_se", points["win_rate_se"]),
        ("kl", points["kl"]),
        ("on_front", marks["on_front"]),
        ("on_method_front", marks["on_method_front"]),
    ]:
        assert np.array_equal(runs[column].to_numpy(float), expected.to_numpy(float), True)
    diverged = runs.query("status == 'diverged'")
    assert len(diverged) == 4
    assert diverged["kl"].isna().all()
    assert not diverged[["on_front", "on_method_front"]].any(axis=None)


def test_curves_obey_their_closed_forms(win_rates):
    curves = win_rates[1].groupby("series")
    frontier = curves.get_group("frontier")
    inner = frontier[(frontier["kl"] > 1e-3) & (frontier["kl"] < 6)]
    tilt = np.geomspace(0.1, 2000, 100_000)
    rate = 1 / (1 - np.exp(-tilt)) - 1 / tilt
    kl = np.log(tilt) - tilt - np.log(1 - np.exp(-tilt)) + tilt * rate
    expected = np.interp(inner["kl"], kl, rate)
    assert inner["metric"].to_numpy() == pytest.approx(expected, rel=0, abs=1e-8)
    bon = curves.get_group("best_of_n_analytic")
    odds = bon["metric"] / (1 - bon["metric"])  # n, whatever the formula for the KL
    assert odds.to_numpy() == pytest.approx(bon["n"].to_numpy())
    assert bon["kl"].to_numpy() == pytest.approx((np.log(odds) - 1 + 1 / odds).to_numpy(), abs=1e-9)
    assert 512 < bon["n"].max() <= 600 * (1 + 1e-12)  # the largest n of the table is BoN-SFT's 600
    assert (bon["metric"].to_numpy() <= win_rate_frontier(bon["kl"].to_numpy())).all()


@pytest.mark.slow
def test_two_draws_are_the_same_bytes_in_any_process_and_configuration(points, win_rates, tmp_path):
    """Another hash seed, another process and another user configuration change nothing."""
    points.to_pickle(tmp_path / "points.pkl")
    code = (
        "import sys, pathlib, pandas, matplotlib\n"
        "matplotlib.rcParams.update({'font.size': 20, 'axes.facecolor': 'red'})\n"
        "from vbon.figures.tradeoff import figure2\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "points = pandas.read_pickle(folder / 'points.pkl')\n"
        "figure2(points, 'win_rate', folder / 'figure2a', title='Figure 2a')\n"
        "print(*[name for name in ('torch', 'transformers', 'vllm', 'matplotlib.pyplot')"
        " if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        check=True, capture_output=True, text=True, env={"PYTHONHASHSEED": "77"},
    )  # fmt: skip
    assert done.stdout.split() == []  # figures import neither a model library nor pyplot
    assert contents(tmp_path / "figure2a") == contents(win_rates[0])


def test_files_carry_no_date(win_rates):
    pdf, svg, png, _ = contents(win_rates[0])
    assert b"CreationDate" not in pdf
    assert b"dc:date" not in svg
    assert b"tIME" not in png


def test_picture_shows_every_method_in_its_colour(win_rates):
    """The PNG has the promised size, and pixels of each method's colour (not only its legend)."""
    image = imread(win_rates[0].with_suffix(".png"))[..., :3]
    assert image.shape == (900, 960, 3)
    plot = image[60:620, 110:]
    for name, style in method_styles(win_rates[1].query("series == 'run'")["method"]).items():
        target = np.array(mpl.colors.to_rgb(style.colour))
        near = (np.abs(plot - target) < 0.02).all(axis=-1).sum()
        assert near > 30, f"{name} is not visible in the plot"


@pytest.mark.slow
def test_other_metrics_have_no_win_rate_curves(points, tmp_path):
    points = points.drop(columns="reward_prob_se")
    table = figure2(points, "reward_prob", tmp_path / "figure2b")
    assert set(table["series"]) == {"run", "best_of_n_mean"}
    assert table["metric_se"].isna().all()  # the table has no standard error of this metric
    runs = table.query("series == 'run'")
    assert np.array_equal(runs["metric"], points["reward_prob"], equal_nan=True)


def test_a_choice_of_methods_keeps_the_fronts_of_the_whole_sweep(points, tmp_path):
    table = figure2(points, "win_rate", tmp_path / "figure6", methods=["vbon", "vbon_l"])
    runs = table.query("series == 'run'")
    assert set(runs["method"]) == {"vbon", "vbon_l"}
    marks = membership(points, "paper", "win_rate")[points["method"].isin(["vbon", "vbon_l"])]
    assert runs["on_front"].tolist() == marks["on_front"].tolist()


def test_runs_beyond_the_limit_keep_their_numbers_in_the_table(points, tmp_path, monkeypatch):
    stem = tmp_path / "figure2a"
    far = points.assign(kl=points["kl"].where(points["method"] != "ppo", points["kl"] + 90))
    monkeypatch.setattr(tradeoff, "KL_LIMIT", 10.0)
    table = figure2(far, "win_rate", stem)
    assert table.query("series == 'run'")["kl"].max() > 90
    assert table.query("series == 'frontier'")["kl"].max() < 11  # the axis ends near the limit


def test_one_run_is_enough(points, tmp_path):
    one = points.query("method == 'vbon' and setting == 'n4' and seed == 0")
    table = figure2(one, "win_rate", tmp_path / "figure2a")
    assert (table["series"] == "run").sum() == 1


def test_points_are_left_alone_and_need_no_unique_index(points, tmp_path):
    before = points.copy()
    few = points.query("method in ['reference', 'vbon']").set_axis([0] * 34)
    assert len(figure2(few, "evaluator_reward", tmp_path / "figure")) == 34
    pd.testing.assert_frame_equal(points, before)


def test_unusable_tables_are_refused_before_anything_is_written(points, tmp_path):
    stem = tmp_path / "figure2a"
    with pytest.raises(DataError, match=r"points\.win_rate: column is missing"):
        figure2(points.drop(columns="win_rate"), "win_rate", stem)
    with pytest.raises(DataError, match="no run with status ok"):
        figure2(points.assign(status="diverged"), "win_rate", stem)
    with pytest.raises(DataError, match=r"points\.temperature: found 0\.5, 1\.0"):
        figure2(points.assign(temperature=[0.5] * 9 + [1.0] * (len(points) - 9)), "win_rate", stem)
    assert list(tmp_path.iterdir()) == []


def test_lower_panel_holds_attainment_minus_best_of_n(tables, drawn):
    """For the win rate against the closed form: what is drawn plus best-of-n is the attainment."""
    folder, draw = drawn
    table = draw("figure7a")
    read = pd.read_csv(folder / "figure7a.csv")
    pd.testing.assert_frame_equal(read, table, check_dtype=False, rtol=1e-15)
    panel = table[table["series"] == "below_best_of_n"]
    bands = tables["attainment"].query("axes == 'win_rate' and method != 'best_of_n'")
    assert set(panel["method"]) == set(bands["method"])
    merged = panel.merge(bands, on=["method", "kl"])
    assert len(merged) == len(bands)
    curve = table[table["series"] == "best_of_n_analytic"]
    inside = merged[merged["kl"].between(0.05, 5)]
    level = np.interp(inside["kl"], curve["kl"], curve["metric"])
    for drawn, whole in (("metric", "median"), ("metric_low", "low"), ("metric_high", "high")):
        assert (inside[drawn] + level).to_numpy() == pytest.approx(inside[whole], abs=2e-4)


def test_lower_panel_of_a_reward_is_against_the_measured_best_of_n(tables, drawn):
    table = drawn[1]("figure2b")
    panel = table[table["series"] == "below_best_of_n"]
    bands = tables["attainment"].query("axes == 'reward_prob'").set_index(["method", "kl"])
    best = table[table["series"] == "best_of_n_mean"].sort_values("kl")
    beyond = panel[panel["kl"] > best["kl"].max()]  # best-of-n keeps its last value there
    expected = bands["median"].loc[list(zip(beyond["method"], beyond["kl"], strict=True))]
    last = best["metric"].max()
    assert beyond["metric"].to_numpy() == pytest.approx(expected.to_numpy() - last)


def test_shares_in_the_legend_are_those_of_the_table(tables, drawn):
    table = drawn[1]("figure2a")
    shown = table[table["series"] == "share"].set_index("method")
    known = tables["pareto"].query("front == 'paper' and axes == 'win_rate'").set_index("method")
    assert set(shown.index) == set(known.index)
    for ours, theirs in (("metric", "share"), ("metric_low", "share_low")):
        assert shown[ours].sort_index().tolist() == known[theirs].sort_index().tolist()
    assert shown["metric"].sum() == pytest.approx(1)


def test_figure_7_adds_best_of_n_sft_to_figure_2(drawn):
    second, seventh = (drawn[1](name).query("series == 'run'") for name in ("figure2a", "figure7a"))
    assert set(seventh["method"]) - set(second["method"]) == {"bon_sft"}
    both = seventh[seventh["method"] != "bon_sft"].reset_index(drop=True)
    pd.testing.assert_frame_equal(both, second.reset_index(drop=True))


@pytest.mark.slow
def test_whole_figures_are_the_same_bytes_twice_and_legible_in_size(tables, tmp_path):
    for name in ("figure6", "figure7b"):
        for folder in ("one", "two"):
            FIGURES[name](tables, tmp_path / folder / name)
        assert contents(tmp_path / "one" / name) == contents(tmp_path / "two" / name)
    height, width = imread(tmp_path / "one" / "figure7b.png").shape[:2]
    assert (width, 1200 < height < 1500) == (960, True)


def test_figure_6_shows_both_methods_and_the_study(tables, tmp_path):
    table = figure6(tables["points"], tmp_path / "figure6", equivalence=tables["equivalence"])
    runs = table[table["series"] == "run"]
    assert set(runs["method"]) == {"reference", "best_of_n", "vbon", "vbon_l"}
    study_rows = table[table["series"] == "difference"]
    assert study_rows["setting"].tolist() == ["n2", "n4", "n8", "n16", "n64", "pooled"]
    for drawn, known in (("metric", "difference"), ("metric_low", "low"), ("metric_high", "high")):
        assert study_rows[drawn].tolist() == tables["equivalence"][known].tolist()


def test_figure_6_without_a_study_compares_attainments(tables, tmp_path):
    table = FIGURES["figure6"]({**tables, "equivalence": None}, tmp_path / "figure6")
    assert set(table.query("series == 'below_best_of_n'")["method"]) == {"vbon", "vbon_l"}
    one = equivalence_table(tables["points"], study(tables["points"]).query("seed == 0"))
    decided = figure6(tables["points"], tmp_path / "one_seed", equivalence=one)
    assert decided[decided["series"] == "difference"]["metric_low"].isna().all()


@pytest.fixture(scope="module")
def exact():
    """Curves of optima as a task's table has them, with one pool of 600 draws."""
    n, kl = np.geomspace(1, 100, 30), np.linspace(0, 3, 20) ** 2 / 2
    bon = {"series": "best_of_n", "parameter": n, "kl": kl_upper_bound(n), "win_rate": win_rate(n)}
    kl_rl = {"series": "kl_rl", "parameter": 1.0, "kl": kl, "win_rate": 0.9 * win_rate_frontier(kl)}
    limit = {"kl": kl_upper_bound(600 / 9), "win_rate": win_rate(600 / 9), "parameter": 600 / 9}
    limits = [{"series": "resolved", "method": name, **limit} for name in ("vbon", "vbon_l", "x")]
    rows = pd.concat(map(pd.DataFrame, (bon, kl_rl, limits)), ignore_index=True)
    return rows.assign(reward=lambda t: t["win_rate"], reward_prob=lambda t: 0.5 + t["kl"] / 9)


@pytest.mark.parametrize(("name", "axis"), [("figure2a", "win_rate"), ("figure2b", "reward_prob")])
def test_exact_optima_are_drawn_in_both_panels(name, axis, tables, exact, tmp_path):
    table = FIGURES[name]({**tables, "oracle_curves": exact}, tmp_path / name)
    for series in ("best_of_n", "kl_rl"):
        drawn = table[(table["series"] == "optimum") & (table["method"] == series)]
        known = exact[(exact["series"] == series) & (exact["kl"] <= table["kl"].max())]
        assert drawn["metric"].tolist() == pytest.approx(known[axis].tolist(), rel=1e-15)
    limits = table[table["series"] == "resolved"]
    assert sorted(limits["method"]) == ["vbon", "vbon_l"]
    assert limits["n"].unique() == pytest.approx([600 / 9])
    below = table[table["series"] == "optimum_below_best_of_n"]
    assert set(below["method"]) == {"kl_rl"}
    svg = (tmp_path / f"{name}.svg").read_text()
    assert "N=66" in svg
    assert svg.count("exact optimum of") == 2


def test_figures_do_without_the_table_of_optima(drawn):
    assert not set(drawn[1]("figure2a")["series"]) & {
        "optimum",
        "resolved",
        "optimum_below_best_of_n",
    }


def test_markers_beyond_the_limit_are_white_inside(tables, drawn, exact, tmp_path):
    """Filled vBoN points fewer by as many as are beyond the largest n that the pool resolves."""
    folder, draw = drawn
    draw("figure2a")
    FIGURES["figure2a"]({**tables, "oracle_curves": exact}, tmp_path / "figure2a")
    counts = [
        (parent / "figure2a.svg").read_text().count("stroke: #0072b2; stroke-width: 0.9")
        for parent in (tmp_path, folder)
    ]
    assert counts[0] > counts[1]


@pytest.mark.parametrize("name", ["figure2a", "figure2b", "figure6", "figure7a", "figure7b"])
@pytest.mark.parametrize("left", [["vbon"], ["best_of_n", "ppo"], ["reference", "vbon", "vbon_l"]])
def test_a_toy_sweep_is_drawn_without_missing_parts(name, left, tmp_path):
    """Few methods, one seed, one or two settings: no panel where there is nothing to compare."""
    points = sweep(diverged=False)
    few = points["method"].isin(left) & points["setting"].isin(["default", "n2", "n8", "beta1"])
    few = points[few & (points["seed"] == 0)]
    extra = {"attainment": attainment_bands(few, 0, 20), "pareto": pareto_table(few, 0, 20)}
    if name == "figure6" and "vbon" not in left:
        left = ["best_of_n"]
    table = FIGURES[name]({"points": few, **extra}, tmp_path / name)
    assert set(table.query("series == 'run'")["method"]) == set(left)
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000


def test_a_reward_without_a_probability_is_drawn_as_such(tmp_path):
    points = sweep().assign(reward_prob=np.nan, reward_prob_se=np.nan)
    points["reward"], points["reward_se"] = points["evaluator_reward"], 0.01
    drawn = FIGURES["figure2b"]({"points": points}, tmp_path / "figure2b")
    runs = drawn[drawn["series"] == "run"].dropna(subset=["metric"])
    assert len(runs)
    assert set(runs["metric"].round(9)) <= set(points["reward"].round(9))
    svg = (tmp_path / "figure2b.svg").read_text()
    assert "Mean reward" in svg
    assert "probability" not in svg


@pytest.mark.parametrize("share", [1, 0.8])
def test_the_curve_of_best_of_n_is_of_rewards_without_ties(share):
    """With ties best-of-n has less KL than its closed form, which is then left out."""
    bon = pd.DataFrame({"method": "best_of_n", "n": [1.0, 4.0, 16.0], "status": "ok"})
    bon["setting"] = bon["n"].map("n{:g}".format)
    bon["kl"] = share * kl_upper_bound(bon["n"].to_numpy())
    bon["win_rate"] = win_rate(bon["n"].to_numpy())
    series = {name for part in tradeoff._closed_forms(bon, 2.0) for name in part["series"]}
    assert series == {"frontier", *["best_of_n_analytic"] * (share == 1)}
    table = matched_table(bon.assign(seed=0), seed=0, replicates=10)
    assert table["best_of_n"].notna().all() == (share == 1)
    assert table["value"].notna().any()

"""Figure 2 and its relatives, drawn from a made-up sweep of every method."""

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from vbon.closed_forms import kl_frontier, kl_upper_bound, win_rate, win_rate_frontier
from vbon.errors import DataError
from vbon.figures import figure2
from vbon.figures.style import method_styles
from vbon.pareto import membership

BETAS = [0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 1, 2, 3, 4, 5]
DPO_BETAS = [0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 1, 2, 3, 4, 5]
NS = [1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 512]
SWEEPS = {  # method: swept field, values, seeds, excess KL per nat of gain, win rate lost
    "bon_sft": ("n", [10, 50, 130, 250, 370, 490, 600], 2, 1.2, 0.10),
    "ppo": ("beta", BETAS, 2, 0.9, 0.03),
    "dpo": ("beta", DPO_BETAS, 3, 0.6, 0.04),
    "bonbon": ("n", NS, 3, 0.8, 0.06),
    "vbon": ("n", NS, 3, 0.25, 0.01),
    "vbon_l": ("beta", BETAS, 2, 0.3, 0.012),
    "vbon_l1": ("n", [2, 4, 8, 16], 2, 2.5, 0.15),
    "my_method": ("n", [2, 4, 8, 16], 2, 0.5, 0.02),
}


def synthetic_points(seed=0, stretch=1.0):
    """A sweep with the shape of the paper's: every method, some runs diverged.

    ``stretch`` multiplies the KL of everything trained; around 1 the sweep ends near 6 nats.
    """
    rng = np.random.default_rng(seed)
    rows = [{"method": "reference", "setting": "base", "n": 1.0, "kl": 0.0, "win_rate": 0.5}]
    for n in NS[1:]:
        rows.append({"method": "best_of_n", "setting": f"n{n}", "n": float(n)})
        rows[-1] |= {"kl": kl_upper_bound(n), "win_rate": win_rate(n) + rng.normal(0, 0.002)}
    for method, (field, values, seeds, excess, lost) in SWEEPS.items():
        for value in values:
            n = float(value) if field == "n" else 1 + 1 / value
            for run_seed in range(seeds):
                gain = max(0.0, win_rate(n) - lost * np.log(n) / 3 + rng.normal(0, 0.008))
                cost = kl_frontier(min(max(gain, 0.5), 0.985))
                kl = stretch * cost * (1 + excess * abs(rng.normal(1, 0.4)))
                rows.append(
                    {"method": method, "setting": f"{field}{value:g}", "seed": run_seed}
                    | {"n": n if field == "n" else np.nan, "kl": kl, "win_rate": max(gain, 0.45)}
                    | {"kl_coef": 1 / (n - 1) if n > 1 else np.nan}
                )
    points = pd.DataFrame(rows).assign(task="sentiment", status="ok", temperature=1.0)
    points["seed"] = points["seed"].fillna(0).astype(int)
    # An honest table never shows a win rate above the frontier by more than noise.
    points["win_rate"] = np.minimum(points["win_rate"], win_rate_frontier(points["kl"]) + 0.002)
    points["kl_se"] = 0.03 * points["kl"]
    points["win_rate_se"] = 0.015 * np.sqrt(points["win_rate"] * (1 - points["win_rate"])) + 0.001
    points["reward_prob"] = 0.52 + 0.46 * (2 * points["win_rate"] - 1) ** 1.3 * (
        1 + 0.05 * rng.normal(size=len(points))
    ).clip(max=1.04)
    points["reward_prob"] = points["reward_prob"].fillna(0.5)
    points["evaluator_reward"] = 2 * points["reward_prob"] - 0.1 * points["kl"]
    failed = points.query("(method == 'ppo' and setting == 'beta0.005') or setting == 'n512'").index
    failed = failed[points.loc[failed, "method"].isin(["ppo", "bonbon"])]
    points.loc[failed, "status"] = "diverged"
    numbers = ["kl", "kl_se", "win_rate", "win_rate_se", "reward_prob", "evaluator_reward"]
    points.loc[failed, numbers] = np.nan
    return points


def contents(stem):
    return [stem.with_suffix(suffix).read_bytes() for suffix in (".pdf", ".svg", ".png", ".csv")]


@pytest.fixture(scope="module")
def points():
    return synthetic_points()


@pytest.fixture(scope="module")
def win_rates(points, tmp_path_factory):
    """Stem of figure 2a and the table it returned."""
    stem = tmp_path_factory.mktemp("figures") / "new_folder" / "figure2a"
    return stem, figure2(points, "win_rate", stem, title="Figure 2a")


def test_table_next_to_the_figure_is_what_was_drawn(win_rates):
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
    assert len(diverged) == 5
    assert diverged["kl"].isna().all()
    assert not diverged[["on_front", "on_method_front"]].any(axis=None)


def test_curves_obey_their_closed_forms(win_rates):
    curves = win_rates[1].groupby("series")
    frontier = curves.get_group("frontier")
    inner = frontier[(frontier["kl"] > 1e-6) & (frontier["kl"] < 6)]
    assert kl_frontier(inner["metric"].to_numpy()) == pytest.approx(inner["kl"].to_numpy(), 1e-9)
    bon = curves.get_group("best_of_n_analytic")
    odds = bon["metric"] / (1 - bon["metric"])  # n, whatever the formula for the KL
    assert odds.to_numpy() == pytest.approx(bon["n"].to_numpy())
    assert bon["kl"].to_numpy() == pytest.approx((np.log(odds) - 1 + 1 / odds).to_numpy(), abs=1e-9)
    assert 512 < bon["n"].max() <= 600 * (1 + 1e-12)  # the largest n of the table is BoN-SFT's 600
    assert (bon["metric"].to_numpy() <= win_rate_frontier(bon["kl"].to_numpy())).all()


def test_two_draws_are_the_same_bytes_in_any_process_and_configuration(points, win_rates, tmp_path):
    """Another hash seed, another process and another user configuration change nothing."""
    points.to_pickle(tmp_path / "points.pkl")
    code = (
        "import sys, pathlib, pandas, matplotlib\n"
        "matplotlib.rcParams.update({'font.size': 20, 'axes.facecolor': 'red'})\n"
        "from vbon.figures import figure2\n"
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
    assert done.stdout.split() == []  # a figure loads no model library and no global canvas
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


def test_other_metrics_have_no_win_rate_curves(points, tmp_path):
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


def test_runs_beyond_the_limit_keep_their_numbers_in_the_table(points, tmp_path):
    stem = tmp_path / "figure2a"
    far = points.assign(kl=points["kl"].where(points["method"] != "ppo", points["kl"] + 90))
    table = figure2(far, "win_rate", stem, kl_limit=10.0)
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

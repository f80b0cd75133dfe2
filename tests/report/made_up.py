"""Small made-up tables of one task, as files, for the pages of tests."""

import json

import numpy as np
import pandas as pd
from sweep import complete, sweep

from vbon.analysis.excerpts import cards_table

EVIL = 'it\'s "good" </script><b id=evil>bold</b> <!-- & {{ 7 * 7 }}'
"""A response that breaks pages without escaping."""
MARGIN = 0.02


def write(folder, name, frame):
    """Write one table as CSV, with its provenance."""
    path = folder / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False)
    card = {
        "settings": {"config": "0123abc", "seed": 0},
        "commit": "abc1234",
        "versions": {"vbon": "0.1.0"},
        "measured": {"written": "2026-01-02T03:04:05+00:00", "hardware": "a machine"},
    }
    path.with_suffix(".json").write_text(json.dumps(card))
    return path


def points():
    """Three methods of the made-up sweep with every column."""
    table = complete(sweep(methods=["ppo", "vbon"]))
    return table.assign(temperature=1.0, evaluator_win_rate=0.6, evaluator_win_rate_se=0.01)


def costs(table):
    """Costs of the same runs."""
    numbers = {
        "train_seconds": 30.0, "sample_seconds": 1.0, "score_seconds": 1.0,
        "pool_sample_seconds": 6.0, "pool_score_seconds": 0.0, "peak_memory_mb": 100.0,
        "updates": 50, "hardware": "a machine",
    }  # fmt: skip
    keys = ["task", "method", "setting", "seed", "sample_seed", "temperature", "domain"]
    return table[keys].assign(**numbers)


def figure7a(table):
    """Data of figure 7a, as far as the page reads it."""
    kl = np.linspace(0, 3, 5)
    parts = [
        pd.DataFrame({"series": "below_best_of_n", "method": name, "kl": kl, "metric": -0.01 * kl,
                      "metric_low": -0.02 * kl - 0.01, "metric_high": 0.01 + 0 * kl})
        for name in ("ppo", "vbon")
    ]  # fmt: skip
    return pd.concat([table.assign(series="run", metric=table["win_rate"]), *parts])


def training(table):
    """Two rows of history per run."""
    runs = table.loc[table["method"].isin(["ppo", "vbon"]), ["method", "setting", "seed"]]
    rows = [
        runs.assign(step=step, episodes=64 * (step + 1), reward=step, kl=0.5 * step, win_rate=0.5)
        for step in (0, 9)
    ]
    return pd.concat(rows).assign(evaluator_reward=np.nan)


def samples(table):
    """One response per run, as hard to escape as possible."""
    runs = table.loc[table["status"] == "ok", ["method", "setting", "seed"]]
    texts = {"prompt_id": "a", "prompt": "this film", "response": EVIL}
    return runs.assign(**texts, reward=1.5, reward_prob=0.8, evaluator_reward=0.25)


def claims():
    """One claim per verdict."""
    verdicts = ["supported", "not supported", "undecided"]
    rows = {
        "claim": ["BoN is on top", "DPO is below PPO", "F settles by 200"],
        "source": "figure 2",
    }
    return pd.DataFrame({**rows, "statistic": "difference", "value": [0.04, -0.1, 0.001],
                         "low": [0.03, -0.2, -0.1], "high": [0.05, -0.05, 0.1],
                         "rule": "interval above 0", "verdict": verdicts, "note": ""})  # fmt: skip


def matched(values, reaches=5.0):
    """Win rates at 1 and 2 nats: per method its value, with an interval of 0.01 on each side."""
    rows = [
        {"axes": "win_rate", "kl": kl, "method": method, "value": value, "low": value - 0.01,
         "high": value + 0.01, "reaches": reaches}
        for kl in (1.0, 2.0) for method, value in values.items()
    ]  # fmt: skip
    return pd.DataFrame(rows)


def task_files(folder, task="sentiment"):
    """Every file of a page of one task, by its name there."""
    table = points()
    cards = {
        "texts": {"settings": {"source": "grammar", "num_reviews": 36000}},
        "reference": {"settings": {"model": {"id": None}}, "metrics": {"parameters": 77954.0}},
    }
    frames = {
        "points": table,
        "costs": costs(table),
        "tables/claims": claims(),
        "tables/matched_kl": matched({"best_of_n": 0.9, "vbon": 0.8, "ppo": 0.795}),
        "tables/table1": pd.DataFrame({"variant": ["nested"], "m": [5], "rejection_rate": [1 / 3]}),
        "tables/histories": training(table),
        "tables/excerpts": samples(table),
        "tables/cards": cards_table(cards),
        "figures/figure7a": figure7a(table),
    }
    paths = {name: write(folder / task, name, frame) for name, frame in frames.items()}
    svg = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 3"><path d="M0,0H4"/></svg>'
    paths["figures/figure7a"].with_suffix(".svg").write_text(svg)
    return {f"{task}/{name}": str(path) for name, path in paths.items()}

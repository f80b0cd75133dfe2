"""What the report shows of runs and models: nothing is lost by thinning, no run is silent."""

import numpy as np
import pandas as pd
import pytest

from vbon.analysis.excerpts import (
    cards_table,
    excerpts_table,
    histories_table,
    shown_prompts,
    thinned,
)
from vbon.errors import DataError


def history(length, **columns):
    steps = np.arange(length)
    return pd.DataFrame(
        {"step": steps, "episodes": 8 * (steps + 1), "reward": steps / 2, **columns}
    )


@pytest.mark.parametrize("length", [1, 7, 40, 41, 200])
def test_thinning_keeps_the_mean_and_both_ends(length):
    kl = np.sqrt(np.arange(length))
    table = thinned(history(length, kl=kl), rows=20)
    assert len(table) == min(length, 20)
    assert table["step"].iloc[-1] == length - 1
    weights = np.diff([-1, *table["step"]])
    assert np.average(table["kl"], weights=weights) == pytest.approx(kl.mean())
    assert table["step"].is_monotonic_increasing


def test_what_was_measured_seldom_is_not_lost():
    rate = np.full(96, np.nan)
    rate[[31, 63, 95]] = 0.6, 0.7, 0.8
    table = thinned(history(96, kl=0.0, win_rate=rate))
    assert table["win_rate"].dropna().tolist() == [0.6, 0.7, 0.8]


def test_runs_without_a_history_are_left_out():
    records = [{"method": name, "setting": "n2", "seed": 0} for name in ("best_of_n", "vbon")]
    empty = history(0, kl=0.0)
    table = histories_table(zip(records, [empty, history(3, kl=0.0)], strict=True))
    assert table["method"].unique().tolist() == ["vbon"]
    assert table["evaluator_reward"].isna().all()
    assert histories_table([(records[0], empty)]).empty


def test_every_run_answers_every_shown_prompt():
    prompts = shown_prompts(pd.DataFrame({"prompt_id": list("abcd"), "prompt": list("wxyz")}), 2)
    assert prompts["prompt"].tolist() == ["w", "y"]
    said = pd.DataFrame({"prompt_id": ["c", "a", "a", "b"], "draw": [0, 1, 0, 0],
                         "response": ["C", "no", "A", "B"], "reward": 1.0, "reward_prob": 0.5,
                         "evaluator_reward": 0.0})  # fmt: skip
    record = {"method": "ppo", "setting": "beta1", "seed": 3}
    table = excerpts_table(prompts, [(record, said)])
    assert table[["prompt", "response", "seed"]].to_numpy().tolist() == [
        ["w", "A", 3],
        ["y", "C", 3],
    ]
    with pytest.raises(DataError, match="ppo/beta1/3: column 'prompt_id' lacks 'a'"):
        excerpts_table(prompts, [(record, said[said["prompt_id"] != "a"])])
    with pytest.raises(DataError, match=r"prompts\.num_test"):
        shown_prompts(prompts.head(0))


def test_cards_of_real_checkpoints_say_their_id():
    card = {"settings": {"model": {"id": "gpt2", "revision": "abc", "build": None}}, "metrics": {}}
    table = cards_table({"reference": card})
    assert table.set_index("quantity")["value"].to_dict() == {
        "model.id": "gpt2", "model.revision": "abc",
    }  # fmt: skip

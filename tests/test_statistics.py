"""Standard errors and bootstrap intervals against simulations and known distributions."""

import numpy as np
import pytest

from vbon.errors import DataError
from vbon.statistics import clustered_mean, percentile_interval, prompt_means


def test_clustered_mean_weighs_prompts_equally():
    estimate = clustered_mean([0.0, 0.0, 0.0, 1.0], ["a", "a", "a", "b"])
    assert estimate == (0.5, 0.5, 2)


def test_order_of_rows_does_not_matter():
    rng = np.random.default_rng(0)
    prompts, values = np.repeat(np.arange(20), 3), rng.normal(size=60)
    mixed = rng.permutation(60)
    assert clustered_mean(values[mixed], prompts[mixed]) == pytest.approx(
        clustered_mean(values, prompts), rel=1e-12
    )


def test_standard_error_is_the_spread_over_repeated_experiments():
    """Responses of a prompt share an effect of sd 1 on top of noise of sd 1: sd**2 = (1 + 1/4)/50.

    2,000 experiments: the relative standard error of a standard deviation is 1/sqrt(4000), 0.016.
    Treating the 200 responses as independent would say 0.1, 37 % too little.
    """
    rng = np.random.default_rng(1)
    prompts = np.repeat(np.arange(50), 4)
    effects = rng.normal(size=(2000, 50)).repeat(4, axis=1)
    estimates = [clustered_mean(row, prompts) for row in effects + rng.normal(size=(2000, 200))]
    spread = np.std([estimate.mean for estimate in estimates])
    assert spread == pytest.approx(np.sqrt(1.25 / 50), rel=4 * 0.016)
    claimed = np.sqrt(np.mean([estimate.se**2 for estimate in estimates]))
    assert claimed == pytest.approx(np.sqrt(1.25 / 50), rel=0.01)


def test_one_prompt_has_no_standard_error():
    assert np.isnan(clustered_mean([1.0, 2.0], ["a", "a"]).se)


def test_prompt_means_keep_the_order_of_first_appearance():
    assert prompt_means([1, 2, 3, 4], ["z", "a", "z", "b"]).tolist() == [2.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("values", "prompts", "words"),
    [
        ([1.0, np.nan], ["a", "b"], "row 1 .prompt b. is nan"),
        ([1.0, np.inf], ["a", "b"], "row 1 .prompt b. is inf"),
        ([1.0], ["a", "b"], "for 2 prompt_ids"),
        ([], [], "at least one response"),
    ],
)
def test_unusable_values_are_refused(values, prompts, words):
    with pytest.raises(DataError, match=words):
        clustered_mean(values, prompts)


def test_percentile_interval_of_many_statistics_and_missing_ones():
    values = np.stack([np.arange(101.0), np.full(101, np.nan)], axis=1)
    values[::2, 0] = np.nan  # 1, 3, ..., 99 remain
    low, high = percentile_interval(values, confidence=0.9)
    assert (low[0], high[0]) == pytest.approx((5.9, 94.1))
    assert np.isnan([low[1], high[1]]).all()

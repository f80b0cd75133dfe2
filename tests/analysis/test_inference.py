"""What a returned response costs: every token counted, every draw scored, the clock split."""

import numpy as np
import pytest
from support import Language

from vbon.analysis import inference
from vbon.analysis.inference import Server
from vbon.rewards import Rewards
from vbon.sampling import sample
from vbon.tasks.language import build_tokenizer

LANGUAGE, LETTERS = Language(), build_tokenizer(3)


def make_server(scored, **changes):
    def score(texts):
        scored.append(len(texts))
        return Rewards(np.zeros(len(texts)), np.full(len(texts), 0.5))

    parts = {"max_new_tokens": LANGUAGE.tokens, "temperature": 1.0, "seed": 0, "repeats": 1}
    return Server(LANGUAGE.prompts, LETTERS, score, **(parts | changes))


@pytest.mark.parametrize(("draws", "rows"), [(1, 4096), (32, 4096), (32, 32)])
def test_every_draw_is_generated_and_scored_where_there_is_a_choice(monkeypatch, draws, rows):
    monkeypatch.setattr(inference, "_ROWS", rows)
    scored, tokens = [], []

    def counted(*parts, **settings):
        rollouts = sample(*parts, **settings)
        tokens.append(int(rollouts.response_mask.sum()))
        return rollouts

    monkeypatch.setattr(inference, "sample", counted)
    prompts = len(LANGUAGE.prompts)
    policy, reference = LANGUAGE.policy(), LANGUAGE.reference
    cost, base = make_server(scored).cost(policy, reference, draws)
    assert base.tokens == tokens.pop() / prompts  # the reference, once and in one batch
    assert (base.score_seconds, base.sample_seconds > 0) == (0, True)
    assert cost.tokens == sum(tokens) / prompts
    assert sum(scored) == (0 if draws == 1 else prompts * draws)
    assert len(tokens) == (1 if rows == 4096 else prompts)  # batches
    assert cost.sample_seconds > 0
    assert (cost.score_seconds > 0) == (draws > 1)
    assert cost.seconds == cost.sample_seconds + cost.score_seconds


def test_best_of_n_generates_n_times_the_tokens():
    """Mean tokens of 256 draws against 256 times those of one; 4 standard errors of the latter."""
    reference = LANGUAGE.reference
    many, one = make_server([]).cost(reference, reference, 256)
    assert many.tokens / 256 == pytest.approx(one.tokens, abs=4 * LANGUAGE.tokens / 2 / np.sqrt(2))


@pytest.mark.parametrize(
    ("long", "seconds"),
    [
        (100, [5, 9, 2, 8, 3, 7]),  # in turn, of the policy and of the reference
        (6, [5, 9, 2, 8, 7]),  # two of the policy are long enough
    ],
)
def test_the_fastest_of_several_measurements_counts(monkeypatch, long, seconds):
    ticks = iter([tick for number in seconds for tick in (0, number)])
    monkeypatch.setattr(inference.time, "perf_counter", lambda: next(ticks))
    monkeypatch.setattr(inference, "_LONG", long)
    costs = make_server([], repeats=3).cost(LANGUAGE.policy(), LANGUAGE.reference)
    assert [cost.sample_seconds * len(LANGUAGE.prompts) for cost in costs] == [2, 7]
    assert next(ticks, None) is None

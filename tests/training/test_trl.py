"""TRL and the native loop are the same training: equal parameters after several updates."""

import pytest
import torch
from support import Language, offline_settings, tokenizer
from test_offline import METHODS, make_trainer, stored

from vbon.errors import ConfigError
from vbon.methods.bonbon import BoNBoN
from vbon.training.online import Diverged
from vbon.training.trl import TRLTrainer

pytestmark = pytest.mark.filterwarnings("ignore")  # of TRL's own making

CHOSEN = {
    "epochs": 3,
    "batch_size": 4,  # 18 examples: the last batch is smaller
    "learning_rate": 1e-3,
    "warmup": 0.3,
    "weight_decay": 0.01,
    "monitors": 2,
}


def parameters(trainer):
    """The policy's parameters that its output depends on.

    A bias of the keys adds the same to all scores of a softmax; its gradient is 0 up to rounding,
    which AdamW blows up to steps of full size in any direction.
    """
    found = {}
    for name, part in trainer.policy.named_parameters():
        part = part.detach().clone()
        if name.endswith("c_attn.bias"):
            query, _, value = part.chunk(3)
            part = torch.cat((query, value))
        found[name] = part
    return found


ALL = [*METHODS, BoNBoN(n=3, loss="sigmoid", alpha="fixed")]


def with_trl(native):
    """TRL's trainer of the same training."""
    parts = (native.environment, native.examples, native.settings, native.seed)
    return TRLTrainer(native.policy, native.method, *parts, tokenizer=tokenizer())


@pytest.mark.parametrize("limit", [None, 0.5], ids=["unclipped", "clipped"])
@pytest.mark.parametrize("method", ALL, ids=lambda method: f"{method.name}-{method.trl}")
def test_both_give_the_same_parameters_and_history(method, limit):
    native = make_trainer(method, max_grad_norm=limit, **CHOSEN)
    trl = with_trl(make_trainer(method, max_grad_norm=limit, **CHOSEN))
    start = parameters(native)
    rows, their_rows = list(native), list(trl)
    assert native.updates == trl.updates == 5
    assert native.episodes == trl.episodes == 18
    ours, theirs = parameters(native), parameters(trl)
    assert max((ours[name] - start[name]).abs().max().item() for name in start) > 1e-3
    # AdamW blows up rounding where a gradient is nearly 0; how much depends on the processor.
    gaps = torch.cat([(ours[name] - theirs[name]).abs().flatten() for name in start])
    assert gaps.max() < 0.1 * CHOSEN["learning_rate"]
    assert (gaps > 1e-5).double().mean() < 1e-4
    for ours, theirs in zip(rows, their_rows, strict=True):
        assert set(ours) == set(theirs)
        for name in ("step", "episodes", "learning_rate"):
            assert ours[name] == pytest.approx(theirs[name])
        for name in ("objective", "grad_norm", "clip_fraction", "kl", "reward"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-3), name
    assert "forward" not in vars(trl.policy)


def test_numbers_that_are_not_finite_stop_trl_too():
    table = stored()
    table["log_prob"] = float("inf")
    with pytest.raises(Diverged, match="after 0 updates"):
        list(with_trl(make_trainer(table=table)))


def test_what_trl_cannot_do_is_refused():
    with pytest.raises(ConfigError, match=r"sampling\.temperature: 0\.7 is not allowed"):
        with_trl(make_trainer(temperature=0.7))
    language, method = Language(), METHODS[0]
    parts = language.environment(), language.examples(method.pairing), offline_settings(), 0
    with pytest.raises(ConfigError, match="cannot train a TabularLM"):
        TRLTrainer(language.policy(), method, *parts, tokenizer=tokenizer())

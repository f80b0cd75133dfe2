"""TRL's loops and the native one are the same training: equal parameters after several updates."""

import pytest
import torch
import trl_offline
from support import tokenizer
from test_offline import METHODS, make_trainer

from vbon.methods.bonbon import BoNBoN

pytestmark = pytest.mark.filterwarnings("ignore")  # of TRL's own making

SETTINGS = {
    "epochs": 3,
    "batch_size": 4,  # 18 examples: the last batch is smaller
    "learning_rate": 1e-3,
    "warmup": 0.3,
    "weight_decay": 0.01,
    "monitors": 5,  # a row of the history for each update
}
ALL = [*METHODS, BoNBoN(n=3, loss="sigmoid", alpha="fixed")]


def parameters(trainer):
    """The policy's parameters that its output depends on.

    A bias of the keys adds the same to all scores of a softmax; its gradient is 0 up to rounding,
    which AdamW blows up to steps of full size in any direction.
    """
    copies = {}
    for name, part in trainer.policy.named_parameters():
        part = part.detach().clone()
        if name.endswith("c_attn.bias"):
            query, _, value = part.chunk(3)
            part = torch.cat((query, value))
        copies[name] = part
    return copies


@pytest.mark.parametrize("limit", [None, 0.5], ids=["unclipped", "clipped"])
@pytest.mark.parametrize("method", ALL, ids=lambda method: method.name)
def test_both_give_the_same_losses_and_parameters(method, limit):
    native = make_trainer(method, max_grad_norm=limit, **SETTINGS)
    other = make_trainer(method, max_grad_norm=limit, **SETTINGS)
    start = parameters(native)
    rows, their_rows = list(native), trl_offline.train(other, tokenizer())
    ours, theirs = parameters(native), parameters(other)
    assert max((ours[name] - start[name]).abs().max().item() for name in start) > 1e-3
    # AdamW blows up rounding where a gradient is nearly 0; how much depends on the processor.
    gaps = torch.cat([(ours[name] - theirs[name]).abs().flatten() for name in start])
    assert gaps.max() < 0.1 * SETTINGS["learning_rate"]
    assert (gaps > 1e-5).double().mean() < 1e-4
    assert len(rows) == len(their_rows) == 5
    for our_row, their_row in zip(rows, their_rows, strict=True):
        for name in ("objective", "grad_norm"):
            assert our_row[name] == pytest.approx(their_row[name], rel=1e-3, abs=1e-3), name

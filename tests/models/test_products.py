"""Products of linear layers by oneDNN against PyTorch's, with the gradients of everything."""

import copy

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from vbon.models import fast

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="PyTorch was built without oneDNN"
)
LAYERS = {
    "wider": lambda: nn.Linear(6, 10),
    "narrower": lambda: nn.Linear(10, 6),
    "without bias": lambda: nn.Linear(6, 10, bias=False),
    "of GPT-2": lambda: Conv1D(10, 6),
    "of GPT-2, narrower": lambda: Conv1D(6, 10),
}


@pytest.fixture
def products(monkeypatch):
    """Counts oneDNN's products, also of small matrices."""
    calls, original = [], fast._product
    monkeypatch.setattr(fast, "_SMALL", 0)
    monkeypatch.setattr(fast, "_product", lambda *a: calls.append(1) or original(*a))
    return calls


def outcome(layer, forward, x, frozen=()):
    """Output and gradients of the input and of each parameter that is not frozen."""
    layer, x = copy.deepcopy(layer), x.clone().requires_grad_("input" not in frozen)
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_(name not in frozen)
    output = forward(layer, x)
    (output * torch.arange(output.numel()).view_as(output)).sum().backward()
    return [output.detach(), x.grad, *(parameter.grad for parameter in layer.parameters())]


@pytest.mark.parametrize("frozen", [(), ("input",), ("weight",), ("bias", "input")], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_outputs_and_gradients_are_the_modules(name, frozen, products):
    torch.manual_seed(0)
    layer = LAYERS[name]()
    x = torch.randn(7, layer.weight.shape[isinstance(layer, nn.Linear)])
    results = [outcome(layer, f, x, frozen) for f in (fast.linear, lambda m, x: m(x))]
    assert sum(products) == 1 + ("input" not in frozen) + ("weight" not in frozen)
    for ours, theirs in zip(*results, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)


def test_other_precisions_and_small_products_are_left_to_pytorch(products, monkeypatch):
    layer, x = nn.Linear(6, 10), torch.randn(7, 6)
    with torch.autocast("cpu", torch.bfloat16):
        assert fast.linear(layer, x).dtype == torch.bfloat16
    fast.linear(layer.double(), x.double())
    monkeypatch.setattr(fast, "_SMALL", 7 * 6 * 10)
    fast.linear(layer.float(), x)
    assert not products
    monkeypatch.setattr(fast, "_SMALL", 7 * 6 * 10 - 1)
    fast.linear(layer, x)
    assert products

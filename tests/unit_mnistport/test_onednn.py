"""Products by oneDNN: the same numbers as torch's own, to rounding, in every place they are used."""

import pytest
import torch
from torch.nn import functional

from mnistport import onednn
from mnistport.layers import Dense

pytestmark = pytest.mark.skipif(not onednn.AVAILABLE, reason="this torch has no oneDNN")


@pytest.fixture(autouse=True)
def small_ones_too(monkeypatch):
    monkeypatch.setattr(onednn, "WORTH_IT", 1)


def test_a_small_product_is_left_to_torch(monkeypatch):
    monkeypatch.setattr(onednn, "WORTH_IT", 4 * 3 * 2 + 1)
    assert type(Dense(3, 2)(torch.randn(4, 3)).grad_fn).__name__ == "AddmmBackward0"
    assert type(Dense(3, 2)(torch.randn(5, 3)).grad_fn).__name__ == "_LinearBackward"


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("rows", "features", "units"), [(1, 1, 1), (50, 1024, 10), (7, 13, 625), (128, 2048, 625)])
def test_value_and_gradients_are_those_of_torchs_own(rows, features, units, bias):
    torch.manual_seed(0)
    layer = Dense(features, units, bias=bias)
    value = torch.randn(rows, features, requires_grad=True)
    incoming = torch.randn(rows, units)
    inputs = [value, *layer.parameters()]
    ours = torch.autograd.grad(layer(value), inputs, incoming)
    double = [tensor.detach().double().requires_grad_() for tensor in inputs]
    expected = functional.linear(*double)
    assert (layer(value) - expected).abs().max() < 1e-6 * features
    for got, want in zip(ours, torch.autograd.grad(expected, double, incoming.double()), strict=True):
        assert got.shape == want.shape
        assert (got - want).abs().max() < 1e-6 * max(units, rows)


def test_what_needs_no_gradient_gets_none():
    layer = Dense(3, 2)
    layer(torch.randn(4, 3)).sum().backward()
    assert layer.weight.grad is not None
    layer.weight.requires_grad_(False)
    layer.bias.grad = None
    layer(torch.randn(4, 3)).sum().backward()
    assert torch.equal(layer.bias.grad, torch.full((2,), 4.0))


def test_float64_and_evaluation_are_left_to_torch(monkeypatch):
    monkeypatch.setattr(onednn, "_times_transposed", lambda *_: pytest.fail("oneDNN was asked"))
    Dense(3, 2).double()(torch.randn(4, 3, dtype=torch.float64))
    with torch.no_grad():
        Dense(3, 2)(torch.randn(4, 3))


def test_mixed_precision_is_left_to_torch():
    with torch.autocast("cpu", torch.bfloat16):
        assert Dense(3, 2)(torch.randn(4, 3)).dtype == torch.bfloat16


def test_gradients_of_gradients_are_those_of_torchs_own():
    torch.manual_seed(0)
    layer, value = Dense(3, 2), torch.randn(4, 3, requires_grad=True)

    def second(product) -> torch.Tensor:
        (first,) = torch.autograd.grad(product(value, layer.weight, layer.bias).pow(3).sum(), value, create_graph=True)
        return torch.autograd.grad(first.square().sum(), layer.weight)[0]

    assert torch.allclose(second(onednn.linear), second(functional.linear), rtol=1e-4)


def test_torchs_function_transforms_see_torchs_own_product():
    torch.manual_seed(0)
    layer, value = Dense(3, 2), torch.randn(4, 3)
    weights = {name: weight.detach() for name, weight in layer.named_parameters()}

    def loss(weights, value):
        return torch.func.functional_call(layer, weights, (value,)).square().sum()

    layer(value).square().sum().backward()
    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(weights, value[:, None])
    for name, weight in layer.named_parameters():
        assert torch.allclose(each[name].sum(0), weight.grad)

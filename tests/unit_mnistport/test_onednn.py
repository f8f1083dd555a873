"""Products and convolutions by oneDNN: the same numbers as torch's own, to rounding, in every place they are used."""

import pytest
import torch
from torch.nn import functional

from mnistport import onednn
from mnistport.layers import Conv2d, Dense

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


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("channels", "filters", "kernel", "stride"), [(1, 32, 5, 1), (16, 36, 5, 1), (3, 7, 2, 2)])
def test_a_convolutions_value_and_gradients_are_those_of_torchs_own(channels, filters, kernel, stride, padding):
    torch.manual_seed(0)
    layer = Conv2d(channels, filters, kernel, stride=stride, padding=padding)
    image = torch.randn(9, channels, 14, 14).to(memory_format=torch.channels_last).requires_grad_()
    inputs = [image, *layer.parameters()]
    value = layer(image)
    assert type(value.grad_fn).__name__ == "_ConvolutionBackward"
    incoming = torch.randn_like(value)
    double = [tensor.detach().double().requires_grad_() for tensor in inputs]
    around = kernel // 2 if padding == "SAME" and stride == 1 else 0  # 14 by 2 needs none
    expected = functional.conv2d(*double, stride=stride, padding=around)
    assert (value - expected).abs().max() < 1e-4
    ours = torch.autograd.grad(value, inputs, incoming)
    for got, want in zip(ours, torch.autograd.grad(expected, double, incoming.double()), strict=True):
        assert got.shape == want.shape
        assert (got - want).abs().max() < 2e-6 * want.abs().max()


def test_a_bias_gradient_is_nearer_the_truth_than_onednns():
    """Of 78,400 equal values, added one by one, the last digits of each are lost: the sum is off by 7.6."""
    layer = Conv2d(1, 32, 3)
    incoming = torch.full((100, 32, 28, 28), 1.0001).to(memory_format=torch.channels_last)
    layer(torch.zeros(100, 1, 28, 28)).backward(incoming)
    assert (layer.bias.grad.double() - 78400 * incoming[0, 0, 0, 0].double()).abs().max() < 0.1


def test_what_needs_no_gradient_gets_none():
    layer = Dense(3, 2)
    layer(torch.randn(4, 3)).sum().backward()
    assert layer.weight.grad is not None
    layer.weight.requires_grad_(False)
    layer.bias.grad = None
    layer(torch.randn(4, 3)).sum().backward()
    assert torch.equal(layer.bias.grad, torch.full((2,), 4.0))
    frozen = Conv2d(1, 2, 3)
    frozen.bias.requires_grad_(False)
    frozen(torch.randn(4, 1, 5, 5)).sum().backward()
    assert frozen.bias.grad is None and frozen.weight.grad is not None


def test_float64_and_evaluation_are_left_to_torch(monkeypatch):
    monkeypatch.setattr(onednn, "_times_transposed", lambda *_: pytest.fail("oneDNN was asked"))
    monkeypatch.setattr(onednn._Convolution, "apply", lambda *_: pytest.fail("oneDNN was asked"))
    Dense(3, 2).double()(torch.randn(4, 3, dtype=torch.float64))
    Conv2d(1, 2, 3).double()(torch.randn(4, 1, 5, 5, dtype=torch.float64))
    with torch.no_grad():
        Dense(3, 2)(torch.randn(4, 3))
        Conv2d(1, 2, 3)(torch.randn(4, 1, 5, 5))


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


def test_so_are_those_of_a_convolution():
    torch.manual_seed(0)
    layer, image = Conv2d(2, 3, 3), torch.randn(4, 2, 5, 5, requires_grad=True)

    def second(convolution) -> torch.Tensor:
        value = convolution(image, layer.weight, layer.bias, (1, 1), (1, 1))
        (first,) = torch.autograd.grad(value.pow(3).sum(), image, create_graph=True)
        return torch.autograd.grad(first.square().sum(), layer.weight)[0]

    assert torch.allclose(second(onednn.convolution), second(functional.conv2d), rtol=1e-4)

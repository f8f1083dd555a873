"""Convolutions that are trained on the CPU, and gradients through pooling by our kernels: torch's own, to rounding."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from mnistport import convolution, kernels
from mnistport.layers import Conv2d, MaxPool, ReluMaxPool

with_kernels = pytest.mark.skipif(bool(kernels.why_not()), reason=f"no kernels: {kernels.why_not()}")
EPSILON = {torch.float32: 2e-6, torch.float64: 1e-14}


def images(count: int, channels: int, rows: int, columns: int, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(count, channels, rows, columns, dtype=dtype).to(memory_format=torch.channels_last)


def through_torch(image, layer, pool, incoming):
    """Value and gradients of image, weight and bias in float64, by none of our code."""
    double = [tensor.detach().double().requires_grad_() for tensor in (image, *layer.parameters())]
    padding = layer.kernel_size[0] // 2 if not layer.pads_by_hand and layer.padding[0] else 0
    padded = double[0]
    if layer.pads_by_hand:
        total = layer.kernel_size[0] - 1
        padded = functional.pad(padded, (total // 2, total - total // 2) * 2)
    convolved = functional.conv2d(padded, *double[1:], padding=padding)
    pooled = functional.max_pool2d(convolved, 2, 2, ceil_mode=pool.ceil_mode)
    pooled = torch.relu(pooled) if isinstance(pool, ReluMaxPool) else pooled
    return pooled, torch.autograd.grad(pooled, double, incoming.double())


def agree(ours, theirs, epsilon) -> None:
    assert len(ours) == len(theirs)
    for got, want in zip(ours, theirs, strict=True):
        assert got.shape == want.shape
        assert ((got - want).abs() <= epsilon * want.abs().max()).all()


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("channels", "filters", "kernel", "stride"), [(1, 32, 5, 1), (16, 36, 5, 1), (3, 7, 2, 2)])
def test_a_convolutions_value_and_gradients_are_those_of_torchs_own(channels, filters, kernel, stride, padding):
    torch.manual_seed(0)
    layer = Conv2d(channels, filters, kernel, stride=stride, padding=padding)
    image = images(9, channels, 14, 14, torch.float32).requires_grad_()
    value = layer(image)
    assert type(value.grad_fn).__name__ == "_ConvolutionBackward"
    incoming = torch.randn_like(value)
    double = [tensor.detach().double().requires_grad_() for tensor in (image, *layer.parameters())]
    around = kernel // 2 if padding == "SAME" and stride == 1 else 0  # 14 by 2 needs none
    expected = functional.conv2d(*double, stride=stride, padding=around)
    assert (value - expected).abs().max() < 1e-4
    ours = torch.autograd.grad(value, [image, *layer.parameters()], incoming)
    agree(ours, torch.autograd.grad(expected, double, incoming.double()), 2e-6)


@with_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("pooling", [MaxPool("SAME"), MaxPool("VALID"), ReluMaxPool()], ids=["same", "valid", "relu"])
@pytest.mark.parametrize(
    ("channels", "filters", "kernel", "padding", "rows", "columns"),
    [
        *[(1, 32, 3, "SAME", 28, 28), (32, 64, 3, "SAME", 14, 14), (32, 64, 3, "VALID", 14, 14)],
        *[(1, 16, 5, "SAME", 28, 28), (16, 36, 5, "SAME", 14, 14), (64, 128, 3, "SAME", 7, 7)],
        *[(1, 5, 3, "SAME", 5, 8), (3, 1, 1, "VALID", 2, 2), (1, 16, 7, "SAME", 9, 9), (130, 17, 2, "SAME", 5, 4)],
        *[(1, 32, 4, "SAME", 7, 6), (7, 33, 5, "VALID", 9, 11), (48, 200, 4, "SAME", 3, 6), (1, 48, 5, "VALID", 7, 7)],
        *[(1, 32, 3, "SAME", 9, 7), (1, 16, 5, "SAME", 3, 3)],
    ],
)
def test_gradients_through_pooling_are_those_of_torchs_own(
    channels, filters, kernel, padding, rows, columns, pooling, dtype
):
    torch.manual_seed(0)
    layer = Conv2d(channels, filters, kernel, padding=padding).to(dtype)
    image = images(6, channels, rows, columns, dtype).requires_grad_()
    value = pooling(layer(image))
    assert type(value.grad_fn).__name__ == "_PooledConvolutionBackward"
    incoming = torch.randn_like(value)
    expected, theirs = through_torch(image, layer, pooling, incoming)
    agree([value], [expected], EPSILON[dtype])
    ours = torch.autograd.grad(value, [image, *layer.parameters()], incoming)
    agree(ours, theirs, 10 * EPSILON[dtype])
    assert ours[1].stride() == layer.weight.stride()


@with_kernels
@pytest.mark.parametrize("relu", [False, True])
def test_pooling_itself_is_torchs_bit_for_bit_with_ties_zeros_and_nans(relu):
    image = torch.randint(-2, 3, (5, 19, 9, 7), generator=torch.Generator().manual_seed(0)).float()
    image[0, :, 2:4, 2] = torch.nan
    image[1, :, 0, 0], image[1, :, 0, 1], image[2] = torch.inf, -torch.inf, -torch.inf
    for ceil_mode in (False, True):
        theirs, places = functional.max_pool2d(image, 2, 2, ceil_mode=ceil_mode, return_indices=True)
        theirs = torch.relu(theirs) if relu else theirs
        pooled, winner = torch.ops.mnistport.max_pool(image, ceil_mode, relu)
        assert torch.equal(pooled.nan_to_num(77), theirs.nan_to_num(77))
        rows, columns = torch.arange(theirs.shape[2])[:, None], torch.arange(theirs.shape[3])
        ours = (2 * rows + winner // 2) * image.shape[3] + 2 * columns + winner % 2
        alive = (theirs > 0) | theirs.isnan() if relu else torch.ones_like(winner, dtype=torch.bool)
        assert torch.equal(winner == convolution.DROPPED, ~alive)
        assert torch.equal(ours[alive], places[alive])


@with_kernels
def test_the_number_of_threads_changes_no_bit():
    torch.manual_seed(0)
    shapes = [(1, 32, 5, 28), (32, 64, 5, 14), (64, 128, 3, 7)]
    layers = [(Conv2d(channels, filters, size), side) for channels, filters, size, side in shapes]
    inputs = [images(13, layer.in_channels, side, side, torch.float32).requires_grad_() for layer, side in layers]

    def gradients():
        outputs = [ReluMaxPool()(layer(image)) for (layer, _), image in zip(layers, inputs, strict=True)]
        weights = [weight for layer, _ in layers for weight in layer.parameters()]
        return torch.autograd.grad([output.square().sum() for output in outputs], [*inputs, *weights])

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = gradients()
        torch.set_num_threads(3)
        assert all(map(torch.equal, one, gradients()))
    finally:
        torch.set_num_threads(threads)


@with_kernels
@pytest.mark.parametrize("where", ["image", "incoming"])
def test_a_nan_goes_through(where):
    layer, image = Conv2d(2, 3, 3), images(4, 2, 6, 6, torch.float32)
    if where == "image":
        image[1, 0, 2, 2] = torch.nan
    image.requires_grad_()
    value = ReluMaxPool()(layer(image))
    incoming = torch.ones_like(value)
    if where == "incoming":
        value.data.fill_(1.0)
        incoming[1] = torch.nan
    of_image, of_weight, of_bias = torch.autograd.grad(value, [image, *layer.parameters()], incoming)
    assert of_weight.isnan().any() and of_bias.isnan().any() == (where == "incoming")
    assert of_image[1].isnan().any() == (where == "incoming") and not of_image[0].isnan().any()


@with_kernels
def test_what_needs_no_gradient_gets_none(monkeypatch):
    layer, image = Conv2d(2, 3, 3), images(4, 2, 6, 6, torch.float32)
    asked = []
    for name in ("to_image", "to_weights"):
        own = getattr(torch.ops.mnistport, name)
        monkeypatch.setattr(torch.ops.mnistport, name, lambda *a, name=name, own=own: (asked.append(name), own(*a))[1])
    MaxPool()(layer(image)).sum().backward()
    assert asked == ["to_weights"] and layer.weight.grad is not None and layer.bias.grad is not None
    layer.bias.requires_grad_(False)
    layer.bias.grad = None
    MaxPool()(layer(image)).sum().backward()
    assert layer.bias.grad is None
    image.requires_grad_()
    Conv2d(2, 3, 3, bias=False)(image).sum().backward()
    assert image.grad is not None


@with_kernels
def test_who_else_looks_at_the_convolution_gets_its_gradient_too():
    torch.manual_seed(0)
    layer, image, pool = Conv2d(2, 3, 3), images(4, 2, 6, 6, torch.float32), ReluMaxPool()

    def gradients(use):
        layer.zero_grad()
        use(layer(image))
        return [weight.grad for weight in layer.parameters()]

    def watched(convolved):
        convolved.retain_grad()
        pool(convolved).sum().backward()
        assert convolved.grad is not None and convolved.grad.count_nonzero() > 0

    def hooked(convolved):
        seen = []
        convolved.register_hook(seen.append)
        pool(convolved).sum().backward()
        assert len(seen) == 1

    alone = gradients(lambda convolved: pool(convolved).sum().backward())
    assert all(map(torch.allclose, gradients(watched), alone))
    assert all(map(torch.allclose, gradients(hooked), alone))
    both = gradients(lambda convolved: (pool(convolved).sum() + convolved.sum()).backward())
    other = gradients(lambda convolved: convolved.sum().backward())
    assert all(torch.allclose(whole, a + b, atol=1e-5) for whole, a, b in zip(both, alone, other, strict=True))


@with_kernels
def test_a_hook_that_puts_another_image_in_place_is_obeyed():
    layer, image, pool = Conv2d(2, 3, 3), images(4, 2, 6, 6, torch.float32), MaxPool()
    pool(layer(image)).sum().backward()
    plain = layer.weight.grad.clone()
    layer.zero_grad()
    layer.register_forward_hook(lambda _, __, output: 2 * output)
    pool(layer(image)).sum().backward()
    assert torch.allclose(layer.weight.grad, 2 * plain, atol=1e-5)


@pytest.mark.parametrize("pooled", [False, True])
def test_gradients_of_gradients_are_those_of_torchs_own(pooled):
    torch.manual_seed(0)
    layer, image = Conv2d(2, 3, 3).double(), images(4, 2, 5, 5).requires_grad_()

    def second(function) -> torch.Tensor:
        value = function(image, layer.weight, layer.bias)
        (first,) = torch.autograd.grad((value + 1).pow(3).sum(), image, create_graph=True)  # not 0 at dead units
        return torch.autograd.grad(first.square().sum(), layer.weight)[0]

    def ours(image, weight, bias):
        value = convolution.convolution(image, weight, bias, (1, 1), (1, 1))
        return convolution.max_pool(value, True, True) if pooled else value

    def theirs(image, weight, bias):
        value = functional.conv2d(image, weight, bias, padding=1)
        return torch.relu(functional.max_pool2d(value, 2, 2, ceil_mode=True)) if pooled else value

    assert torch.allclose(second(ours), second(theirs), rtol=1e-10)


def test_a_bias_gradient_is_nearer_the_truth_than_onednns():
    """Of 78,400 equal values, added one by one, the last digits of each are lost: the sum is off by 7.6."""
    layer = Conv2d(1, 32, 3)
    incoming = torch.full((100, 32, 28, 28), 1.0001).to(memory_format=torch.channels_last)
    layer(torch.zeros(100, 1, 28, 28)).backward(incoming)
    assert (layer.bias.grad.double() - 78400 * incoming[0, 0, 0, 0].double()).abs().max() < 0.1


def test_what_is_not_trained_is_left_to_torch(monkeypatch):
    for own in (convolution._Convolution, convolution._PooledConvolution):
        monkeypatch.setattr(own, "apply", lambda *_: pytest.fail("ours was asked"))
    with torch.no_grad():
        MaxPool()(Conv2d(1, 2, 3)(torch.randn(4, 1, 6, 6)))
    with torch.autocast("cpu", torch.bfloat16):
        assert ReluMaxPool()(Conv2d(1, 2, 3)(torch.randn(4, 1, 6, 6))).dtype == torch.bfloat16
    ReluMaxPool()(torch.randn(4, 1, 6, 6, requires_grad=True)).sum().backward()


@pytest.mark.parametrize("reason", ["stride", "one row", "no image", "too large", "no kernels"])
def test_what_the_kernels_cannot_take_is_left_to_torch(monkeypatch, reason):
    monkeypatch.setattr(convolution._PooledConvolution, "apply", lambda *_: pytest.fail("a kernel was asked"))
    layer = Conv2d(1, 2, 3, stride=2 if reason == "stride" else 1)
    image = torch.randn(0 if reason == "no image" else 4, 1, 1 if reason == "one row" else 6, 6)
    if reason == "too large":
        monkeypatch.setattr(convolution, "LARGEST", image.numel() * 2 - 1)  # the convolved image is just over it
    if reason == "no kernels":
        monkeypatch.setattr(kernels, "why_not", lambda: "a reason")
    value = nn.Sequential(layer, ReluMaxPool())(image)
    value.sum().backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize("pooled", [False, True])
def test_torchs_function_transforms_see_torchs_own_convolution(pooled):
    torch.manual_seed(0)
    layer, image = Conv2d(2, 3, 3).double(), images(4, 2, 6, 6)
    model = nn.Sequential(layer, ReluMaxPool()) if pooled else layer
    weights = {name: weight.detach() for name, weight in model.named_parameters()}

    def loss(weights, image):
        return torch.func.functional_call(model, weights, (image,)).square().sum()

    model(image).square().sum().backward()
    ours = {name: weight.grad for name, weight in model.named_parameters()}
    whole = torch.func.grad(loss)(weights, image)
    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(weights, image[:, None])
    _, along = torch.func.jvp(lambda w: loss(w, image), (weights,), (ours,))
    with torch.autograd.forward_ad.dual_level():
        dual = {n: torch.autograd.forward_ad.make_dual(w.requires_grad_(), ours[n]) for n, w in weights.items()}
        tangent = torch.autograd.forward_ad.unpack_dual(loss(dual, image)).tangent
    for name, gradient in ours.items():
        assert torch.allclose(whole[name], gradient, rtol=1e-10)
        assert torch.allclose(each[name].sum(0), gradient, rtol=1e-10)
    square = sum(gradient.square().sum() for gradient in ours.values())
    assert torch.allclose(along, square) and torch.allclose(tangent, square)


def test_forward_gradients_of_a_bias_alone_and_transforms_of_what_follows_a_convolution():
    torch.manual_seed(0)
    layer, image = Conv2d(2, 3, 3).double(), images(4, 2, 6, 6)
    with torch.autograd.forward_ad.dual_level():
        bias = torch.autograd.forward_ad.make_dual(layer.bias, torch.ones(3).double())
        value = torch.func.functional_call(layer, {"weight": layer.weight, "bias": bias}, (image,))
        assert (torch.autograd.forward_ad.unpack_dual(value).tangent == 1).all()
    convolved = layer(image)
    of_factor = torch.func.grad(lambda factor: ReluMaxPool()(factor * 0 + convolved).sum() * factor)
    assert torch.allclose(of_factor(torch.tensor(2.0).double()), ReluMaxPool()(convolved).sum())
    head = torch.func.grad(lambda factor: (ReluMaxPool()(convolved) * factor).sum())
    assert torch.allclose(head(torch.tensor(2.0).double()), ReluMaxPool()(convolved).sum())


@pytest.mark.parametrize("way", ["compile", "trace", "export"])
def test_compilers_get_torchs_own_operations(way):
    torch.manual_seed(0)
    model, image = nn.Sequential(Conv2d(2, 3, 3), ReluMaxPool()), images(4, 2, 6, 6, torch.float32)
    model(image).sum().backward()
    expected, value = layer_gradients(model), model(image)
    if way == "compile":
        other = torch.compile(model, backend="eager", fullgraph=True)
    elif way == "trace":
        other = torch.jit.trace(model, image)
    else:
        other = torch.export.export(model, (image,)).module()
    model.zero_grad()
    result = other(image)
    assert torch.allclose(result, value)
    if way != "export":  # whose parameters are others
        result.sum().backward()
        assert all(map(torch.allclose, layer_gradients(model), expected))


def layer_gradients(model):
    return [weight.grad.clone() for weight in model.parameters()]


def test_one_image_without_a_batch_trains():
    layer, image = Conv2d(2, 3, 3), torch.randn(2, 6, 6)
    ReluMaxPool()(layer(image)).sum().backward()
    alone = layer_gradients(layer)
    layer.zero_grad()
    ReluMaxPool()(layer(image[None])).sum().backward()
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(alone, layer_gradients(layer), strict=True))


@with_kernels
def test_who_was_frozen_while_it_was_pooled_has_its_gradient_all_the_same():
    layer, image = Conv2d(2, 3, 3), images(4, 2, 6, 6, torch.float32)
    ReluMaxPool()(layer(image)).sum().backward()
    expected = layer_gradients(layer)
    layer.zero_grad()
    convolved = layer(image)
    layer.requires_grad_(False)
    pooled = ReluMaxPool()(convolved)
    layer.requires_grad_(True)
    pooled.sum().backward()
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(layer_gradients(layer), expected, strict=True))


@pytest.mark.parametrize("edited", ["weight", "image"])
@pytest.mark.parametrize("before", ["pooling", "backward"])
def test_what_was_edited_in_place_is_refused(edited, before):
    layer, image = Conv2d(2, 3, 3), images(4, 2, 6, 6)
    layer.double()

    def edit():
        with torch.no_grad():
            (layer.weight if edited == "weight" else image).zero_()

    image = image.requires_grad_()
    convolved = layer(image)
    if before == "pooling":
        edit()
    value = ReluMaxPool()(convolved)
    if before == "backward":
        edit()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.sum().backward()

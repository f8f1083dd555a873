"""The rewritten list of calls gives torch's values and gradients up to rounding.

It calls our kernels where they fit.
"""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from steps import BATCH, apart, batches, step_of
from torch import nn
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

from mnistport import networks
from mnistport.layers import Conv2d, Dense, MaxPool, ReluMaxPool
from mnistport.speed import compiling, listing, pooled, rewrite
from mnistport.step import Eager

NO_KERNELS = compiling.reason_against()
with_kernels = pytest.mark.skipif(bool(NO_KERNELS), reason=f"no kernels: {NO_KERNELS}")
EPSILON = {torch.float32: 2e-6, torch.float64: 1e-14}
OURS = {torch.ops.mnistport.max_pool.default, torch.ops.mnistport.to_weights.default}
TO_IMAGE = torch.ops.mnistport.to_image.default
ONEDNN = torch.ops.mkldnn._linear_pointwise.default


def images(
    count: int, channels: int, rows: int, columns: int, dtype=torch.float64
) -> torch.Tensor:
    return torch.randn(count, channels, rows, columns, dtype=dtype)


def gradients_of(module: nn.Module) -> Callable[..., list[torch.Tensor]]:
    """From image, incoming gradient and weights to the value and both gradients."""
    names = [name for name, _ in module.named_parameters()]

    def function(image: torch.Tensor, incoming: torch.Tensor, *weights: torch.Tensor):
        named = dict(zip(names, weights, strict=True))
        value = torch.func.functional_call(module, named, (image,))
        wanted = [tensor for tensor in (image, *weights) if tensor.requires_grad]
        return [value, *torch.autograd.grad(value, wanted, incoming)]

    return function


def rewritten(
    function: Callable[..., object], *inputs: torch.Tensor
) -> tuple[GraphModule, str]:
    """The calls that a function makes, rewritten; and the remark."""
    traced = make_fx(function)(*inputs)
    listing._drop_aliases(traced.graph)
    remark = rewrite.rewrite(traced.graph)
    traced.recompile()
    return traced, remark


def calls(traced: GraphModule) -> set[object]:
    return {node.target for node in traced.graph.nodes if node.op == "call_function"}


def through(module: nn.Module, image: torch.Tensor, *, image_trains: bool = True):
    """The rewritten calls of a module, and its inputs."""
    torch.manual_seed(1)
    image = image.requires_grad_(image_trains)
    incoming = torch.randn_like(module(image))
    inputs = (image, incoming, *module.parameters())
    traced, remark = rewritten(gradients_of(module), *inputs)
    return traced, inputs, remark


def agree(ours, theirs, epsilon) -> None:
    assert len(ours) == len(theirs)
    for got, want in zip(ours, theirs, strict=True):
        assert got.shape == want.shape
        assert ((got - want).abs() <= epsilon * want.abs().max()).all()


@with_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "pooling",
    [MaxPool("SAME"), MaxPool("VALID"), ReluMaxPool()],
    ids=["same", "valid", "relu"],
)
@pytest.mark.parametrize(
    ("channels", "filters", "kernel", "padding", "rows", "columns"),
    [
        (1, 32, 3, "SAME", 28, 28),
        (32, 64, 3, "SAME", 14, 14),
        (32, 64, 3, "VALID", 14, 14),
        (1, 16, 5, "SAME", 28, 28),
        (16, 36, 5, "SAME", 14, 14),
        (64, 128, 3, "SAME", 7, 7),
        (1, 5, 3, "SAME", 5, 8),
        (3, 1, 1, "VALID", 2, 2),
        (1, 16, 7, "SAME", 9, 9),
        (130, 17, 2, "SAME", 5, 4),
        (1, 32, 4, "SAME", 7, 6),
        (7, 33, 5, "VALID", 9, 11),
        (48, 200, 4, "SAME", 3, 6),
        (1, 48, 5, "VALID", 7, 7),
        (1, 32, 3, "SAME", 9, 7),
        (1, 16, 5, "SAME", 3, 3),
    ],
)
def test_gradients_through_pooling_are_torchs(
    channels, filters, kernel, padding, rows, columns, pooling, dtype
):
    torch.manual_seed(0)
    module = nn.Sequential(
        Conv2d(channels, filters, kernel, padding=padding), pooling
    ).to(dtype)
    traced, inputs, remark = through(module, images(6, channels, rows, columns, dtype))
    assert OURS | {TO_IMAGE} <= calls(traced) and remark == ""
    double = [
        tensor.detach().double().requires_grad_(tensor.requires_grad) for tensor in inputs
    ]
    theirs = gradients_of(deepcopy(module).double())(*double)
    ours = traced(*inputs)
    agree(ours[:1], theirs[:1], EPSILON[dtype])
    agree(ours[1:], theirs[1:], 10 * EPSILON[dtype])


@with_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("relu", [False, True])
def test_pooling_equals_torchs_bit_for_bit_with_ties_zeros_and_nans(relu, dtype):
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(-2, 3, (5, 19, 9, 7), generator=generator).to(dtype)
    image[0, :, 2:4, 2] = torch.nan
    image[1, :, 0, 0], image[1, :, 0, 1], image[2] = torch.inf, -torch.inf, -torch.inf
    for ceil_mode in (False, True):
        theirs, places = functional.max_pool2d(
            image, 2, 2, ceil_mode=ceil_mode, return_indices=True
        )
        theirs = torch.relu(theirs) if relu else theirs
        ours, winner = torch.ops.mnistport.max_pool(image, ceil_mode, relu)
        assert torch.equal(ours.nan_to_num(77), theirs.nan_to_num(77))
        rows, columns = (
            torch.arange(theirs.shape[2])[:, None],
            torch.arange(theirs.shape[3]),
        )
        place = (2 * rows + winner // 2) * image.shape[3] + 2 * columns + winner % 2
        alive = (theirs > 0) | theirs.isnan() if relu else torch.ones_like(winner).bool()
        assert torch.equal(winner == pooled.DROPPED, ~alive)
        assert torch.equal(place[alive], places[alive])


@with_kernels
def test_the_number_of_threads_changes_no_bit():
    torch.manual_seed(0)
    shapes = [(1, 32, 5, 28), (32, 64, 5, 14), (64, 128, 3, 7)]
    made = []
    for channels, filters, size, side in shapes:
        module = nn.Sequential(Conv2d(channels, filters, size), ReluMaxPool())
        made.append(through(module, images(13, channels, side, side, torch.float32))[:2])

    def gradients():
        return [tensor for traced, inputs in made for tensor in traced(*inputs)[1:]]

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
def test_a_nan_stays_a_nan(where):
    module = nn.Sequential(Conv2d(2, 3, 3), MaxPool())
    traced, inputs, _ = through(module, images(4, 2, 6, 6, torch.float32))
    image, incoming, *weights = (tensor.detach().clone() for tensor in inputs)
    if where == "image":
        image[1, 0, 2, 2] = torch.nan
    else:
        incoming[1] = torch.nan
    _, of_image, of_weight, of_bias = traced(image, incoming, *weights)
    assert of_weight.isnan().any() and of_bias.isnan().any() == (where == "incoming")
    assert (
        of_image[1].isnan().any() == (where == "incoming")
        and not of_image[0].isnan().any()
    )


@with_kernels
def test_the_images_gradient_is_not_computed_where_nobody_needs_it():
    module = nn.Sequential(Conv2d(2, 3, 3), MaxPool()).double()
    traced, _, _ = through(module, images(4, 2, 6, 6), image_trains=False)
    assert calls(traced) >= OURS and TO_IMAGE not in calls(traced)


class Uses(nn.Module):
    """A convolution and its pooling, with another use of something in between."""

    def __init__(self, use: str) -> None:
        super().__init__()
        self.conv, self.use = Conv2d(2, 3, 3).double(), use

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        convolved = self.conv(image)
        pooled = functional.max_pool2d(convolved, 2, 2)
        value = torch.relu(pooled)
        if self.use == "convolution":
            return value.sum() + convolved.square().sum()
        if self.use == "maxima":
            return value.sum() + pooled.square().sum()
        if self.use == "relu twice":
            return value.sum() + value.square().sum()
        return functional.avg_pool2d(convolved, 2).sum()


@with_kernels
@pytest.mark.parametrize("use", ["convolution", "maxima", "relu twice", "no pooling"])
def test_another_user_of_the_values_in_between_keeps_its_gradient(use):
    torch.manual_seed(0)
    module = Uses(use)
    traced, inputs, _ = through(module, images(4, 2, 6, 6))
    agree(traced(*inputs), gradients_of(module)(*inputs), 1e-13)
    assert bool(OURS & calls(traced)) == (use in ("maxima", "relu twice"))


@with_kernels
@pytest.mark.parametrize(
    "reason",
    ["stride", "one row", "too large", "dilation", "groups", "pool of 3", "bfloat16"],
)
def test_what_the_kernels_cannot_take_is_left_to_torch(monkeypatch, reason):
    torch.manual_seed(0)
    layer: nn.Module = Conv2d(2, 4, 3, stride=2 if reason == "stride" else 1)
    if reason == "dilation":
        layer = nn.Conv2d(2, 4, 3, dilation=2, padding=2)
    if reason == "groups":
        layer = nn.Conv2d(2, 4, 3, groups=2, padding=1)
    pool = nn.MaxPool2d(3) if reason == "pool of 3" else ReluMaxPool()
    if reason == "too large":
        # One value less than this convolution has.
        monkeypatch.setattr(rewrite, "LARGEST", 4 * 4 * 36 - 1)
    dtype = torch.bfloat16 if reason == "bfloat16" else torch.float32
    module = nn.Sequential(layer, pool).to(dtype)
    image = images(4, 2, 1 if reason == "one row" else 6, 6, dtype)
    traced, inputs, _ = through(module, image)
    assert not calls(traced) & {*OURS, TO_IMAGE}
    assert all(map(torch.equal, traced(*inputs), gradients_of(module)(*inputs)))


def test_without_kernels_torch_does_the_work_and_the_remark_says_why(monkeypatch):
    monkeypatch.setattr(compiling, "reason_against", lambda: "a reason")
    module = nn.Sequential(Conv2d(2, 3, 3), ReluMaxPool()).double()
    traced, _, remark = through(module, images(4, 2, 6, 6))
    assert not calls(traced) & {*OURS, TO_IMAGE}
    assert (
        remark == "the gradients of convolutions are computed by torch, "
        "which is slower: a reason"
    )


with_onednn = pytest.mark.skipif(
    not rewrite._onednn_is_there(), reason="this torch has no oneDNN"
)


@with_onednn
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("rows", "features", "units"),
    [(1, 1, 1), (50, 1024, 10), (7, 13, 625), (128, 2048, 625)],
)
def test_products_by_onednn_are_torchs_up_to_rounding(
    monkeypatch, rows, features, units, bias
):
    monkeypatch.setattr(rewrite, "WORTH_ONEDNN", 1)
    torch.manual_seed(0)
    module = Dense(features, units, bias=bias)
    traced, inputs, _ = through(module, torch.randn(rows, features))
    assert ONEDNN in calls(traced)
    assert not calls(traced) & {torch.ops.aten.mm.default, torch.ops.aten.addmm.default}
    double = [tensor.detach().double().requires_grad_() for tensor in inputs]
    theirs = gradients_of(deepcopy(module).double())(*double)
    for got, want in zip(traced(*inputs), theirs, strict=True):
        assert (got - want).abs().max() < 1e-6 * max(features, units, rows)


@with_onednn
def test_small_and_float64_products_are_left_to_torch(monkeypatch):
    monkeypatch.setattr(rewrite, "WORTH_ONEDNN", 4 * 3 * 2 + 1)
    assert ONEDNN not in calls(through(Dense(3, 2), torch.randn(4, 3))[0])
    assert ONEDNN in calls(through(Dense(3, 2), torch.randn(5, 3))[0])
    assert ONEDNN not in calls(
        through(Dense(30, 20).double(), torch.randn(50, 30).double())[0]
    )


OPTIONS = [
    {"keep_prob": 0.5, "extra_convolution": True, "extra_dense": True, "last_relu": True},
    {"pooling": "average", "activation": "sigmoid"},
    {"pooling": "max", "activation": "sigmoid", "activation_first": True},
    {"pooling": "stride", "filter_size1": 4},
    {"pooling": "none", "num_filters1": 3, "num_filters2": 5},
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in (*networks.BUILT_IN, "odd")),
        *(("hvass", o) for o in OPTIONS),
    ],
)
def test_a_listed_step_is_the_eager_step_up_to_rounding(name, options, dtype):
    """One step, by each engine: losses, gradients and everything the step changes."""
    one, other = (step_of(name, dtype, **options) for _ in range(2))
    before = {key: value.clone() for key, value in other.module.state_dict().items()}
    generator = torch.random.get_rng_state()
    backward, _ = listing.listed(other)
    assert torch.equal(generator, torch.random.get_rng_state())
    after = other.module.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    (rows,) = batches(1)
    losses = []
    for step, way in ((one, one.backward), (other, backward)):
        torch.manual_seed(1)
        step.draws.stand_at(7)
        pixels, labels = step.pixels[rows], step.labels[rows]
        losses.append(way(pixels, labels))
    assert (losses[0] - losses[1]).abs() <= 10 * EPSILON[dtype] * losses[0].abs()
    weights = zip(one.module.parameters(), other.module.parameters(), strict=True)
    allowed = 20 * EPSILON[dtype]
    if dtype == torch.float32 and options.get("activation_first"):
        # A sigmoid makes units almost equal before they are pooled. Rounding decides
        # which is the largest, and on some processors the engines round differently.
        allowed = 0.1
    for ours, theirs in weights:
        assert (ours.grad is None) == (theirs.grad is None)
        if ours.grad is not None:
            assert ours.grad.stride() == theirs.grad.stride()
            scale = ours.grad.abs().max()
            assert (ours.grad - theirs.grad).abs().max() <= allowed * scale


def test_several_listed_steps_stay_near_the_eager_ones_in_float64():
    from mnistport.speed.engines import Listed

    one, other = (step_of("convnet", torch.float64) for _ in range(2))
    index = batches(5)
    expected = Eager(one).run(3, index)
    found = Listed(other).run(3, index)
    assert (expected - found).abs().max() < 1e-12
    assert apart(one, other) < 1e-12
    assert len(index[0]) == BATCH

"""Layers that TF1 has in float32 only. An honest port passes, and faulty ones fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mnistport.layers import Conv2d, Dense, float32
from mnistport.optimizers import GradientDescent
from parity import checks
from parity.bench import Bench
from parity.case import Case
from parity.reference import Data, Endpoints, Feeds, Port, Reference, Slots, Stage
from parity.weights import Layout, Unmapped, Weight, WeightMap

pytestmark = [pytest.mark.tf, pytest.mark.thinned]

CHANNELS, CLASSES = 6, 3
CHECKS = ("weights", "forward", "loss", "gradients", "step")
Module = Callable[[], nn.Module]
slow_float64 = pytest.param("float64", marks=pytest.mark.slow)


@dataclass(frozen=True)
class Layer:
    """A layer on TF1's side, and its rows.

    Attributes:
        theirs: A function: (tensorflow, images, whether it trains) -> images.
        weights: Its rows, TF1's name and ours.
    """

    theirs: Callable[[Any, Any, Any], Any]
    weights: Mapping[str, str]


class Net(nn.Module):
    """A convolution, the layer, the mean of each channel, and scores."""

    def __init__(self, layer: Module) -> None:
        super().__init__()
        self.conv, self.layer = Conv2d(2, CHANNELS, 1, bias=False), layer()
        self.out = Dense(CHANNELS, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        layer = self.layer(self.conv(images.permute(0, 3, 1, 2)))
        return self.out((layer * layer).mean((2, 3)))


def build(tf: Any, layer: Layer) -> Endpoints:
    x = tf.placeholder(tf.float32, [None, None, None, 2])
    y_ = tf.placeholder(tf.float32, [None, CLASSES])
    training = tf.placeholder(tf.bool, [])
    variables = {
        "W": tf.Variable(tf.random_normal([1, 1, 2, CHANNELS])),
        "W_out": tf.Variable(tf.random_normal([CHANNELS, CLASSES])),
        "b_out": tf.Variable(tf.random_normal([CLASSES])),
    }
    before = set(tf.global_variables())
    conv = tf.nn.conv2d(x, variables["W"], [1, 1, 1, 1], "SAME")
    images = layer.theirs(tf, conv, training)
    for variable in set(tf.global_variables()) - before:
        variables[variable.op.name.rpartition("/")[2]] = variable
    mean = tf.reduce_mean(images * images, [1, 2])
    logits = tf.matmul(mean, variables["W_out"]) + variables["b_out"]
    losses = tf.nn.softmax_cross_entropy_with_logits(labels=y_, logits=logits)
    loss, optimizer = tf.reduce_mean(losses), tf.train.GradientDescentOptimizer(0.5)
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        train_op = optimizer.minimize(loss)
    return Endpoints(
        feeds={"x": x, "y_": y_},
        variables=variables,
        stages={"conv": conv, "layer": images, "logits": logits},
        loss=loss,
        optimizer=optimizer,
        train_op=train_op,
        training={training: True},
        evaluation={training: False},
    )


def data(seed: int, batch: int, pixels: int) -> Data:
    def examples(step: int) -> Feeds:
        random = np.random.default_rng((seed, step))
        x = random.standard_normal((batch, pixels, pixels, 2)).astype(np.float32)
        labels = random.integers(0, CLASSES, batch)
        return {"x": x, "y_": np.eye(CLASSES, dtype=np.float32)[labels]}

    return Data(name="noise", batch=examples, evaluation=examples(-1 % 2**31))


IMAGE = Layout("n h w c -> n c h w")


def case(layer: Layer, ours: Module, dtype: Any, batch: int = 4, pixels: int = 5) -> Case:
    """The question whether `ours` is `layer`."""
    averages = [name for name in layer.weights if name.startswith("moving")]
    norms = {path.rpartition(".")[0] for path in layer.weights.values() if averages}
    counted = [f"{max(norms, key=len)}.num_batches_tracked"] if norms else []
    reference = Reference(
        port=Port(
            name="net",
            module=partial(Net, ours),
            forward=lambda module, feeds: module(feeds["x"]),
            loss=lambda output, feeds: nn.functional.cross_entropy(
                output, feeds["y_"].argmax(1)
            ),
            optimizer=partial(GradientDescent, learning_rate=0.5),
        ),
        build=partial(build, layer=layer),
        weights=WeightMap(
            Weight("W", "conv.weight", "h w i o -> o i h w"),
            Weight("W_out", "out.weight", "i o -> o i"),
            Weight("b_out", "out.bias"),
            *(Weight(theirs, path) for theirs, path in layer.weights.items()),
            *(Unmapped("ours", name, "counts batches") for name in counted),
        ),
        positive=[name for name in averages if name == "moving_variance"],
        stages=[
            Stage("conv", "conv", IMAGE),
            Stage("layer", "layer", IMAGE),
            Stage("logits", "out"),
        ],
        output="logits",
        slots=Slots(),
        data=partial(data, batch=batch, pixels=pixels),
    )
    bench = Bench(reference=reference, data=reference.data(0))
    return Case(bench=bench, dtype=dtype)


def failing(asked: Case) -> list[str]:
    """The names of all comparisons that fail."""
    comparisons = [c for name in CHECKS for c in checks.get(name)(asked)]
    assert len(comparisons) > 10
    return [comparison.name for comparison in comparisons if not comparison.passed]


# Batch normalization

BATCH_NORM = Layer(
    lambda tf, images, training: tf.layers.batch_normalization(images, training=training),
    {
        "gamma": "layer.weight",
        "beta": "layer.bias",
        "moving_mean": "layer.running_mean",
        "moving_variance": "layer.running_var",
    },
)
SHARE, EPSILON = 1 - float32(0.99), float32(0.001)


def torchs_norm(share: float = SHARE, epsilon: float = EPSILON) -> nn.Module:
    return nn.BatchNorm2d(CHANNELS, eps=epsilon, momentum=share)


class Biased(nn.BatchNorm2d):
    """Averages the variance without Bessel's correction."""

    def forward(self, images: Tensor) -> Tensor:
        old = self.running_var.clone()
        result = super().forward(images)
        if self.training:
            variance = images.detach().var((0, 2, 3), correction=0)
            self.running_var.copy_((1 - SHARE) * old + SHARE * variance)
        return result


def biased_norm() -> nn.Module:
    return Biased(CHANNELS, eps=EPSILON, momentum=SHARE)


SIZES = [(4, 1), (4, 5), (64, 1), (64, 3)]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("batch", "pixels"), SIZES)
def test_torchs_batch_norm_passes_with_tfs_constants(
    batch: int, pixels: int, dtype: str
) -> None:
    assert failing(case(BATCH_NORM, torchs_norm, dtype, batch, pixels)) == []


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("batch", "pixels"), SIZES)
def test_an_average_of_the_biased_variance_fails(
    batch: int, pixels: int, dtype: str
) -> None:
    failed = failing(case(BATCH_NORM, biased_norm, dtype, batch, pixels))
    assert any(name.startswith("moving_variance after") for name in failed)


@pytest.mark.thinned
@pytest.mark.parametrize("dtype", [slow_float64, "float32"])
@pytest.mark.parametrize(
    "wrong",
    [
        partial(torchs_norm, epsilon=1e-5),
        partial(torchs_norm, share=0.1),
        partial(torchs_norm, share=float32(0.0101)),
    ],
    ids=["epsilon", "momentum", "momentum a little"],
)
def test_other_constants_fail(wrong: Module, dtype: str) -> None:
    assert failing(case(BATCH_NORM, wrong, dtype))


# Local response normalization

LRN = Layer(
    lambda tf, images, _: tf.nn.local_response_normalization(
        images, depth_radius=2, bias=1.5, alpha=0.3, beta=0.75
    ),
    {},
)


def torchs_lrn(
    size: int = 5, alpha: float = 5 * float32(0.3), beta: float = 0.75, k: float = 1.5
) -> nn.Module:
    return nn.LocalResponseNorm(size, alpha, beta, k)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_torchs_local_response_norm_passes_with_a_multiplied_alpha(dtype: str) -> None:
    assert failing(case(LRN, torchs_lrn, dtype)) == []


@pytest.mark.thinned
@pytest.mark.parametrize("dtype", [slow_float64, "float32"])
@pytest.mark.parametrize(
    "wrong",
    [
        partial(torchs_lrn, alpha=float32(0.3)),
        partial(torchs_lrn, size=3, alpha=3 * float32(0.3)),
        partial(torchs_lrn, k=1.0),
    ],
    ids=["alpha by torch's meaning", "one neighbour too few", "bias"],
)
def test_other_local_response_norms_fail(wrong: Module, dtype: str) -> None:
    assert failing(case(LRN, wrong, dtype))


# Resizing


class Resize(nn.Module):
    def __init__(self, size: tuple[int, int] = (7, 4), **options: Any) -> None:
        super().__init__()
        self.size, self.options = size, {"mode": "bilinear", **options}

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.interpolate(images, self.size, **self.options)


CORNERS = Layer(
    lambda tf, images, _: tf.image.resize_bilinear(images, [7, 4], align_corners=True), {}
)
CENTERS = Layer(
    lambda tf, images, _: tf.image.resize_bilinear(
        images, [7, 4], half_pixel_centers=True
    ),
    {},
)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("layer", "corners"), [(CORNERS, True), (CENTERS, False)])
def test_torchs_interpolation_passes(layer: Layer, corners: bool, dtype: str) -> None:
    assert failing(case(layer, partial(Resize, align_corners=corners), dtype)) == []


@pytest.mark.thinned
@pytest.mark.parametrize("dtype", [slow_float64, "float32"])
@pytest.mark.parametrize(
    "wrong",
    [
        partial(Resize, align_corners=False),
        partial(Resize, align_corners=True, mode="bicubic"),
        partial(Resize, mode="nearest"),
    ],
    ids=["other corners", "bicubic", "nearest"],
)
def test_other_interpolations_fail(wrong: Module, dtype: str) -> None:
    assert failing(case(CORNERS, wrong, dtype))


# A gradient that is zero but for rounding


class BiasBeforeNorm(nn.Module):
    """A bias that the batch normalization behind it takes away again."""

    def __init__(self, share: float = SHARE) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(CHANNELS))
        self.norm = torchs_norm(share)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(images + self.bias[:, None, None])


def normed_with_bias(tf: Any, images: Any, training: Any) -> Any:
    bias = tf.Variable(tf.zeros([CHANNELS]), name="bias")
    return tf.layers.batch_normalization(images + bias, training=training)


WITH_BIAS = Layer(
    normed_with_bias,
    {
        "bias": "layer.bias",
        "gamma": "layer.norm.weight",
        "beta": "layer.norm.bias",
        "moving_mean": "layer.norm.running_mean",
        "moving_variance": "layer.norm.running_var",
    },
)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_bias_before_batch_norm_is_no_false_accusation(dtype: str) -> None:
    assert failing(case(WITH_BIAS, BiasBeforeNorm, dtype)) == []


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_fault_beside_such_a_bias_is_found(dtype: str) -> None:
    wrong = partial(BiasBeforeNorm, share=float32(0.0101))
    failed = failing(case(WITH_BIAS, wrong, dtype))
    assert any(name.startswith("moving_variance after") for name in failed)

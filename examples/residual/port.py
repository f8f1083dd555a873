"""A residual network of 25.5 million weights and its TensorFlow 1 program. To check it:

    parity verify examples/residual/port.py --dtype float32

It is ResNet-50 for images of 32 x 32 pixels: sixteen bottlenecks with fused batch
normalization, max-pooling, and momentum. The stride is in the 3 x 3 convolution.

Half the sum of the squares of all kernels, times 0.0001, is added to the loss.

Shapes: N images, C channels, H rows, W columns.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from parity.reference import Data, Endpoints, Feeds, Port, Reference, Slots, Stage
from parity.weights import Layout, Unmapped, Weight, WeightMap


@dataclass(frozen=True)
class Sizes:
    """How large the network is.

    Attributes:
        units: The number of bottlenecks in each block. Each block but the first begins
            with a stride of 2.
        width: Channels inside the bottlenecks of the first block. Each block has twice as
            many as the one before, and passes four times as many on.
        classes: The number of classes.
        pixels: Rows and columns of an image.
        batch: Images in a batch.
    """

    units: Sequence[int] = (3, 4, 6, 3)
    width: int = 64
    classes: int = 1000
    pixels: int = 32
    batch: int = 16

    def bottlenecks(self) -> Iterator[tuple[str, int, int]]:
        """The name, the inner channels and the stride of each bottleneck."""
        for block, units in enumerate(self.units, 1):
            for unit in range(1, units + 1):
                stride = 2 if block > 1 and unit == 1 else 1
                yield f"block{block}_unit{unit}", self.width * 2 ** (block - 1), stride


def float32(number: float) -> float:
    """The float32 number next to this one. The program's constants are float32."""
    return float(np.float32(number))


# Our side: an ordinary module. It uses neither TensorFlow nor parity.
def same(images: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
    """Pad images as TF's SAME does. An odd row and column are added behind the image."""
    total = max(
        (-(-images.shape[2] // stride) - 1) * stride + kernel - images.shape[2], 0
    )
    before, after = total // 2, total - total // 2
    return functional.pad(images, (before, after, before, after), value=value)


class ConvNorm(nn.Module):
    """Convolution and batch normalization: `[N, C, H, W] -> [N, filters, H', W']`."""

    def __init__(self, channels: int, filters: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, filters, kernel, stride, bias=False)
        self.norm = nn.BatchNorm2d(
            filters, eps=float32(0.001), momentum=1 - float32(0.99)
        )
        nn.init.kaiming_normal_(self.conv.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Pad, convolve and normalize."""
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        return self.norm(self.conv(same(images, kernel, stride)))


class Bottleneck(nn.Module):
    """Three convolutions beside a shortcut: `[N, C, H, W] -> [N, 4 inner, H', W']`."""

    def __init__(self, channels: int, inner: int, stride: int) -> None:
        super().__init__()
        self.first = ConvNorm(channels, inner, 1)
        self.second = ConvNorm(inner, inner, 3, stride)
        self.third = ConvNorm(inner, 4 * inner, 1)
        self.shortcut: nn.Module = nn.Identity()
        if channels != 4 * inner or stride > 1:
            self.shortcut = ConvNorm(channels, 4 * inner, 1, stride)

    def forward(self, images: Tensor) -> Tensor:
        """Narrow, convolve, widen, and add what came in."""
        inner = torch.relu(self.second(torch.relu(self.first(images))))
        return torch.relu(self.third(inner) + self.shortcut(images))


class Stem(nn.Module):
    """The first convolution: `[N, 3, H, W] -> [N, width, H, W]`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.entry = ConvNorm(3, width, 3)

    def forward(self, images: Tensor) -> Tensor:
        """Convolve, and cut off what is below 0."""
        return torch.relu(self.entry(images))


class MaxPool(nn.Module):
    """Max-pooling over 3 x 3 pixels with stride 2: `[N, C, H, W] -> [N, C, H/2, W/2]`."""

    def forward(self, images: Tensor) -> Tensor:
        """Pad with numbers that are never the largest, and pool."""
        return functional.max_pool2d(same(images, 3, 2, -torch.inf), 3, 2)


class Residual(nn.Module):
    """Scores the classes of images: `[N, H, W, 3] -> [N, classes]`."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.stem, self.pool = Stem(sizes.width), MaxPool()
        self.body, channels = nn.Sequential(), sizes.width
        for name, inner, stride in sizes.bottlenecks():
            self.body.add_module(name, Bottleneck(channels, inner, stride))
            channels = 4 * inner
        self.out = nn.Linear(channels, sizes.classes)

    def forward(self, images: Tensor) -> Tensor:
        """Score images, whose channels are the last axis."""
        maps = self.body(self.pool(self.stem(images.permute(0, 3, 1, 2))))
        return self.out(maps.mean((2, 3)))


# Their side: the program's graph, line by line.
def build(tf, sizes: Sizes) -> Endpoints:
    """Build the program's graph, as its author wrote it, in float32.

    Args:
        tf: The module `tensorflow.compat.v1`.
        sizes: How large the network is.

    Returns:
        The names of the tensors that parity compares, and of all variables.
    """
    images = tf.placeholder(tf.float32, [None, sizes.pixels, sizes.pixels, 3])
    labels = tf.placeholder(tf.int32, [None])
    training = tf.placeholder(tf.bool, [])

    def conv_norm(net, filters, kernel, stride, name):
        with tf.variable_scope(name):
            net = tf.layers.conv2d(
                net,
                filters,
                kernel,
                strides=stride,
                padding="same",
                use_bias=False,
                kernel_initializer=tf.variance_scaling_initializer(2.0),
                name="conv",
            )
            return tf.layers.batch_normalization(net, training=training, name="norm")

    def bottleneck(net, inner, stride, name):
        with tf.variable_scope(name):
            shortcut = net
            if net.shape[3] != 4 * inner or stride > 1:
                shortcut = conv_norm(net, 4 * inner, 1, stride, "shortcut")
            net = tf.nn.relu(conv_norm(net, inner, 1, 1, "first"))
            net = tf.nn.relu(conv_norm(net, inner, 3, stride, "second"))
            return tf.nn.relu(conv_norm(net, 4 * inner, 1, 1, "third") + shortcut)

    stages = {}
    net = stages["stem"] = tf.nn.relu(conv_norm(images, sizes.width, 3, 1, "stem"))
    net = stages["pool"] = tf.layers.max_pooling2d(net, 3, 2, padding="same")
    for name, inner, stride in sizes.bottlenecks():
        net = stages[name] = bottleneck(net, inner, stride, name)
    mean = tf.reduce_mean(net, [1, 2])
    logits = stages["logits"] = tf.layers.dense(mean, sizes.classes, name="out")

    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    kernels = [each for each in tf.global_variables() if "kernel" in each.name]
    terms = {
        "cross entropy": tf.reduce_mean(losses),
        "weight decay": 0.0001 * tf.add_n([tf.nn.l2_loss(each) for each in kernels]),
    }
    loss = terms["cross entropy"] + terms["weight decay"]
    optimizer = tf.train.MomentumOptimizer(0.01, 0.9)
    weights = tf.global_variables()
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        train_op = optimizer.minimize(loss)
    return Endpoints(
        feeds={"images": images, "labels": labels},
        variables={weight.op.name: weight for weight in weights},
        stages=stages,
        loss=loss,
        terms=terms,
        optimizer=optimizer,
        train_op=train_op,
        training={training: True},
        evaluation={training: False},
    )


def data(seed: int, sizes: Sizes) -> Data:
    """Make the data that both sides get: a pattern for each class, and noise."""
    random = np.random.default_rng(seed)
    patterns = random.standard_normal((sizes.classes, 4, 4, 3))

    def examples(random: np.random.Generator, number: int) -> Feeds:
        labels = random.integers(0, sizes.classes, number)
        enlarged = np.kron(patterns[labels], np.ones((sizes.pixels // 4,) * 2 + (1,)))
        images = enlarged + random.standard_normal(enlarged.shape)
        return {"images": images.astype(np.float32), "labels": labels.astype(np.int32)}

    held_back = examples(np.random.default_rng((seed, 0)), 100)
    return Data(
        name="made-up images",
        batch=lambda step: examples(np.random.default_rng((seed, 1, step)), sizes.batch),
        evaluation=held_back,
        labels=held_back["labels"],
    )


# The reference: the names of one side and of the other.
def rows(theirs: str, ours: str) -> Iterator[Weight | Unmapped]:
    """The rows of a convolution and its batch normalization."""
    yield Weight(f"{theirs}/conv/kernel", f"{ours}.conv.weight", "h w i o -> o i h w")
    yield Weight(f"{theirs}/norm/gamma", f"{ours}.norm.weight")
    yield Weight(f"{theirs}/norm/beta", f"{ours}.norm.bias")
    yield Weight(f"{theirs}/norm/moving_mean", f"{ours}.norm.running_mean")
    yield Weight(f"{theirs}/norm/moving_variance", f"{ours}.norm.running_var")
    yield Unmapped(
        "ours", f"{ours}.norm.num_batches_tracked", "only torch counts batches"
    )


def all_rows(sizes: Sizes) -> Iterator[Weight | Unmapped]:
    """The rows of all weights."""
    yield from rows("stem", "stem.entry")
    channels = sizes.width
    for name, inner, stride in sizes.bottlenecks():
        for conv in ("first", "second", "third"):
            yield from rows(f"{name}/{conv}", f"body.{name}.{conv}")
        if channels != 4 * inner or stride > 1:
            yield from rows(f"{name}/shortcut", f"body.{name}.shortcut")
        channels = 4 * inner
    yield Weight("out/kernel", "out.weight", "i o -> o i")
    yield Weight("out/bias", "out.bias")


def loss(
    module: nn.Module, output: Tensor, feeds: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The program's loss: the mean cross entropy, and the decay of the kernels."""
    kernels = [weight for weight in module.parameters() if weight.ndim > 1]
    squares = torch.stack([kernel.square().sum() for kernel in kernels]).sum()
    return {
        "cross entropy": functional.cross_entropy(output, feeds["labels"].long()),
        "weight decay": float32(0.0001) * squares / 2,
    }


def reference(sizes: Sizes) -> Reference:
    """The reference of a network of some size."""
    weights = WeightMap(*all_rows(sizes))
    image = Layout("n h w c -> n c h w")
    names = [name for name, _, _ in sizes.bottlenecks()]
    return Reference(
        port=Port(
            name="residual",
            module=partial(Residual, sizes),
            forward=lambda module, feeds: module(feeds["images"]),
            loss=loss,
            optimizer=lambda weights: torch.optim.SGD(
                weights, float32(0.01), float32(0.9)
            ),
        ),
        build=partial(build, sizes=sizes),
        weights=weights,
        positive={
            row.theirs for row in weights.weights if row.theirs.endswith("variance")
        },
        stages=[
            Stage("stem", "stem", image),
            Stage("pool", "pool", image),
            *(Stage(name, f"body.{name}", image) for name in names),
            Stage("logits", "out"),
        ],
        output="logits",
        slots=Slots(per_weight={"momentum": "momentum_buffer"}),
        data=partial(data, sizes=sizes),
        trained_steps=20,
    )


REFERENCE = reference(Sizes())

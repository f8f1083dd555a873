"""A small port that tests can break many times, without MNIST.

It has every kind of layer, a square matrix, and a pooling of an odd size. The fixture
`tiny` loads it as `parity` loads a user's port.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from mnistport.layers import Conv2d, Dense, Dropout, MaxPool, flatten, float32
from mnistport.optimizers import Adam
from parity import tf1
from parity.reference import (
    ADAM,
    Data,
    Draw,
    Endpoints,
    Feeds,
    Port,
    Reference,
    Slots,
    Stage,
)
from parity.weights import Layout, Weight, WeightMap

KEEP = 0.7


class Tiny(nn.Module):
    """Images `[N, 7, 7, 2]`, of both signs, to scores `[N, 3]`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = Conv2d(2, 4, 3), MaxPool()  # 7 -> 4
        self.fc, self.relu, self.dropout = Dense(64, 6), nn.ReLU(), Dropout(KEEP)
        self.square = Dense(6, 6, bias=False)
        self.out = Dense(6, 3)

    def forward(self, image: Tensor) -> Tensor:
        pool = self.pool(self.conv(image.permute(0, 3, 1, 2)))
        return self.out(self.square(self.dropout(self.relu(self.fc(flatten(pool))))))


def build(
    tf: Any,
    optimizer: Callable[[Any], Any] = lambda tf: tf.train.AdamOptimizer(0.01),
    shift: float = 0.0,
) -> Endpoints:
    x = tf.placeholder(tf.float32, [None, 7, 7, 2])
    y_ = tf.placeholder(tf.float32, [None, 3])
    keep_prob = tf.placeholder(tf.float32)
    shapes = {
        "W_conv": [3, 3, 2, 4],
        "b_conv": [4],
        "W_fc": [64, 6],
        "b_fc": [6],
        "W_sq": [6, 6],
        "W_out": [6, 3],
        "b_out": [3],
    }
    v = {
        name: tf.Variable(tf.random_normal(shape, stddev=0.3))
        for name, shape in shapes.items()
    }
    image = x - shift if shift else x
    conv = tf.nn.conv2d(image, v["W_conv"], strides=[1, 1, 1, 1], padding="SAME")
    conv += v["b_conv"]
    pool = tf.nn.max_pool(conv, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="SAME")
    fc = tf.nn.relu(tf.matmul(tf.reshape(pool, [-1, 64]), v["W_fc"]) + v["b_fc"])
    dropped = tf.nn.dropout(fc, keep_prob)
    square = tf.matmul(dropped, v["W_sq"])
    logits = tf.matmul(square, v["W_out"]) + v["b_out"]
    loss = tf.reduce_mean(
        tf.nn.softmax_cross_entropy_with_logits(labels=y_, logits=logits)
    )
    trainer = optimizer(tf)
    return Endpoints(
        feeds={"x": x, "y_": y_},
        variables=v,
        stages={
            "conv": conv,
            "pool": pool,
            "fc": fc,
            "dropout": dropped,
            "square": square,
            "logits": logits,
        },
        loss=loss,
        optimizer=trainer,
        train_op=trainer.minimize(loss),
        draws={"dropout": tf1.uniform_of(dropped)},
        training={keep_prob: float32(KEEP)},
        evaluation={keep_prob: 1.0},
    )


def data(seed: int) -> Data:
    def examples(number: int, count: int) -> tuple[Feeds, Any]:
        rng = np.random.default_rng((seed, number))
        labels = rng.integers(0, 3, count)
        x = rng.standard_normal((count, 7, 7, 2)).astype(np.float32)
        x[np.arange(count), labels, labels, 0] += 3.0
        return {"x": x, "y_": np.eye(3, dtype=np.float32)[labels]}, labels

    held_back, labels = examples(1_000_000, 60)
    return Data(
        name="noise",
        batch=lambda step: examples(step, 8)[0],
        evaluation=held_back,
        labels=labels,
    )


def loss(output: Tensor, feeds: Mapping[str, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(output, feeds["y_"].argmax(1))


IMAGE = Layout("n h w c -> n c h w")

REFERENCE = Reference(
    port=Port(
        name="tiny",
        module=Tiny,
        forward=lambda module, feeds: module(feeds["x"]),
        loss=loss,
        optimizer=partial(Adam, learning_rate=0.01),
    ),
    build=build,
    weights=WeightMap(
        Weight("W_conv", "conv.weight", "h w i o -> o i h w"),
        Weight("b_conv", "conv.bias"),
        Weight("W_fc", "fc.weight", "i o -> o i"),
        Weight("b_fc", "fc.bias"),
        Weight("W_sq", "square.weight", "i o -> o i"),
        Weight("W_out", "out.weight", "i o -> o i"),
        Weight("b_out", "out.bias"),
    ),
    stages=(
        Stage("conv", "conv", IMAGE),
        Stage("pool", "pool", IMAGE),
        Stage("fc", "relu"),
        Stage("dropout", "dropout"),
        Stage("square", "square"),
        Stage("logits", "out"),
    ),
    output="logits",
    slots=ADAM,
    data=data,
    draws=(Draw("dropout", "dropout", (6,)),),
    trained_steps=60,
)


def trained_by(
    theirs: Callable[[Any], Any], ours: Callable[..., Any], slots: Slots
) -> Reference:
    """The reference with another optimizer.

    Args:
        theirs: A function: tensorflow -> TF1's optimizer.
        ours: A function: weights -> our optimizer.
        slots: Their slots.
    """
    return replace(
        REFERENCE,
        port=replace(REFERENCE.port, optimizer=ours),
        build=partial(build, optimizer=theirs),
        slots=slots,
    )


def with_graph(change: Callable[[Any, Endpoints], Endpoints], **fields: Any) -> Reference:
    """The reference with a changed graph.

    Args:
        change: A function: (tensorflow, endpoints) -> endpoints.
        fields: Other fields of the reference to replace.
    """
    return replace(REFERENCE, build=lambda tf: change(tf, build(tf)), **fields)

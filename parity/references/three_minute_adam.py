"""The graph of "3-minute deep learning", 7.2, and its parts' names on our side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from mnistport.float32 import float32
from mnistport.network import Network
from mnistport.networks.three_minute_adam import NETWORK
from parity import tf1
from parity.reference import ADAM, Draw, Endpoints, Reference, Slots, Stage
from parity.references import mnist
from parity.references.mnist import IMAGE
from parity.weights import Weight, WeightMap


def build(
    tf: Any,
    optimizer: Callable[[Any], Any] | None = None,
    *,
    keep_prob: float = 0.7,
) -> Endpoints:
    """The book's graph.

    Args:
        tf: The module `tensorflow.compat.v1`.
        optimizer: A function: tf -> the optimizer of chapter 7.2.9. None means Adam.
        keep_prob: What is fed as `keep_prob` while training.
    """
    X = tf.placeholder(tf.float32, [None, 28, 28, 1])
    Y = tf.placeholder(tf.float32, [None, 10])
    keep = tf.placeholder(tf.float32)

    W1 = tf.Variable(tf.random_normal([3, 3, 1, 32], stddev=0.01))
    C1 = tf.nn.conv2d(X, W1, strides=[1, 1, 1, 1], padding="SAME")
    L1 = tf.nn.relu(C1)
    L1 = tf.nn.max_pool(L1, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="SAME")

    W2 = tf.Variable(tf.random_normal([3, 3, 32, 64], stddev=0.01))
    C2 = tf.nn.conv2d(L1, W2, strides=[1, 1, 1, 1], padding="SAME")
    L2 = tf.nn.relu(C2)
    L2 = tf.nn.max_pool(L2, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="SAME")

    W3 = tf.Variable(tf.random_normal([7 * 7 * 64, 256], stddev=0.01))
    L3 = tf.reshape(L2, [-1, 7 * 7 * 64])
    L3 = tf.matmul(L3, W3)
    L3 = tf.nn.relu(L3)
    D3 = tf.nn.dropout(L3, keep)

    W4 = tf.Variable(tf.random_normal([256, 10], stddev=0.01))
    model = tf.matmul(D3, W4)

    cost = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(logits=model, labels=Y))
    trainer = tf.train.AdamOptimizer(0.001) if optimizer is None else optimizer(tf)
    return Endpoints(
        feeds={"x": X, "y_": Y},
        variables={"W1": W1, "W2": W2, "W3": W3, "W4": W4},
        stages={
            "C1": C1,
            "L1": L1,
            "C2": C2,
            "L2": L2,
            "L3": L3,
            "dropout": D3,
            "logits": model,
        },
        loss=cost,
        optimizer=trainer,
        train_op=trainer.minimize(cost),
        draws={"dropout": tf1.uniform_of(D3)},
        training={keep: float32(keep_prob)},
        evaluation={keep: 1.0},
    )


def reference(
    options: Mapping[str, Any],
    network: Network = NETWORK,
    slots: Slots = ADAM,
    optimizer: Callable[[Any], Any] | None = None,
) -> Reference:
    """The reference of the book's network with these options.

    Args:
        options: The options.
        network: Our side.
        slots: The names of the optimizer's state.
        optimizer: See `build`.

    Raises:
        UserError: The network has no such option, or an option cannot have this value.
    """
    return mnist.tutorial(
        network,
        build=partial(build, optimizer=optimizer, **options),
        weights=WeightMap(
            Weight("W1", "conv1.weight", "h w i o -> o i h w"),
            Weight("W2", "conv2.weight", "h w i o -> o i h w"),
            Weight("W3", "fc1.weight", "i o -> o i"),
            Weight("W4", "fc2.weight", "i o -> o i"),
        ),
        stages=(
            Stage("C1", "conv1", IMAGE),
            Stage("L1", "pool1", IMAGE),
            Stage("C2", "conv2", IMAGE),
            Stage("L2", "pool2", IMAGE),
            Stage("L3", "relu"),
            Stage("dropout", "dropout"),
            Stage("logits", "fc2"),
        ),
        output="logits",
        slots=slots,
        image=(28, 28, 1),
        draws=(Draw("dropout", "dropout", (256,)),),
        differences=(mnist.DRAWS_ARE_FED, mnist.LABELS_STOP_GRADIENTS),
        options=options,
        with_options=partial(
            reference, network=network, slots=slots, optimizer=optimizer
        ),
    )


REFERENCE = reference({})

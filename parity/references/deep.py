"""The graph of "Deep MNIST for Experts", part 2, and its parts' names on our side."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from mnistport.float32 import float32
from mnistport.networks.deep import NETWORK
from parity import tf1
from parity.reference import ADAM, Draw, Endpoints, Reference, Stage
from parity.references import mnist
from parity.references.mnist import IMAGE
from parity.weights import Weight, WeightMap


def build(tf: Any, *, keep_prob: float = 0.5, truncated: bool = True) -> Endpoints:
    """The tutorial's graph: its functions deepnn() and main().

    Args:
        tf: The module `tensorflow.compat.v1`.
        keep_prob: What is fed as `keep_prob` while training.
        truncated: Whether the initial distribution is truncated, as the tutorial's is.
    """
    normal = tf.truncated_normal if truncated else tf.random_normal

    def weight_variable(shape: list[int]) -> Any:
        return tf.Variable(normal(shape, stddev=0.1))

    def bias_variable(shape: list[int]) -> Any:
        return tf.Variable(tf.constant(0.1, shape=shape))

    def conv2d(x: Any, W: Any) -> Any:
        return tf.nn.conv2d(x, W, strides=[1, 1, 1, 1], padding="SAME")

    def max_pool_2x2(x: Any) -> Any:
        return tf.nn.max_pool(x, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="SAME")

    x = tf.placeholder(tf.float32, [None, 784])
    y_ = tf.placeholder(tf.float32, [None, 10])
    x_image = tf.reshape(x, [-1, 28, 28, 1])

    W_conv1 = weight_variable([5, 5, 1, 32])
    b_conv1 = bias_variable([32])
    conv1 = conv2d(x_image, W_conv1) + b_conv1
    h_conv1 = tf.nn.relu(conv1)
    h_pool1 = max_pool_2x2(h_conv1)

    W_conv2 = weight_variable([5, 5, 32, 64])
    b_conv2 = bias_variable([64])
    conv2 = conv2d(h_pool1, W_conv2) + b_conv2
    h_conv2 = tf.nn.relu(conv2)
    h_pool2 = max_pool_2x2(h_conv2)

    W_fc1 = weight_variable([7 * 7 * 64, 1024])
    b_fc1 = bias_variable([1024])
    h_pool2_flat = tf.reshape(h_pool2, [-1, 7 * 7 * 64])
    h_fc1 = tf.nn.relu(tf.matmul(h_pool2_flat, W_fc1) + b_fc1)

    keep = tf.placeholder(tf.float32)
    h_fc1_drop = tf.nn.dropout(h_fc1, keep)

    W_fc2 = weight_variable([1024, 10])
    b_fc2 = bias_variable([10])
    y_conv = tf.matmul(h_fc1_drop, W_fc2) + b_fc2

    cross_entropy = tf.nn.softmax_cross_entropy_with_logits(labels=y_, logits=y_conv)
    loss = tf.reduce_mean(cross_entropy)
    optimizer = tf.train.AdamOptimizer(1e-4)
    return Endpoints(
        feeds={"x": x, "y_": y_},
        variables={
            "W_conv1": W_conv1,
            "b_conv1": b_conv1,
            "W_conv2": W_conv2,
            "b_conv2": b_conv2,
            "W_fc1": W_fc1,
            "b_fc1": b_fc1,
            "W_fc2": W_fc2,
            "b_fc2": b_fc2,
        },
        stages={
            "conv1": conv1,
            "pool1": h_pool1,
            "conv2": conv2,
            "pool2": h_pool2,
            "fc1": h_fc1,
            "dropout": h_fc1_drop,
            "logits": y_conv,
        },
        loss=loss,
        optimizer=optimizer,
        train_op=optimizer.minimize(loss),
        draws={"dropout": tf1.uniform_of(h_fc1_drop)},
        training={keep: float32(keep_prob)},
        evaluation={keep: 1.0},
    )


def reference(options: Mapping[str, Any]) -> Reference:
    """The reference of the tutorial's network with these options.

    Raises:
        UserError: The network has no such option, or an option cannot have this value.
    """
    return mnist.tutorial(
        NETWORK,
        build=partial(build, **options),
        weights=WeightMap(
            Weight("W_conv1", "conv1.weight", "h w i o -> o i h w"),
            Weight("b_conv1", "conv1.bias"),
            Weight("W_conv2", "conv2.weight", "h w i o -> o i h w"),
            Weight("b_conv2", "conv2.bias"),
            Weight("W_fc1", "fc1.weight", "i o -> o i"),
            Weight("b_fc1", "fc1.bias"),
            Weight("W_fc2", "fc2.weight", "i o -> o i"),
            Weight("b_fc2", "fc2.bias"),
        ),
        stages=(
            Stage("conv1", "conv1", IMAGE),
            Stage("pool1", "pool1", IMAGE),
            Stage("conv2", "conv2", IMAGE),
            Stage("pool2", "pool2", IMAGE),
            Stage("fc1", "relu"),
            Stage("dropout", "dropout"),
            Stage("logits", "fc2"),
        ),
        output="logits",
        slots=ADAM,
        draws=(Draw("dropout", "dropout", (1024,)),),
        differences=(mnist.DRAWS_ARE_FED,),
        options=options,
        with_options=reference,
    )


REFERENCE = reference({})

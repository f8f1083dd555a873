"""The graph of nlintz' ConvNet, and its parts' names on our side."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from mnistport.float32 import float32
from mnistport.networks.convnet import NETWORK
from parity import tf1
from parity.reference import RMSPROP, Draw, Endpoints, Reference, Stage
from parity.references import mnist
from parity.references.mnist import IMAGE
from parity.weights import Weight, WeightMap


def build(
    tf: Any,
    *,
    keep_prob_conv: float = 0.8,
    keep_prob_hidden: float = 0.5,
    pool_padding: str = "SAME",
) -> Endpoints:
    """The tutorial's graph: its function model(), the cost and the optimizer.

    Args:
        tf: The module `tensorflow.compat.v1`.
        keep_prob_conv: What is fed as `p_keep_conv` while training.
        keep_prob_hidden: What is fed as `p_keep_hidden` while training.
        pool_padding: The padding of the poolings. The tutorial's is SAME.
    """
    size = 4 if pool_padding == "SAME" else 3

    def init_weights(shape: list[int]) -> Any:
        return tf.Variable(tf.random_normal(shape, stddev=0.01))

    def conv(x: Any, w: Any) -> Any:
        return tf.nn.conv2d(x, w, strides=[1, 1, 1, 1], padding="SAME")

    def pool(x: Any) -> Any:
        return tf.nn.max_pool(
            x, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding=pool_padding
        )

    X = tf.placeholder(tf.float32, [None, 28, 28, 1])
    Y = tf.placeholder(tf.float32, [None, 10])
    w = init_weights([3, 3, 1, 32])
    w2 = init_weights([3, 3, 32, 64])
    w3 = init_weights([3, 3, 64, 128])
    w4 = init_weights([128 * size * size, 625])
    w_o = init_weights([625, 10])
    p_keep_conv = tf.placeholder(tf.float32)
    p_keep_hidden = tf.placeholder(tf.float32)

    c1 = conv(X, w)
    l1a = tf.nn.relu(c1)
    l1p = pool(l1a)
    l1 = tf.nn.dropout(l1p, p_keep_conv)

    c2 = conv(l1, w2)
    l2a = tf.nn.relu(c2)
    l2p = pool(l2a)
    l2 = tf.nn.dropout(l2p, p_keep_conv)

    c3 = conv(l2, w3)
    l3a = tf.nn.relu(c3)
    l3p = pool(l3a)
    l3r = tf.reshape(l3p, [-1, w4.get_shape().as_list()[0]])
    l3 = tf.nn.dropout(l3r, p_keep_conv)

    l4a = tf.nn.relu(tf.matmul(l3, w4))
    l4 = tf.nn.dropout(l4a, p_keep_hidden)

    pyx = tf.matmul(l4, w_o)

    cost = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(logits=pyx, labels=Y))
    optimizer = tf.train.RMSPropOptimizer(0.001, 0.9)
    return Endpoints(
        feeds={"x": X, "y_": Y},
        variables={"w": w, "w2": w2, "w3": w3, "w4": w4, "w_o": w_o},
        stages={
            "c1": c1,
            "l1p": l1p,
            "l1": l1,
            "c2": c2,
            "l2p": l2p,
            "l2": l2,
            "c3": c3,
            "l3p": l3p,
            "l3": l3,
            "l4a": l4a,
            "l4": l4,
            "logits": pyx,
        },
        loss=cost,
        optimizer=optimizer,
        train_op=optimizer.minimize(cost),
        draws={
            "l1": tf1.uniform_of(l1),
            "l2": tf1.uniform_of(l2),
            "l3": tf1.uniform_of(l3),
            "l4": tf1.uniform_of(l4),
        },
        training={
            p_keep_conv: float32(keep_prob_conv),
            p_keep_hidden: float32(keep_prob_hidden),
        },
        evaluation={p_keep_conv: 1.0, p_keep_hidden: 1.0},
    )


def reference(options: Mapping[str, Any]) -> Reference:
    """The reference of the tutorial's network with these options.

    Raises:
        UserError: The network has no such option, or an option cannot have this value.
    """
    size = 3 if options.get("pool_padding") == "VALID" else 4
    return mnist.tutorial(
        NETWORK,
        build=partial(build, **options),
        weights=WeightMap(
            Weight("w", "conv1.weight", "h w i o -> o i h w"),
            Weight("w2", "conv2.weight", "h w i o -> o i h w"),
            Weight("w3", "conv3.weight", "h w i o -> o i h w"),
            Weight("w4", "fc1.weight", "i o -> o i"),
            Weight("w_o", "fc2.weight", "i o -> o i"),
        ),
        stages=(
            Stage("c1", "conv1", IMAGE),
            Stage("l1p", "pool1", IMAGE),
            Stage("l1", "dropout1", IMAGE),
            Stage("c2", "conv2", IMAGE),
            Stage("l2p", "pool2", IMAGE),
            Stage("l2", "dropout2", IMAGE),
            Stage("c3", "conv3", IMAGE),
            Stage("l3p", "pool3", IMAGE),
            Stage("l3", "dropout3"),
            Stage("l4a", "relu"),
            Stage("l4", "dropout4"),
            Stage("logits", "fc2"),
        ),
        output="logits",
        slots=RMSPROP,
        image=(28, 28, 1),
        draws=(
            Draw("l1", "dropout1", (14, 14, 32), IMAGE),
            Draw("l2", "dropout2", (7, 7, 64), IMAGE),
            Draw("l3", "dropout3", (size * size * 128,)),
            Draw("l4", "dropout4", (625,)),
        ),
        differences=(mnist.DRAWS_ARE_FED,),
        options=options,
        with_options=reference,
    )


REFERENCE = reference({})

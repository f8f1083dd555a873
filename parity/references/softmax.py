"""The graph of "Deep MNIST for Experts", part 1, and its parts' names on our side."""

from __future__ import annotations

from typing import Any

from mnistport.networks.softmax import NETWORK
from parity.reference import GRADIENT_DESCENT, Endpoints, Stage
from parity.references import mnist
from parity.weights import Weight, WeightMap


def build(tf: Any) -> Endpoints:
    """The tutorial's graph."""
    x = tf.placeholder(tf.float32, [None, 784])
    y_ = tf.placeholder(tf.float32, [None, 10])

    W = tf.Variable(tf.zeros([784, 10]))
    b = tf.Variable(tf.zeros([10]))
    y = tf.matmul(x, W) + b

    cross_entropy = tf.nn.softmax_cross_entropy_with_logits(labels=y_, logits=y)
    loss = tf.reduce_mean(cross_entropy)
    optimizer = tf.train.GradientDescentOptimizer(0.5)
    return Endpoints(
        feeds={"x": x, "y_": y_},
        variables={"W": W, "b": b},
        stages={"logits": y},
        loss=loss,
        optimizer=optimizer,
        train_op=optimizer.minimize(loss),
    )


REFERENCE = mnist.tutorial(
    NETWORK,
    build=build,
    weights=WeightMap(
        Weight("W", "fc.weight", "i o -> o i"),
        Weight("b", "fc.bias"),
    ),
    stages=(Stage("logits", "fc"),),
    output="logits",
    slots=GRADIENT_DESCENT,
)

"""The graph of "MNIST for ML Beginners", and its parts' names on our side."""

from __future__ import annotations

from typing import Any

from mnistport.networks.softmax_beginners import NETWORK
from parity.reference import GRADIENT_DESCENT, Endpoints, Stage
from parity.references import mnist
from parity.weights import Weight, WeightMap


def build(tf: Any) -> Endpoints:
    """The tutorial's graph."""
    x = tf.placeholder(tf.float32, [None, 784])
    y_ = tf.placeholder(tf.float32, [None, 10])

    W = tf.Variable(tf.zeros([784, 10]))
    b = tf.Variable(tf.zeros([10]))
    logits = tf.matmul(x, W) + b
    y = tf.nn.softmax(logits)

    loss = tf.reduce_mean(-tf.reduce_sum(y_ * tf.log(y), axis=[1]))
    optimizer = tf.train.GradientDescentOptimizer(0.5)
    return Endpoints(
        feeds={"x": x, "y_": y_},
        variables={"W": W, "b": b},
        stages={"logits": logits, "y": y},
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
    stages=(Stage("logits", "fc"), Stage("y", "softmax")),
    output="y",
    slots=GRADIENT_DESCENT,
    nonfinite_loss=True,
)

"""The graph of "MNIST for ML Beginners", and its parts' names on our side."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from mnistport.networks.softmax_beginners import NETWORK
from parity.reference import GRADIENT_DESCENT, Endpoints, Reference, Stage
from parity.references import mnist
from parity.weights import Weight, WeightMap


def build(tf: Any, *, stable_loss: bool = False) -> Endpoints:
    """The tutorial's graph. With `stable_loss`, its loss is TF1's own cross entropy."""
    x = tf.placeholder(tf.float32, [None, 784])
    y_ = tf.placeholder(tf.float32, [None, 10])

    W = tf.Variable(tf.zeros([784, 10]))
    b = tf.Variable(tf.zeros([10]))
    logits = tf.matmul(x, W) + b
    y = tf.nn.softmax(logits)

    loss = tf.reduce_mean(-tf.reduce_sum(y_ * tf.log(y), axis=[1]))
    if stable_loss:
        loss = tf.reduce_mean(
            tf.nn.softmax_cross_entropy_with_logits(labels=y_, logits=logits)
        )
    optimizer = tf.train.GradientDescentOptimizer(0.5)
    return Endpoints(
        feeds={"x": x, "y_": y_},
        variables={"W": W, "b": b},
        stages={"logits": logits} if stable_loss else {"logits": logits, "y": y},
        loss=loss,
        optimizer=optimizer,
        train_op=optimizer.minimize(loss),
    )


def reference(options: Mapping[str, Any]) -> Reference:
    """The reference of the tutorial's network with these options.

    Raises:
        UserError: The network has no such option, or an option cannot have this value.
    """
    stable = bool(options.get("stable_loss"))
    logits, y = Stage("logits", "fc"), Stage("y", "softmax")
    return mnist.tutorial(
        NETWORK,
        build=partial(build, **options),
        weights=WeightMap(
            Weight("W", "fc.weight", "i o -> o i"),
            Weight("b", "fc.bias"),
        ),
        stages=(logits,) if stable else (logits, y),
        output="logits" if stable else "y",
        slots=GRADIENT_DESCENT,
        nonfinite_loss=not stable,
        options=options,
        with_options=reference,
    )


REFERENCE = reference({})

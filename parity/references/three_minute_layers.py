"""The graph of "3-minute deep learning", 7.3, and its parts' names on our side.

It uses the real `tf.layers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from mnistport.networks.three_minute_layers import NETWORK
from parity import tf1
from parity.reference import ADAM, Draw, Endpoints, Reference, Stage
from parity.references import mnist
from parity.references.mnist import IMAGE
from parity.weights import Weight, WeightMap


def build(
    tf: Any,
    intended_dropout: bool = False,
    *,
    keep_prob_conv: float = 0.3,
    keep_prob_hidden: float = 0.5,
) -> Endpoints:
    """The book's graph, including a mistake: it passes `is_training` as `noise_shape`.

    With `intended_dropout`, `is_training` goes where the author meant it to go. The
    book's rates are 0.7, 0.7 and 0.5, the fractions that are dropped.
    """
    rate_conv, rate_hidden = 1.0 - keep_prob_conv, 1.0 - keep_prob_hidden

    def dropout(inputs: Any, rate: float) -> Any:
        if intended_dropout:
            return tf.layers.dropout(inputs, rate, training=is_training)
        return tf.layers.dropout(inputs, rate, is_training)

    X = tf.placeholder(tf.float32, [None, 28, 28, 1])
    Y = tf.placeholder(tf.float32, [None, 10])
    is_training = tf.placeholder(tf.bool)

    C1 = tf.layers.conv2d(X, 32, [3, 3], activation=None, padding="SAME")
    L1 = tf.nn.relu(C1)
    L1 = tf.layers.max_pooling2d(L1, [2, 2], [2, 2], padding="SAME")
    L1 = dropout(L1, rate_conv)

    C2 = tf.layers.conv2d(L1, 64, [3, 3])
    L2 = tf.layers.max_pooling2d(C2, [2, 2], [2, 2])
    L2 = dropout(L2, rate_conv)

    L3 = tf.layers.flatten(L2)
    L3 = tf.layers.dense(L3, 256, activation=tf.nn.relu)
    L3 = dropout(L3, rate_hidden)

    model = tf.layers.dense(L3, 10, activation=None)

    cost = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(logits=model, labels=Y))
    variables = {variable.op.name: variable for variable in tf.trainable_variables()}
    optimizer = tf.train.AdamOptimizer(0.001)
    return Endpoints(
        feeds={"x": X, "y_": Y},
        variables=variables,
        stages={"C1": C1, "L1": L1, "C2": C2, "L2": L2, "L3": L3, "logits": model},
        loss=cost,
        optimizer=optimizer,
        train_op=optimizer.minimize(cost),
        draws={
            name: tf1.uniform_of(dropped)
            for name, dropped in {"L1": L1, "L2": L2, "L3": L3}.items()
            if intended_dropout
        },
        training={is_training: True},
        evaluation={is_training: False},
    )


def reference(options: Mapping[str, Any]) -> Reference:
    """The reference of the book's network, or of the one that its author intended.

    Raises:
        UserError: The network has no such option, or an option cannot have this value.
    """
    intended = options.get("intended_dropout", False)
    return mnist.tutorial(
        NETWORK,
        build=partial(build, **options),
        weights=WeightMap(
            Weight("conv2d/kernel", "conv1.weight", "h w i o -> o i h w"),
            Weight("conv2d/bias", "conv1.bias"),
            Weight("conv2d_1/kernel", "conv2.weight", "h w i o -> o i h w"),
            Weight("conv2d_1/bias", "conv2.bias"),
            Weight("dense/kernel", "fc1.weight", "i o -> o i"),
            Weight("dense/bias", "fc1.bias"),
            Weight("dense_1/kernel", "fc2.weight", "i o -> o i"),
            Weight("dense_1/bias", "fc2.bias"),
        ),
        stages=(
            Stage("C1", "conv1", IMAGE),
            Stage("L1", "dropout1", IMAGE),
            Stage("C2", "conv2", IMAGE),
            Stage("L2", "dropout2", IMAGE),
            Stage("L3", "dropout3"),
            Stage("logits", "fc2"),
        ),
        output="logits",
        slots=ADAM,
        image=(28, 28, 1),
        draws=DRAWS if intended else (),
        differences=(
            *((mnist.DRAWS_ARE_FED,) if intended else ()),
            mnist.LABELS_STOP_GRADIENTS,
        ),
        options=options,
        with_options=reference,
    )


DRAWS = (
    Draw("L1", "dropout1", (14, 14, 32), IMAGE),
    Draw("L2", "dropout2", (6, 6, 64), IMAGE),
    Draw("L3", "dropout3", (256,)),
)

REFERENCE = reference({})

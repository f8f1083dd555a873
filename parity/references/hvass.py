"""The graph of Hvass-Labs TensorFlow Tutorial #02, and its parts' names on our side."""

from __future__ import annotations

from typing import Any

from mnistport.networks.hvass import NETWORK
from parity.reference import ADAM, Endpoints, Stage
from parity.references import hvass_exercises, mnist
from parity.references.mnist import IMAGE
from parity.weights import Weight, WeightMap


def build(tf: Any) -> Endpoints:
    """The tutorial's graph."""

    def new_weights(shape: list[int]) -> Any:
        return tf.Variable(tf.truncated_normal(shape, stddev=0.05))

    def new_biases(length: int) -> Any:
        return tf.Variable(tf.constant(0.05, shape=[length]))

    def new_conv_layer(input: Any, weights: Any, biases: Any) -> tuple[Any, Any]:
        convolved = tf.nn.conv2d(
            input=input, filter=weights, strides=[1, 1, 1, 1], padding="SAME"
        )
        convolved += biases
        layer = tf.nn.max_pool(
            value=convolved, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="SAME"
        )
        return convolved, tf.nn.relu(layer)

    x = tf.placeholder(tf.float32, shape=[None, 784])
    y_true = tf.placeholder(tf.float32, shape=[None, 10])
    x_image = tf.reshape(x, [-1, 28, 28, 1])

    weights_conv1 = new_weights([5, 5, 1, 16])
    biases_conv1 = new_biases(16)
    convolved1, layer_conv1 = new_conv_layer(x_image, weights_conv1, biases_conv1)

    weights_conv2 = new_weights([5, 5, 16, 36])
    biases_conv2 = new_biases(36)
    convolved2, layer_conv2 = new_conv_layer(layer_conv1, weights_conv2, biases_conv2)

    layer_flat = tf.reshape(layer_conv2, [-1, 7 * 7 * 36])
    weights_fc1 = new_weights([7 * 7 * 36, 128])
    biases_fc1 = new_biases(128)
    layer_fc1 = tf.nn.relu(tf.matmul(layer_flat, weights_fc1) + biases_fc1)

    weights_fc2 = new_weights([128, 10])
    biases_fc2 = new_biases(10)
    layer_fc2 = tf.matmul(layer_fc1, weights_fc2) + biases_fc2

    cross_entropy = tf.nn.softmax_cross_entropy_with_logits(
        logits=layer_fc2, labels=y_true
    )
    cost = tf.reduce_mean(cross_entropy)
    optimizer = tf.train.AdamOptimizer(learning_rate=1e-4)
    return Endpoints(
        feeds={"x": x, "y_": y_true},
        variables={
            "weights_conv1": weights_conv1,
            "biases_conv1": biases_conv1,
            "weights_conv2": weights_conv2,
            "biases_conv2": biases_conv2,
            "weights_fc1": weights_fc1,
            "biases_fc1": biases_fc1,
            "weights_fc2": weights_fc2,
            "biases_fc2": biases_fc2,
        },
        stages={
            "conv1": convolved1,
            "layer_conv1": layer_conv1,
            "conv2": convolved2,
            "layer_conv2": layer_conv2,
            "layer_fc1": layer_fc1,
            "logits": layer_fc2,
        },
        loss=cost,
        optimizer=optimizer,
        train_op=optimizer.minimize(cost),
    )


REFERENCE = mnist.tutorial(
    NETWORK,
    build=build,
    weights=WeightMap(
        Weight("weights_conv1", "conv1.weight", "h w i o -> o i h w"),
        Weight("biases_conv1", "conv1.bias"),
        Weight("weights_conv2", "conv2.weight", "h w i o -> o i h w"),
        Weight("biases_conv2", "conv2.bias"),
        Weight("weights_fc1", "fc1.weight", "i o -> o i"),
        Weight("biases_fc1", "fc1.bias"),
        Weight("weights_fc2", "fc2.weight", "i o -> o i"),
        Weight("biases_fc2", "fc2.bias"),
    ),
    stages=(
        Stage("conv1", "conv1", IMAGE),
        Stage("layer_conv1", "pool1", IMAGE),
        Stage("conv2", "conv2", IMAGE),
        Stage("layer_conv2", "pool2", IMAGE),
        Stage("layer_fc1", "act1"),
        Stage("logits", "fc2"),
    ),
    output="logits",
    slots=ADAM,
    with_options=hvass_exercises.reference,
)

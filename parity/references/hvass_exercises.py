"""The exercises of Hvass-Labs TensorFlow Tutorial #02, as graphs.

Without options, the graph is the tutorial's own, which `hvass.py` has in the tutorial's
words (a test compares the two).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from mnistport import networks
from mnistport.float32 import float32
from mnistport.networks.hvass import NETWORK
from parity import tf1
from parity.reference import ADAM, Draw, Endpoints, Reference, Stage
from parity.references import mnist
from parity.references.mnist import IMAGE
from parity.weights import Weight, WeightMap


def build(
    tf: Any,
    *,
    filter_size1: int = 5,
    num_filters1: int = 16,
    filter_size2: int = 5,
    num_filters2: int = 36,
    fc_size: int = 128,
    keep_prob: float = 1.0,
    activation: str = "relu",
    activation_first: bool = False,
    pooling: str = "max",
    extra_convolution: bool = False,
    extra_dense: bool = False,
    last_relu: bool = False,
    truncated: bool = True,
) -> Endpoints:
    """The tutorial's graph after an exercise (see `mnistport.networks.hvass`)."""
    act = {"relu": tf.nn.relu, "sigmoid": tf.nn.sigmoid}[activation]
    normal = tf.truncated_normal if truncated else tf.random_normal
    stride = 2 if pooling == "stride" else 1
    variables: dict[str, Any] = {}
    stages: dict[str, Any] = {}

    def new_weights(name: str, shape: list[int]) -> tuple[Any, Any]:
        weights = tf.Variable(normal(shape, stddev=0.05))
        biases = tf.Variable(tf.constant(0.05, shape=shape[-1:]))
        variables[f"weights_{name}"] = weights
        variables[f"biases_{name}"] = biases
        return weights, biases

    def pool(value: Any) -> Any:
        if pooling in ("none", "stride"):
            return value
        pool_2x2 = tf.nn.max_pool if pooling == "max" else tf.nn.avg_pool
        return pool_2x2(
            value=value, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="SAME"
        )

    def new_conv_layer(name: str, input: Any, filter_size: int, num_filters: int) -> Any:
        channels = int(input.shape[3])
        weights, biases = new_weights(
            name, [filter_size, filter_size, channels, num_filters]
        )
        convolved = tf.nn.conv2d(
            input=input, filter=weights, strides=[1, stride, stride, 1], padding="SAME"
        )
        convolved += biases
        layer = pool(act(convolved)) if activation_first else act(pool(convolved))
        stages[name], stages[f"layer_{name}"] = convolved, layer
        return layer

    def new_fc_layer(name: str, input: Any, num_outputs: int) -> Any:
        weights, biases = new_weights(name, [int(input.shape[1]), num_outputs])
        return tf.matmul(input, weights) + biases

    x = tf.placeholder(tf.float32, shape=[None, 784])
    y_true = tf.placeholder(tf.float32, shape=[None, 10])
    x_image = tf.reshape(x, [-1, 28, 28, 1])

    layer = new_conv_layer("conv1", x_image, filter_size1, num_filters1)
    layer = new_conv_layer("conv2", layer, filter_size2, num_filters2)
    if extra_convolution:
        layer = new_conv_layer("conv3", layer, filter_size2, num_filters2)
    layer = tf.reshape(layer, [-1, layer.shape[1:4].num_elements()])

    layer = stages["layer_fc1"] = act(new_fc_layer("fc1", layer, fc_size))
    draws, training, evaluation = {}, {}, {}
    if keep_prob < 1.0:
        keep = tf.placeholder(tf.float32)
        layer = stages["dropout"] = tf.nn.dropout(layer, keep)
        draws["dropout"] = tf1.uniform_of(layer)
        training[keep], evaluation[keep] = float32(keep_prob), 1.0
    if extra_dense:
        layer = stages["layer_extra"] = act(new_fc_layer("extra", layer, fc_size))
    logits = stages["fc2"] = new_fc_layer("fc2", layer, 10)
    if last_relu:
        logits = stages["last"] = tf.nn.relu(logits)

    cross_entropy = tf.nn.softmax_cross_entropy_with_logits(logits=logits, labels=y_true)
    cost = tf.reduce_mean(cross_entropy)
    optimizer = tf.train.AdamOptimizer(learning_rate=1e-4)
    return Endpoints(
        feeds={"x": x, "y_": y_true},
        variables=variables,
        stages=stages,
        loss=cost,
        optimizer=optimizer,
        train_op=optimizer.minimize(cost),
        draws=draws,
        training=training,
        evaluation=evaluation,
    )


def reference(options: Mapping[str, Any]) -> Reference:
    """The reference of the network with these options.

    Raises:
        UserError: The network has no such option, or an option cannot have this value.
    """
    networks.make_module(NETWORK, options)  # refuses what is not possible
    layers = [
        ("conv1", "conv1"),
        ("conv2", "conv2"),
        *([("conv3", "conv3")] if options.get("extra_convolution") else []),
        ("fc1", "fc1"),
        *([("extra", "fc_extra.0")] if options.get("extra_dense") else []),
        ("fc2", "fc2"),
    ]
    dropout = options.get("keep_prob", 1.0) < 1.0
    draw = Draw("dropout", "dropout", (options.get("fc_size", 128),))
    return mnist.tutorial(
        NETWORK,
        build=partial(build, **options),
        weights=_weights(layers),
        stages=_stages(options),
        output="last" if options.get("last_relu") else "fc2",
        slots=ADAM,
        draws=[draw] if dropout else [],
        differences=[mnist.DRAWS_ARE_FED] if dropout else [],
        options=options,
        with_options=reference,
    )


def _weights(layers: Sequence[tuple[str, str]]) -> WeightMap:
    rows = []
    for theirs, ours in layers:
        layout = "h w i o -> o i h w" if "conv" in theirs else "i o -> o i"
        rows.append(Weight(f"weights_{theirs}", f"{ours}.weight", layout))
        rows.append(Weight(f"biases_{theirs}", f"{ours}.bias"))
    return WeightMap(*rows)


def _stages(options: Mapping[str, Any]) -> list[Stage]:
    stages = []
    for number in (1, 2, 3) if options.get("extra_convolution") else (1, 2):
        stages.append(Stage(f"conv{number}", f"conv{number}", IMAGE))
        stages.append(Stage(f"layer_conv{number}", f"pool{number}", IMAGE))
    stages.append(Stage("layer_fc1", "act1"))
    if options.get("keep_prob", 1.0) < 1.0:
        stages.append(Stage("dropout", "dropout"))
    if options.get("extra_dense"):
        stages.append(Stage("layer_extra", "fc_extra"))
    stages.append(Stage("fc2", "fc2"))
    if options.get("last_relu"):
        stages.append(Stage("last", "last"))
    return stages

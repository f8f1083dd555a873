"""A port of a TensorFlow 1 program that is not MNIST, and the proof that it is one:

    parity verify examples/regression/port.py

Two inputs, a hidden layer with moving averages, dropout, a squared loss, momentum. N: examples in a batch.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from parity.reference import Data, Draw, Endpoints, Feeds, Port, Reference, Slots, Stage
from parity.tf1 import uniform_of
from parity.weights import Weight, WeightMap


# Our side: the module, as it is used everywhere else. Nothing in it knows of TensorFlow or of parity.
class MovingNorm(nn.Module):
    """Batch normalization as the program writes it: the biased variance goes into the moving average, too."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.gamma, self.beta = (
            nn.Parameter(torch.ones(units)),
            nn.Parameter(torch.zeros(units)),
        )
        self.register_buffer("mean", torch.zeros(units))
        self.register_buffer("variance", torch.ones(units))

    def forward(self, unit: Tensor) -> Tensor:
        """Centre and scale each unit, by the batch while training and by the averages otherwise."""
        mean, variance = self.mean, self.variance
        if self.training:
            mean, variance = unit.mean(0), unit.var(0, correction=0)
            self.mean.copy_(0.9 * self.mean + 0.1 * mean.detach())
            self.variance.copy_(0.9 * self.variance + 0.1 * variance.detach())
        return self.gamma * (unit - mean) / torch.sqrt(variance + 0.001) + self.beta


class Regression(nn.Module):
    """Measurements and settings to one number."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.tanh = nn.Linear(6, 16), nn.Tanh()
        self.norm, self.dropout = MovingNorm(16), nn.Dropout(0.25)
        self.out = nn.Linear(16 + 2, 1)
        for layer in (self.hidden, self.out):
            nn.init.normal_(layer.weight, std=0.3)
            nn.init.zeros_(layer.bias)

    def forward(self, measured: Tensor, settings: Tensor) -> Tensor:
        """`[N, 6], [N, 2] -> [N, 1]`."""
        hidden = self.dropout(self.norm(self.tanh(self.hidden(measured))))
        return self.out(torch.cat([hidden, settings], 1))


# Their side: the program's graph, line by line. `tf` is tensorflow.compat.v1, `dtype` is "float64" or "float32".
def build(tf, dtype: str) -> Endpoints:
    """The program's graph. What parity compares must be named in the `Endpoints`, and all variables must be."""
    x = tf.placeholder(dtype, [None, 6])
    z = tf.placeholder(dtype, [None, 2])
    target = tf.placeholder(dtype, [None, 1])
    training = tf.placeholder(tf.bool, [])
    keep_prob = tf.placeholder(dtype)

    W1 = tf.Variable(tf.random_normal([6, 16], stddev=0.3, dtype=dtype))
    b1 = tf.Variable(tf.zeros([16], dtype))
    hidden = tf.tanh(tf.matmul(x, W1) + b1)

    gamma, beta = tf.Variable(tf.ones([16], dtype)), tf.Variable(tf.zeros([16], dtype))
    moving_mean = tf.Variable(tf.zeros([16], dtype), trainable=False)
    moving_variance = tf.Variable(tf.ones([16], dtype), trainable=False)
    mean, variance = tf.nn.moments(hidden, [0])
    tf.add_to_collection(
        tf.GraphKeys.UPDATE_OPS, tf.assign(moving_mean, 0.9 * moving_mean + 0.1 * mean)
    )
    tf.add_to_collection(
        tf.GraphKeys.UPDATE_OPS,
        tf.assign(moving_variance, 0.9 * moving_variance + 0.1 * variance),
    )
    used = tf.cond(
        training,
        lambda: (mean, variance),
        lambda: (moving_mean + 0.0, moving_variance + 0.0),
    )
    normed = gamma * (hidden - used[0]) / tf.sqrt(used[1] + 0.001) + beta
    dropped = tf.nn.dropout(normed, keep_prob)

    W2 = tf.Variable(tf.random_normal([16 + 2, 1], stddev=0.3, dtype=dtype))
    b2 = tf.Variable(tf.zeros([1], dtype))
    y = tf.matmul(tf.concat([dropped, z], 1), W2) + b2

    loss = tf.reduce_mean(tf.square(y - target))
    optimizer = tf.train.MomentumOptimizer(0.05, 0.9)
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        train_op = optimizer.minimize(loss)
    averages = {"moving_mean": moving_mean, "moving_variance": moving_variance}
    return Endpoints(
        feeds={"x": x, "z": z, "target": target},
        variables={
            "W1": W1,
            "b1": b1,
            "gamma": gamma,
            "beta": beta,
            **averages,
            "W2": W2,
            "b2": b2,
        },
        stages={
            "hidden": hidden,
            "normed": normed,
            "dropped": dropped,
            "y": y,
        },  # in the order of computation
        loss=loss,
        optimizer=optimizer,
        train_op=train_op,
        draws={
            "dropped": uniform_of(dropped)
        },  # the random numbers inside the dropout: both sides are given the same
        training={training: True, keep_prob: 0.75},
        evaluation={training: False, keep_prob: 1.0},
    )


def data(seed: int) -> Data:
    """What both sides are fed, from one seed: arrays by placeholder name, first axis the batch."""
    random = np.random.default_rng(seed)
    x, z = random.standard_normal((1000, 6)), random.uniform(0.0, 1.0, (1000, 2))
    every = {"x": x, "z": z, "target": np.sin(x[:, :1]) * z[:, :1] + z[:, 1:]}

    def batch(step: int) -> Feeds:
        rows = np.random.default_rng((seed, step)).integers(
            0, 800, 32
        )  # the first 800 train
        return {name: array[rows] for name, array in every.items()}

    held_back = {name: array[800:] for name, array in every.items()}
    return Data(name="1,000 made-up measurements", batch=batch, evaluation=held_back)


# What belongs to what.
def loss(output: Tensor, feeds: Mapping[str, Tensor]) -> Tensor:
    """The program's loss."""
    return (output - feeds["target"]).square().mean()


REFERENCE = Reference(
    port=Port(
        name="regression",
        module=Regression,
        forward=lambda module, feeds: module(feeds["x"], feeds["z"]),
        loss=loss,
        # TF1 turns a rate into a float32 number, whatever the weights are. torch does not: say so.
        optimizer=lambda weights: torch.optim.SGD(
            weights, float(np.float32(0.05)), float(np.float32(0.9))
        ),
    ),
    build=build,
    weights=WeightMap(  # every variable of theirs, every tensor of ours, once each; theirs -> ours
        Weight("W1", "hidden.weight", "i o -> o i"),
        Weight("b1", "hidden.bias"),
        Weight("gamma", "norm.gamma"),
        Weight("beta", "norm.beta"),
        Weight("moving_mean", "norm.mean"),
        Weight("moving_variance", "norm.variance"),
        Weight("W2", "out.weight", "i o -> o i"),
        Weight("b2", "out.bias"),
    ),
    positive={"moving_variance"},
    stages=[
        Stage("hidden", "tanh"),
        Stage("normed", "norm"),
        Stage("dropped", "dropout"),
        Stage("y", "out"),
    ],
    output="y",
    slots=Slots(
        per_weight={"momentum": "momentum_buffer"}
    ),  # TF1's slot, and torch's name for it
    data=data,
    draws=[Draw("dropped", "dropout", (16,))],
    trained_steps=200,
)

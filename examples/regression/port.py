"""A port of a TensorFlow 1 program that is not MNIST. This command checks it:

    parity verify examples/regression/port.py

The program has two inputs, a hidden layer with moving averages, dropout, a squared loss
and momentum.

Shapes: N examples in a batch.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from parity.reference import Data, Draw, Endpoints, Feeds, Port, Reference, Slots, Stage
from parity.tf1 import uniform_of
from parity.weights import Weight, WeightMap


def float32(number: float) -> float:
    """The float32 number next to this one.

    The program is float32, so its constants are float32 numbers. They are exactly these
    in float64, too.
    """
    return float(np.float32(number))


# Our side: an ordinary module. It uses neither TensorFlow nor parity.
class MovingNorm(nn.Module):
    """Batch normalization as in the program: `[N, units] -> [N, units]`.

    Different from `nn.BatchNorm1d`: The moving average is that of the biased variance.
    """

    def __init__(self, units: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(units))
        self.beta = nn.Parameter(torch.zeros(units))
        self.register_buffer("mean", torch.zeros(units))
        self.register_buffer("variance", torch.ones(units))

    def forward(self, unit: Tensor) -> Tensor:
        """Normalize each unit.

        While training, with mean and variance of the batch; otherwise with the averages.
        """
        mean, variance = self.mean, self.variance
        if self.training:
            mean, variance = unit.mean(0), unit.var(0, correction=0)
            old, new = float32(0.9), float32(0.1)
            self.mean.copy_(old * self.mean + new * mean.detach())
            self.variance.copy_(old * self.variance + new * variance.detach())
        root = torch.sqrt(variance + float32(0.001))
        return self.gamma * (unit - mean) / root + self.beta


class Regression(nn.Module):
    """Predicts one number from six measurements and two settings."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(6, 16)
        self.tanh = nn.Tanh()
        self.norm = MovingNorm(16)
        self.dropout = nn.Dropout(0.25)
        self.out = nn.Linear(16 + 2, 1)
        for layer in (self.hidden, self.out):
            nn.init.normal_(layer.weight, std=0.3)
            nn.init.zeros_(layer.bias)

    def forward(self, measured: Tensor, settings: Tensor) -> Tensor:
        """Predict: measurements `[N, 6]` and settings `[N, 2]` -> `[N, 1]`."""
        hidden = self.dropout(self.norm(self.tanh(self.hidden(measured))))
        return self.out(torch.cat([hidden, settings], 1))


# Their side: the program's graph, line by line.
def build(tf) -> Endpoints:
    """Build the program's graph, as its author wrote it, in float32.

    parity derives the float64 graph from it.

    Args:
        tf: The module `tensorflow.compat.v1`.

    Returns:
        The names of the tensors that parity compares, and of all variables.
    """
    x = tf.placeholder(tf.float32, [None, 6])
    z = tf.placeholder(tf.float32, [None, 2])
    target = tf.placeholder(tf.float32, [None, 1])
    training = tf.placeholder(tf.bool, [])
    keep_prob = tf.placeholder(tf.float32)

    W1 = tf.Variable(tf.random_normal([6, 16], stddev=0.3))
    b1 = tf.Variable(tf.zeros([16]))
    hidden = tf.tanh(tf.matmul(x, W1) + b1)

    gamma = tf.Variable(tf.ones([16]))
    beta = tf.Variable(tf.zeros([16]))
    moving_mean = tf.Variable(tf.zeros([16]), trainable=False)
    moving_variance = tf.Variable(tf.ones([16]), trainable=False)
    mean, variance = tf.nn.moments(hidden, [0])
    new_mean = tf.assign(moving_mean, 0.9 * moving_mean + 0.1 * mean)
    new_variance = tf.assign(moving_variance, 0.9 * moving_variance + 0.1 * variance)
    tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, new_mean)
    tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, new_variance)
    used = tf.cond(
        training,
        lambda: (mean, variance),
        lambda: (moving_mean + 0.0, moving_variance + 0.0),
    )
    normed = gamma * (hidden - used[0]) / tf.sqrt(used[1] + 0.001) + beta
    dropped = tf.nn.dropout(normed, keep_prob)

    W2 = tf.Variable(tf.random_normal([16 + 2, 1], stddev=0.3))
    b2 = tf.Variable(tf.zeros([1]))
    y = tf.matmul(tf.concat([dropped, z], 1), W2) + b2

    loss = tf.reduce_mean(tf.square(y - target))
    optimizer = tf.train.MomentumOptimizer(0.05, 0.9)
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        train_op = optimizer.minimize(loss)
    return Endpoints(
        feeds={"x": x, "z": z, "target": target},
        variables={
            "W1": W1,
            "b1": b1,
            "gamma": gamma,
            "beta": beta,
            "moving_mean": moving_mean,
            "moving_variance": moving_variance,
            "W2": W2,
            "b2": b2,
        },
        # In the order in which they are computed.
        stages={"hidden": hidden, "normed": normed, "dropped": dropped, "y": y},
        loss=loss,
        optimizer=optimizer,
        train_op=train_op,
        # The random numbers of the dropout. Both sides get the same ones.
        draws={"dropped": uniform_of(dropped)},
        training={training: True, keep_prob: 0.75},
        evaluation={training: False, keep_prob: 1.0},
    )


def data(seed: int) -> Data:
    """Make the data that both sides get, from a seed.

    They are arrays by the name of their placeholder. The first axis is the batch.
    """
    random = np.random.default_rng(seed)
    x = random.standard_normal((1000, 6))
    z = random.uniform(0.0, 1.0, (1000, 2))
    target = np.sin(x[:, :1]) * z[:, :1] + z[:, 1:]
    examples = {"x": x, "z": z, "target": target}

    def batch(step: int) -> Feeds:
        # The first 800 examples are for training.
        rows = np.random.default_rng((seed, step)).integers(0, 800, 32)
        return {name: array[rows] for name, array in examples.items()}

    held_back = {name: array[800:] for name, array in examples.items()}
    return Data(name="1,000 made-up measurements", batch=batch, evaluation=held_back)


# The reference: the names of one side and of the other.
def loss(output: Tensor, feeds: Mapping[str, Tensor]) -> Tensor:
    """The program's loss, a mean squared error."""
    return (output - feeds["target"]).square().mean()


REFERENCE = Reference(
    port=Port(
        name="regression",
        module=Regression,
        forward=lambda module, feeds: module(feeds["x"], feeds["z"]),
        loss=loss,
        optimizer=lambda weights: torch.optim.SGD(weights, float32(0.05), float32(0.9)),
    ),
    build=build,
    # Each row is their variable, our tensor, and how the axes are exchanged. Every
    # variable and every tensor is in one row.
    weights=WeightMap(
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
    # TF1's name of the slot, and torch's name.
    slots=Slots(per_weight={"momentum": "momentum_buffer"}),
    data=data,
    draws=[Draw("dropped", "dropout", (16,))],
    trained_steps=200,
)

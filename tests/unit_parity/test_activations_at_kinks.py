"""An activation whose unit rounding carries across its kink accuses no honest port."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from mnistport.layers import Dense
from mnistport.optimizers import GradientDescent
from parity import checks
from parity.bench import Bench
from parity.case import Case
from parity.kinks import AT_KINKS
from parity.reference import Data, Endpoints, Port, Reference, Slots, Stage
from parity.weights import Weight, WeightMap

pytestmark = pytest.mark.tf

DISTANCE, SHIFT = 2e-7, 5e-7
"""How far a unit is above the kink, and how much less it is on our side."""
UNITS = 8
Activation = Callable[[Any], Any]


class Layer(nn.Module):
    """Numbers `[N, 4]` to `[N, 8]`, by a dense layer and an activation.

    Args:
        activation: The activation.
        shift: What is subtracted from what it is given, as rounding may do it.
    """

    def __init__(self, activation: nn.Module, shift: float) -> None:
        super().__init__()
        self.fc, self.activation, self.shift = Dense(4, UNITS), activation, shift

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.activation(self.fc(x) - self.shift)
        return result


def build(activation: Callable[[Any], Activation], tf: Any) -> Endpoints:
    x = tf.placeholder(tf.float32, [None, 4])
    w = tf.Variable(tf.random_normal([4, UNITS]))
    b = tf.Variable(tf.random_normal([UNITS]))
    units = tf.matmul(x, w) + b
    y = activation(tf)(units)
    loss = tf.reduce_mean(y)
    optimizer = tf.train.GradientDescentOptimizer(0.5)
    return Endpoints(
        feeds={"x": x},
        variables={"w": w, "b": b},
        stages={"units": units, "y": y},
        loss=loss,
        optimizer=optimizer,
        train_op=optimizer.minimize(loss),
    )


def made(theirs: Callable[[Any], Activation], ours: nn.Module, shift: float) -> Case:
    """A case in which one unit is just above 0 in TF1's float64."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 4)).astype(np.float32)
    data = Data(name="noise", batch=lambda _: {"x": x}, evaluation={"x": x})
    reference = Reference(
        port=Port(
            name="layer",
            module=partial(Layer, ours, shift),
            forward=lambda module, feeds: module(feeds["x"]),
            loss=lambda output, _: output.mean(),
            optimizer=partial(GradientDescent, learning_rate=0.5),
        ),
        build=partial(build, theirs),
        weights=WeightMap(Weight("w", "fc.weight", "i o -> o i"), Weight("b", "fc.bias")),
        stages=[Stage("units", "fc"), Stage("y", "")],
        output="y",
        slots=Slots(),
        data=lambda seed: data,
    )
    bench = Bench(reference=reference, data=data)
    side, weights = bench.theirs("float64"), dict(bench.weights)
    side.reset(weights)
    units = side.stages({"x": x})["units"]
    bias = weights["b"].astype(np.float64)
    bias[3] += DISTANCE - units[2, 3]
    weights["b"] = bias.astype(np.float32)
    vars(bench)["weights"] = weights
    return Case(bench=bench, dtype="float32")


@pytest.mark.parametrize(
    ("theirs", "ours", "name"),
    [
        (lambda tf: tf.nn.relu, nn.ReLU(), "Relu"),
        (lambda tf: tf.nn.relu6, nn.ReLU6(), "Relu6"),
        (lambda tf: tf.nn.leaky_relu, nn.LeakyReLU(float(np.float32(0.2))), "LeakyRelu"),
        (lambda tf: tf.nn.selu, nn.SELU(), "Selu"),
    ],
)
def test_such_a_unit_is_moved_and_counted(
    theirs: Callable[[Any], Activation], ours: nn.Module, name: str
) -> None:
    case = made(theirs, ours, SHIFT)
    comparisons = checks.get("gradients")(case)
    assert all(comparison.passed for comparison in comparisons)
    told = [c.reason for c in comparisons if AT_KINKS in c.reason]
    assert told
    assert all(f"1 {AT_KINKS} ({name} 1)" in reason for reason in told)


def test_another_slope_fails_all_the_same() -> None:
    case = made(lambda tf: tf.nn.leaky_relu, nn.LeakyReLU(0.5), SHIFT)
    assert not all(comparison.passed for comparison in checks.get("gradients")(case))

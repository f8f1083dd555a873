"""The graph of "3-minute deep learning", 7.2.9: `three_minute_adam` with RMSProp."""

from __future__ import annotations

from functools import partial

from mnistport.networks.three_minute_rmsprop import NETWORK
from parity.reference import RMSPROP
from parity.references import mnist, three_minute_adam

ADAM = three_minute_adam.REFERENCE

REFERENCE = mnist.tutorial(
    NETWORK,
    build=partial(
        three_minute_adam.build,
        optimizer=lambda tf: tf.train.RMSPropOptimizer(0.001, 0.9),
    ),
    weights=ADAM.weights,
    stages=ADAM.stages,
    output=ADAM.output,
    slots=RMSPROP,
    image=(28, 28, 1),
    draws=ADAM.draws,
    differences=ADAM.differences,
)

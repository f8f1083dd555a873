"""The graph of `three_minute_adam` with RMSProp: "3-minute deep learning", chapter 7.2.9."""

from __future__ import annotations

from functools import partial

from mnistport.networks.three_minute_rmsprop import NETWORK
from parity.reference import RMSPROP
from parity.references import mnist, three_minute_adam

ADAM_S = three_minute_adam.REFERENCE

REFERENCE = mnist.tutorial(
    NETWORK,
    build=partial(
        three_minute_adam.build,
        optimizer=lambda tf: tf.train.RMSPropOptimizer(0.001, 0.9),
    ),
    weights=ADAM_S.weights,
    stages=ADAM_S.stages,
    output=ADAM_S.output,
    slots=RMSPROP,
    image=(28, 28, 1),
    draws=ADAM_S.draws,
    differences=ADAM_S.differences,
)

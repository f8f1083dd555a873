"""The graph of `three_minute_adam` with RMSProp: "3-minute deep learning", chapter 7.2.9."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from mnistport.networks.three_minute_rmsprop import NETWORK
from parity.reference import RMSPROP
from parity.references import mnist, three_minute_adam

REFERENCE = replace(
    three_minute_adam.REFERENCE,
    port=mnist.port(NETWORK),
    build=partial(three_minute_adam.build, optimizer=lambda tf: tf.train.RMSPropOptimizer(0.001, 0.9)),
    slots=RMSPROP,
    data=partial(mnist.data, NETWORK, image=(28, 28, 1)),
    train=partial(mnist.train, NETWORK),
)

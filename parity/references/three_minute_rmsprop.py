"""The graph of "3-minute deep learning", 7.2.9: `three_minute_adam` with RMSProp."""

from __future__ import annotations

from mnistport.networks.three_minute_rmsprop import NETWORK
from parity.reference import RMSPROP
from parity.references import three_minute_adam

REFERENCE = three_minute_adam.reference(
    {}, NETWORK, RMSPROP, lambda tf: tf.train.RMSPropOptimizer(0.001, 0.9)
)

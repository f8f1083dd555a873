"""The tiny port with a counter on each side that has no counterpart on the other.

Its initial weights have TF1's distributions.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parity import references
from parity.reference import Endpoints
from parity.weights import Unmapped, WeightMap

TINY = references.get(str(Path(__file__).with_name("tiny_port.py")))


class Counting(TINY.port.module):
    """Counts the examples it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.tensor(5))
        for parameter in self.parameters():
            torch.nn.init.normal_(parameter, std=0.3)

    def forward(self, image: Tensor) -> Tensor:
        self.seen += len(image)
        output: Tensor = super().forward(image)
        return output


def build(tf: Any) -> Endpoints:
    endpoints = TINY.build(tf)
    global_step = tf.Variable(7, trainable=False, dtype=tf.int64, name="global_step")
    train_op = tf.group(endpoints.train_op, global_step.assign_add(1))
    return replace(
        endpoints,
        variables={**endpoints.variables, "global_step": global_step},
        train_op=train_op,
    )


REFERENCE = replace(
    TINY,
    port=replace(TINY.port, name="counting", module=Counting),
    build=build,
    weights=WeightMap(
        *TINY.weights.rows,
        Unmapped("ours", "seen", "counts examples; nothing reads it"),
        Unmapped("theirs", "global_step", "counts steps; nothing reads it"),
    ),
)

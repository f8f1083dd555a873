"""Solution: softmax regression, from "Deep MNIST for Experts", part 1.

The graph is the tutorial's own: `parity/references/softmax.py`. Open it beside this file.
This is its port, with the lines that the exercise has wrong. All claims hold:

    parity verify examples/exercises/softmax/solution.py

The comments with numbers stand where the exercise has its TODOs.
"""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from mnistport import networks
from parity.reference import Port, Reference, Slots, Stage
from parity.references.mnist_data import data
from parity.references.softmax import build
from parity.weights import Weight, WeightMap


class Softmax(nn.Module):
    """Pixels `[N, 784]` to logits `[N, 10]`."""

    def __init__(self) -> None:
        super().__init__()
        # 1
        self.fc = nn.Linear(784, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        """The scores before softmax."""
        # 2
        return self.fc(pixels)


def loss(logits: Tensor, feeds: Mapping[str, Tensor]) -> Tensor:
    """The tutorial's loss. The labels come as rows with a single 1."""
    labels = feeds["y_"].argmax(1)
    # 3
    return functional.cross_entropy(logits, labels)


REFERENCE = Reference(
    port=Port(
        name="softmax exercise",
        module=Softmax,
        forward=lambda module, feeds: module(feeds["x"]),
        loss=loss,
        # 4
        optimizer=lambda weights: torch.optim.SGD(weights, 0.5),
    ),
    build=build,
    weights=WeightMap(
        # 5
        Weight("W", "fc.weight", "i o -> o i"),
        Weight("b", "fc.bias"),
    ),
    stages=[Stage("logits", "fc")],
    output="logits",
    slots=Slots(),
    data=partial(data, networks.get("softmax")),
)

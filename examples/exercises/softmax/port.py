"""Exercise: softmax regression, from "Deep MNIST for Experts", part 1.

The graph is the tutorial's own: `parity/references/softmax.py`. Open it beside this file.
This is its port, written in a hurry: five lines of it are wrong, and each stands below a
TODO. Correct one after the other, and ask each time:

    parity verify examples/exercises/softmax/port.py

What the command names first is the place to look at.
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
        # TODO 1: does the tutorial add nothing to x W?
        self.fc = nn.Linear(784, 10, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """The scores before softmax."""
        # TODO 2: who applies the softmax?
        return torch.softmax(self.fc(pixels), 1)


def loss(logits: Tensor, feeds: Mapping[str, Tensor]) -> Tensor:
    """The tutorial's loss. The labels come as rows with a single 1."""
    labels = feeds["y_"].argmax(1)
    # TODO 3: is it the sum over the batch, or the mean?
    return functional.cross_entropy(logits, labels, reduction="sum")


REFERENCE = Reference(
    port=Port(
        name="softmax exercise",
        module=Softmax,
        forward=lambda module, feeds: module(feeds["x"]),
        loss=loss,
        # TODO 4: how large are its steps?
        optimizer=lambda weights: torch.optim.SGD(weights, 0.05),
    ),
    build=build,
    weights=WeightMap(
        # TODO 5: which axes has W, and which has fc.weight?
        Weight("W", "fc.weight"),
        Weight("b", "fc.bias"),
    ),
    stages=[Stage("logits", "fc")],
    output="logits",
    slots=Slots(),
    data=partial(data, networks.get("softmax")),
)

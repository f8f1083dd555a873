"""Solution: two convolutions and dropout, "Deep MNIST for Experts", part 2.

The graph is the tutorial's own: `parity/references/deep.py`. Open it beside this file.
This is its port, with the lines that the exercise has wrong. All claims hold:

    parity verify examples/exercises/deep/solution.py

The comments with numbers stand where the exercise has its TODOs.
"""

from collections.abc import Mapping
from functools import partial

from torch import Tensor, nn
from torch.nn import functional

from mnistport import networks
from mnistport.optimizers import Adam
from parity.reference import ADAM, Draw, Port, Reference, Stage
from parity.references.deep import build
from parity.references.mnist_data import data
from parity.weights import Layout, Weight, WeightMap

IMAGE = Layout("n h w c -> n c h w")
"""TF1 has the channels of an image last, torch has them first."""


class Deep(nn.Module):
    """Pixels `[N, 784]` to logits `[N, 10]`."""

    def __init__(self) -> None:
        super().__init__()
        # 1
        self.conv1 = nn.Conv2d(1, 32, 5, padding="same")
        self.conv2 = nn.Conv2d(32, 64, 5, padding="same")
        # 2
        self.pool1 = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))
        self.pool2 = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))
        self.fc1 = nn.Linear(7 * 7 * 64, 1024)
        # 3
        self.act1 = nn.ReLU()
        self.dropout = nn.Dropout(0.5)
        self.fc2 = nn.Linear(1024, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        """The scores before softmax."""
        pool1 = self.pool1(self.conv1(pixels.view(-1, 1, 28, 28)))
        pool2 = self.pool2(self.conv2(pool1))
        fc1 = self.act1(self.fc1(pool2.flatten(1)))
        dropped = self.dropout(fc1)
        # 4
        return self.fc2(dropped)


def loss(logits: Tensor, feeds: Mapping[str, Tensor]) -> Tensor:
    """The tutorial's loss. The labels come as rows with a single 1."""
    return functional.cross_entropy(logits, feeds["y_"].argmax(1))


REFERENCE = Reference(
    port=Port(
        name="deep exercise",
        module=Deep,
        forward=lambda module, feeds: module(feeds["x"]),
        loss=loss,
        # 5
        optimizer=partial(Adam, learning_rate=1e-4),
    ),
    build=build,
    weights=WeightMap(
        Weight("W_conv1", "conv1.weight", "h w i o -> o i h w"),
        Weight("b_conv1", "conv1.bias"),
        Weight("W_conv2", "conv2.weight", "h w i o -> o i h w"),
        Weight("b_conv2", "conv2.bias"),
        # 6
        Weight("W_fc1", "fc1.weight", "(h w c) o -> o (c h w)", h=7, w=7),
        Weight("b_fc1", "fc1.bias"),
        Weight("W_fc2", "fc2.weight", "i o -> o i"),
        Weight("b_fc2", "fc2.bias"),
    ),
    stages=[
        Stage("conv1", "conv1", IMAGE),
        Stage("pool1", "pool1", IMAGE),
        Stage("conv2", "conv2", IMAGE),
        Stage("pool2", "pool2", IMAGE),
        Stage("fc1", "act1"),
        Stage("dropout", "dropout"),
        Stage("logits", "fc2"),
    ],
    output="logits",
    slots=ADAM,
    data=partial(data, networks.get("deep")),
    draws=[Draw("dropout", "dropout", (1024,))],
    trained_steps=60,
)

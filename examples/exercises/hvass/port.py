"""Exercise: Hvass-Labs TensorFlow Tutorial #02.

The graph is the tutorial's own: `parity/references/hvass.py`. Open it beside this file.
This is its port, written in a hurry: six lines of it are wrong, and each stands below a
TODO. Correct one after the other, and ask each time:

    parity verify examples/exercises/hvass/port.py

What the command names first is the place to look at.
"""

from collections.abc import Mapping
from functools import partial

from torch import Tensor, nn
from torch.nn import functional

from mnistport import networks
from mnistport.optimizers import Adam
from parity.reference import ADAM, Port, Reference, Stage
from parity.references.hvass import build
from parity.references.mnist_data import data
from parity.weights import Layout, Weight, WeightMap

IMAGE = Layout("n h w c -> n c h w")
"""TF1 has the channels of an image last, torch has them first."""


class Hvass(nn.Module):
    """Pixels `[N, 784]` to logits `[N, 10]`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 5, padding="same")
        # TODO 1: which pooling is it?
        self.pool1 = nn.Sequential(nn.AvgPool2d(2), nn.ReLU())
        # TODO 2: does it add no biases?
        self.conv2 = nn.Conv2d(16, 36, 5, padding="same", bias=False)
        self.pool2 = nn.Sequential(nn.MaxPool2d(2), nn.ReLU())
        self.fc1 = nn.Linear(7 * 7 * 36, 128)
        self.act1 = nn.ReLU()
        self.fc2 = nn.Linear(128, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        """The scores before softmax."""
        pool1 = self.pool1(self.conv1(pixels.view(-1, 1, 28, 28)))
        pool2 = self.pool2(self.conv2(pool1))
        # TODO 3: what is between fc1 and ReLU?
        return self.fc2(self.act1(self.fc1(pool2.flatten(1)).abs()))


def loss(logits: Tensor, feeds: Mapping[str, Tensor]) -> Tensor:
    """The tutorial's loss. The labels come as rows with a single 1."""
    # TODO 4: which loss is it?
    return functional.mse_loss(logits.softmax(1), feeds["y_"])


REFERENCE = Reference(
    port=Port(
        name="hvass exercise",
        module=Hvass,
        forward=lambda module, feeds: module(feeds["x"]),
        loss=loss,
        optimizer=partial(Adam, learning_rate=1e-4),
    ),
    build=build,
    weights=WeightMap(
        Weight("weights_conv1", "conv1.weight", "h w i o -> o i h w"),
        Weight("biases_conv1", "conv1.bias"),
        # TODO 5: are rows and columns where torch has them?
        Weight("weights_conv2", "conv2.weight", "h w i o -> o i w h"),
        Weight("biases_conv2", "conv2.bias"),
        Weight("weights_fc1", "fc1.weight", "(h w c) o -> o (c h w)", h=7, w=7),
        Weight("biases_fc1", "fc1.bias"),
        Weight("weights_fc2", "fc2.weight", "i o -> o i"),
        Weight("biases_fc2", "fc2.bias"),
    ),
    stages=[
        Stage("conv1", "conv1", IMAGE),
        # TODO 6: which submodule returns layer_conv1?
        Stage("layer_conv1", "conv2", IMAGE),
        Stage("conv2", "conv2", IMAGE),
        Stage("layer_conv2", "pool2", IMAGE),
        Stage("layer_fc1", "act1"),
        Stage("logits", "fc2"),
    ],
    output="logits",
    slots=ADAM,
    data=partial(data, networks.get("hvass")),
    trained_steps=60,
)

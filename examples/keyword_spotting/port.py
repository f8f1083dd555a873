"""A port of a frozen graph, a keyword spotter. This command checks it:

    parity verify examples/keyword_spotting/port.py

The graph is `DS_CNN_S.pb` of ARM-software/ML-KWS-for-MCU, a depthwise separable network.
It is expected in the folder `kws` of the folder that MNISTPORT_ARTEFACTS names.
`parity inspect` prints what it holds.

The file has no loss and no training. So the gradients of <r, y> are compared.

Shapes: N examples in a batch. What is fed are the features of a second of sound: 49
windows of 10 numbers. In the file they come from the sound, and a port feeds them.
"""

import os
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from mnistport.errors import UserError
from parity import (
    Endpoints,
    Layout,
    Port,
    Reference,
    Slots,
    Stage,
    Weight,
    WeightMap,
    from_frozen,
    product,
    random_data,
)
from parity.frozen import RATE

EPSILON = float(
    torch.tensor(0.001)
)  # a constant of a float32 program is a float32 number


class SamePadded(nn.Conv2d):
    """A convolution with TensorFlow's padding SAME: the odd row goes behind."""

    def __init__(self, *args, pad: tuple[int, int, int, int] = (0, 0, 0, 0), **options):
        super().__init__(*args, **options)
        self.pad = pad

    def forward(self, image: Tensor) -> Tensor:
        """Images `[N, C, H, W]` to images."""
        return super().forward(functional.pad(image, self.pad))


class Norm(nn.Module):
    """Batch normalization with moving averages, and with a scale that is a constant."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, image: Tensor) -> Tensor:
        """Images `[N, C, H, W]` to images."""
        return functional.batch_norm(
            image, self.mean, self.variance, self.scale, self.beta, eps=EPSILON
        )


def layer(convolution: nn.Module, channels: int) -> nn.Sequential:
    """A convolution, its normalization and ReLU."""
    return nn.Sequential(convolution, Norm(channels), nn.ReLU())


class KeywordSpotter(nn.Module):
    """Features `[N, 490]` to the scores of twelve words `[N, 12]`."""

    def __init__(self) -> None:
        super().__init__()
        first = SamePadded(1, 64, (10, 4), stride=2, pad=(1, 1, 4, 5))
        self.conv_1 = layer(first, 64)
        for number in range(1, 5):
            depthwise = nn.Conv2d(64, 64, 3, padding=1, groups=64)
            self.add_module(f"dw_{number}", layer(depthwise, 64))
            self.add_module(f"pw_{number}", layer(nn.Conv2d(64, 64, 1), 64))
        self.pool = nn.AvgPool2d((25, 5))
        self.fc1 = nn.Linear(64, 12)

    def forward(self, features: Tensor) -> Tensor:
        """The scores before softmax."""
        image = self.conv_1(features.reshape(-1, 1, 49, 10))
        for number in range(1, 5):
            image = self.get_submodule(f"dw_{number}")(image)
            image = self.get_submodule(f"pw_{number}")(image)
        return self.fc1(self.pool(image).flatten(1))


def file() -> Path:
    """The frozen graph.

    Raises:
        UserError: MNISTPORT_ARTEFACTS does not lead to it.
    """
    path = Path(os.environ.get("MNISTPORT_ARTEFACTS", ""), "kws", "DS_CNN_S.pb")
    if not path.is_file():
        raise UserError(
            "set MNISTPORT_ARTEFACTS to the folder in which kws/DS_CNN_S.pb lies; it is "
            "Pretrained_models/DS_CNN/DS_CNN_S.pb of ARM-software/ML-KWS-for-MCU"
        )
    return path


def build(tf) -> Endpoints:
    """The graph in the file, from the features to the scores."""
    blocks = range(1, 5)
    stages = {"conv_1": "MobileNet/conv_1/batch_norm/Relu"}
    for number in blocks:
        scope = f"MobileNet/conv_ds_{number}"
        stages[f"dw_{number}"] = f"{scope}/dw_batch_norm/Relu"
        stages[f"pw_{number}"] = f"{scope}/pw_batch_norm/Relu"
    stages["logits"] = "MobileNet/fc1/BiasAdd"
    return from_frozen(tf, file(), inputs={"features": "Reshape"}, stages=stages)


def rows(scope: str, norm: str, ours: str, layout: str, kernel: str = "weights"):
    """The rows of a layer: the convolution's and the normalization's."""
    yield Weight(f"MobileNet/{scope}/{kernel}", f"{ours}.0.weight", layout)
    yield Weight(f"MobileNet/{scope}/biases", f"{ours}.0.bias")
    parts = {"Const": "scale", "beta": "beta"}
    parts |= {"moving_mean": "mean", "moving_variance": "variance"}
    for theirs, name in parts.items():
        yield Weight(f"MobileNet/{norm}/{theirs}", f"{ours}.1.{name}")


def all_rows():
    """The rows of all layers."""
    yield from rows("conv_1", "conv_1/batch_norm", "conv_1", "h w i o -> o i h w")
    for number in range(1, 5):
        block = f"conv_ds_{number}"
        depthwise = (f"{block}/depthwise_conv", f"{block}/dw_batch_norm", f"dw_{number}")
        yield from rows(*depthwise, "h w c m -> c m h w", "depthwise_weights")
        pointwise = (f"{block}/pointwise_conv", f"{block}/pw_batch_norm", f"pw_{number}")
        yield from rows(*pointwise, "h w i o -> o i h w")
    yield Weight("MobileNet/fc1/weights", "fc1.weight", "i o -> o i")
    yield Weight("MobileNet/fc1/biases", "fc1.bias")


WEIGHTS = WeightMap(*all_rows())
IMAGES = Layout("n h w c -> n c h w")
BLOCKS = [f"{kind}_{number}" for number in range(1, 5) for kind in ("dw", "pw")]

REFERENCE = Reference(
    port=Port(
        name="keyword spotter",
        module=KeywordSpotter,
        forward=lambda module, feeds: module(feeds["features"]),
        loss=product,
        optimizer=lambda weights: torch.optim.SGD(weights, RATE),
    ),
    build=build,
    weights=WEIGHTS,
    positive={row.theirs for row in all_rows() if row.theirs.endswith("variance")},
    stages=[
        *(Stage(name, name, IMAGES) for name in ("conv_1", *BLOCKS)),
        Stage("logits", "fc1"),
    ],
    output="logits",
    slots=Slots(),
    data=random_data("the features", {"features": (490,)}, (12,)),
    trained_steps=0,  # the weights in the file are trained
)

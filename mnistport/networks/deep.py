"""Two convolutions and a hidden layer: TensorFlow's "Deep MNIST for Experts", part 2."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from mnistport.data.batches import NextBatch
from mnistport.layers import (
    Conv2d,
    Dense,
    Dropout,
    ReluMaxPool,
    as_image,
    cross_entropy,
    flatten,
    normal_,
    truncated_normal_,
)
from mnistport.network import (
    BatchAccuracy,
    Departure,
    Network,
    Published,
    Recipe,
    Source,
)
from mnistport.optimizers import Adam
from mnistport.values import switch


class Deep(nn.Module):
    """Pixels `[N, 784]` in [0, 1] to scores before softmax `[N, 10]`.

    Args:
        keep_prob: Fraction of the hidden units that is kept while training. 1 means no
            dropout.
        truncated: Truncate the initial distribution at two standard deviations.

    Same as the tutorial: The padding is SAME. Weights start from a truncated normal
    distribution with standard deviation 0.1, biases at 0.1. While training, dropout keeps
    half of the hidden units, if nothing else is asked for.
    Different: ReLU follows the pooling. The function is the same (`layers.ReluMaxPool`).

    Raises:
        UserError: An argument cannot have this value.

    Source: See `NETWORK.source`, function deepnn().
    """

    def __init__(self, *, keep_prob: float = 0.5, truncated: bool = True) -> None:
        super().__init__()
        fill = truncated_normal_ if switch("truncated", truncated) else normal_
        self.conv1 = Conv2d(1, 32, 5)
        self.pool1 = ReluMaxPool()  # 28 -> 14
        self.conv2 = Conv2d(32, 64, 5)
        self.pool2 = ReluMaxPool()  # 14 -> 7
        self.fc1 = Dense(7 * 7 * 64, 1024)
        self.relu = nn.ReLU()
        self.dropout = Dropout(keep_prob)
        self.fc2 = Dense(1024, 10)
        for layer in (self.conv1, self.conv2, self.fc1, self.fc2):
            fill(layer.weight, std=0.1)
            nn.init.constant_(layer.bias, 0.1)  # type: ignore[arg-type]

    def forward(self, pixels: Tensor) -> Tensor:
        pool1 = self.pool1(self.conv1(as_image(pixels)))
        pool2 = self.pool2(self.conv2(pool1))
        fc1 = self.relu(self.fc1(flatten(pool2)))
        logits: Tensor = self.fc2(self.dropout(fc1))
        return logits


NETWORK = Network(
    name="deep",
    module=Deep,
    loss=cross_entropy,
    pure=True,
    recipe=Recipe(
        optimizer=partial(Adam, learning_rate=1e-4),
        stream=NextBatch,
        split="first",
        scaling="multiply",
        batch_size=50,
        steps=20_000,
        reports=(
            BatchAccuracy(
                every=100,
                when="before",
                line="step {step}, training accuracy {accuracy:g}",
            ),
        ),
    ),
    source=Source(
        title="Deep MNIST for Experts, part 2",
        where="tensorflow/tensorflow, tensorflow/examples/tutorials/mnist/mnist_deep.py, "
        "at commit 3989ee55b1a9",
    ),
    published=(
        Published(what="test accuracy", value=0.992, quote="about 99.2 %", decimals=3),
    ),
    departures=(
        Departure(
            name="truncation",
            like="torch",
            text="initial weights are not truncated, as torch's trunc_normal_ cuts at 2 "
            "by default; the tutorial cuts at two standard deviations, which is 0.2",
            settings={"truncated": False},
        ),
        Departure(
            name="optimizer",
            like="torch",
            text="torch.optim.Adam adds epsilon after the bias correction; TF1's Adam "
            "adds it before",
            settings={"model.optimizer": "torch_adam", "model.learning_rate": 1e-4},
        ),
    ),
)

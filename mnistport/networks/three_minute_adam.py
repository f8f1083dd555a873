"""Two convolutions, a hidden layer, no biases, Adam: "3-minute deep learning", 7.2."""

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
)
from mnistport.network import Departure, EpochLoss, Network, Published, Recipe, Source
from mnistport.optimizers import Adam


class ThreeMinute(nn.Module):
    """Pixels `[N, 784]` in [0, 1] to scores before softmax `[N, 10]`.

    Args:
        keep_prob: Fraction of the hidden units that is kept while training. 1 means no
            dropout.

    Same as the book: There are no biases. All weights start from a normal distribution
    with standard deviation 0.01, which is not truncated. While training, dropout keeps
    0.7 of the hidden units, if nothing else is asked for.
    Different: ReLU follows the pooling. The function is the same (`layers.ReluMaxPool`).

    Raises:
        UserError: An argument cannot have this value.

    Source: See `NETWORK.source`.
    """

    def __init__(self, *, keep_prob: float = 0.7) -> None:
        super().__init__()
        self.conv1 = Conv2d(1, 32, 3, bias=False)
        self.pool1 = ReluMaxPool()  # 28 -> 14
        self.conv2 = Conv2d(32, 64, 3, bias=False)
        self.pool2 = ReluMaxPool()  # 14 -> 7
        self.fc1 = Dense(7 * 7 * 64, 256, bias=False)
        self.relu = nn.ReLU()
        self.dropout = Dropout(keep_prob)
        self.fc2 = Dense(256, 10, bias=False)
        for layer in (self.conv1, self.conv2, self.fc1, self.fc2):
            nn.init.normal_(layer.weight, std=0.01)

    def forward(self, pixels: Tensor) -> Tensor:
        pool1 = self.pool1(self.conv1(as_image(pixels)))
        pool2 = self.pool2(self.conv2(pool1))
        fc1 = self.relu(self.fc1(flatten(pool2)))
        logits: Tensor = self.fc2(self.dropout(fc1))
        return logits


NETWORK = Network(
    name="three_minute_adam",
    module=ThreeMinute,
    loss=cross_entropy,
    pure=True,
    recipe=Recipe(
        optimizer=partial(Adam, learning_rate=0.001),
        stream=NextBatch,
        split="first",
        scaling="multiply",
        batch_size=100,
        epochs=15,
        # Two blanks: the book prints with commas, after words that end in a blank.
        reports=(EpochLoss(line="Epoch:  {epoch:04d} Avg. Cost =  {loss:.3f}"),),
        test_line="정확도: {accuracy:g}",
    ),
    source=Source(
        title="3-minute deep learning, 7.2, Adam",
        where="the book, chapter 7.2; as a program: "
        "golbin/TensorFlow-Tutorials, 07 - CNN/01 - CNN.py, at commit 909a8b77d5bb",
    ),
    published=(
        Published(what="test accuracy", value=0.9926),
        Published(
            what="loss per epoch",
            value=(
                *(0.348, 0.109, 0.077, 0.061, 0.051, 0.043, 0.034, 0.033),
                *(0.027, 0.024, 0.021, 0.019, 0.019, 0.016, 0.016),
            ),
        ),
    ),
    departures=(
        Departure(
            name="optimizer",
            like="torch",
            text="torch.optim.Adam adds epsilon after the bias correction; TF1's Adam "
            "adds it before",
            settings={"model.optimizer": "torch_adam", "model.learning_rate": 0.001},
        ),
    ),
)

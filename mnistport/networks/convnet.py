"""The ConvNet of nlintz: three convolutions, a hidden layer, four dropouts, no biases."""

from __future__ import annotations

from functools import partial
from typing import Literal

from torch import Tensor, nn

from mnistport.data.batches import Sequential
from mnistport.layers import (
    Conv2d,
    Dense,
    Dropout,
    ReluMaxPool,
    as_image,
    cross_entropy,
    flatten,
    kept_fraction,
)
from mnistport.network import (
    Departure,
    Network,
    Published,
    Recipe,
    SampledAccuracy,
    Source,
)
from mnistport.optimizers import RMSProp
from mnistport.values import choice


class ConvNet(nn.Module):
    """Pixels `[N, 784]` in [0, 1] to scores before softmax `[N, 10]`.

    Args:
        keep_prob_conv: Fraction of the units that is kept after each convolution's
            pooling while training. 1 means no dropout. The tutorial calls it p_keep_conv.
        keep_prob_hidden: Fraction of the hidden units that is kept, likewise. The
            tutorial calls it p_keep_hidden.
        pool_padding: The padding of the poolings. "VALID" cuts 7 x 7 down to 3 x 3, so
            that the hidden layer has fewer weights.

    Same as the tutorial: There are no biases. All weights start from a normal
    distribution with standard deviation 0.01, which is not truncated. The third pooling
    is SAME: it pads 7 x 7 by one row and column at the bottom and right, and gives 4 x 4.
    The third dropout follows the flattening.
    Different: ReLU follows the pooling. The function is the same (`layers.ReluMaxPool`).

    Raises:
        UserError: An argument cannot have this value.

    Source: See `NETWORK.source`, function model().
    """

    def __init__(
        self,
        *,
        keep_prob_conv: float = 0.8,
        keep_prob_hidden: float = 0.5,
        pool_padding: Literal["SAME", "VALID"] = "SAME",
    ) -> None:
        super().__init__()
        kept_fraction(keep_prob_conv, "keep_prob_conv")
        kept_fraction(keep_prob_hidden, "keep_prob_hidden")
        padding = choice("pool_padding", pool_padding, ("SAME", "VALID"))
        size = 4 if padding == "SAME" else 3
        self.conv1 = Conv2d(1, 32, 3, bias=False)
        self.pool1 = ReluMaxPool(padding)  # 28 -> 14
        self.dropout1 = Dropout(keep_prob_conv)
        self.conv2 = Conv2d(32, 64, 3, bias=False)
        self.pool2 = ReluMaxPool(padding)  # 14 -> 7
        self.dropout2 = Dropout(keep_prob_conv)
        self.conv3 = Conv2d(64, 128, 3, bias=False)
        self.pool3 = ReluMaxPool(padding)  # 7 -> 4 or 3
        self.dropout3 = Dropout(keep_prob_conv)
        self.fc1 = Dense(size * size * 128, 625, bias=False)
        self.relu = nn.ReLU()
        self.dropout4 = Dropout(keep_prob_hidden)
        self.fc2 = Dense(625, 10, bias=False)
        for layer in (self.conv1, self.conv2, self.conv3, self.fc1, self.fc2):
            nn.init.normal_(layer.weight, std=0.01)

    def forward(self, pixels: Tensor) -> Tensor:
        layer1 = self.dropout1(self.pool1(self.conv1(as_image(pixels))))
        layer2 = self.dropout2(self.pool2(self.conv2(layer1)))
        layer3 = self.dropout3(flatten(self.pool3(self.conv3(layer2))))
        layer4 = self.dropout4(self.relu(self.fc1(layer3)))
        logits: Tensor = self.fc2(layer4)
        return logits


NETWORK = Network(
    name="convnet",
    module=ConvNet,
    loss=cross_entropy,
    pure=True,
    recipe=Recipe(
        optimizer=partial(RMSProp, learning_rate=0.001, decay=0.9),
        stream=Sequential,
        split="first",
        scaling="multiply",
        batch_size=128,
        epochs=100,
        reports=(
            SampledAccuracy(
                num_images=256,
                line="{epoch} {accuracy}",
                own_line="all test images: {full:.4f}",
            ),
        ),
    ),
    source=Source(
        title="TensorFlow-Tutorials 05, ConvNet",
        where="nlintz/TensorFlow-Tutorials, 05_convolutional_net.py, "
        "at commit 82da7afedd0a",
    ),
    published=(
        Published(what="test accuracy", value=0.99, quote="MNIST 99%", decimals=2),
    ),
    departures=(
        Departure(
            name="shuffling",
            like="intended",
            text="images are shuffled before each epoch, and all are used; the tutorial "
            "takes them in the order of the file, and never the last 88",
            settings={"data.stream": "next_batch"},
        ),
        Departure(
            name="optimizer",
            like="torch",
            text="torch.optim.RMSprop starts its mean square at 0 and adds an epsilon of "
            "1e-8 to its root; TF1's starts at 1 and adds 1e-10 under the root",
            settings={
                "model.optimizer": "torch_rmsprop",
                "model.learning_rate": 0.001,
                "model.optimizer_options.decay": 0.9,
            },
        ),
        Departure(
            name="padding",
            like="torch",
            text="nn.MaxPool2d(2) makes 3 x 3 of 7 x 7, and drops the last row and "
            "column; the tutorial's SAME makes 4 x 4",
            settings={"pool_padding": "VALID"},
        ),
    ),
)

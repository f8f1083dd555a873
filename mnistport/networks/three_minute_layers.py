"""The network that is written with `tf.layers`: "3-minute deep learning", chapter 7.3.

Its dropout has no effect, because of a mistake in the book.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from mnistport.data.batches import NextBatch
from mnistport.errors import UserError
from mnistport.layers import (
    Conv2d,
    Dense,
    MaxPool,
    RateDropout,
    ReluMaxPool,
    as_image,
    cross_entropy,
    flatten,
    glorot_uniform_,
    kept_fraction,
)
from mnistport.network import Departure, EpochLoss, Network, Published, Recipe, Source
from mnistport.optimizers import Adam
from mnistport.values import switch


class ThreeMinuteLayers(nn.Module):
    """Pixels `[N, 784]` in [0, 1] to scores before softmax `[N, 10]`.

    Args:
        intended_dropout: Drop 0.7, 0.7 and 0.5 of the units while training, as the author
            intended.
        keep_prob_conv: With `intended_dropout`, the fraction of the units that is kept
            after each pooling, in place of 0.3.
        keep_prob_hidden: With `intended_dropout`, the fraction of the hidden units that
            is kept, in place of 0.5.

    Same as the book: Kernels start from the Glorot distribution, biases at zero. The
    second convolution has the defaults of `tf.layers`: VALID padding and no activation.
    **There is no dropout.** The program calls `tf.layers.dropout(x, 0.7, is_training)`.
    The third argument is `noise_shape`, so `training` stays False, and no unit is
    dropped.
    Different: ReLU follows the first pooling. The function is the same
    (`layers.ReluMaxPool`).

    Raises:
        UserError: An argument cannot have this value, or has no effect.

    Source: See `NETWORK.source`.
    """

    def __init__(
        self,
        intended_dropout: bool = False,
        *,
        keep_prob_conv: float = 0.3,
        keep_prob_hidden: float = 0.5,
    ) -> None:
        super().__init__()
        kept_fraction(keep_prob_conv, "keep_prob_conv")
        kept_fraction(keep_prob_hidden, "keep_prob_hidden")
        drops = switch("intended_dropout", intended_dropout)
        if not drops and (keep_prob_conv, keep_prob_hidden) != (0.3, 0.5):
            raise UserError(
                "keep_prob_conv and keep_prob_hidden have no effect, because the book's "
                "dropout never acts; add intended_dropout true"
            )
        self.conv1 = Conv2d(1, 32, 3)
        self.pool1 = ReluMaxPool()  # 28 -> 14
        self.conv2 = Conv2d(32, 64, 3, padding="VALID")  # 14 -> 12
        self.pool2 = MaxPool("VALID")  # 12 -> 6
        self.fc1 = Dense(6 * 6 * 64, 256)
        self.relu = nn.ReLU()
        self.fc2 = Dense(256, 10)
        rate_conv = 1.0 - keep_prob_conv if drops else 0.0
        rate_hidden = 1.0 - keep_prob_hidden if drops else 0.0
        self.dropout1 = _dropout(rate_conv)
        self.dropout2 = _dropout(rate_conv)
        self.dropout3 = _dropout(rate_hidden)
        for layer in (self.conv1, self.conv2, self.fc1, self.fc2):
            glorot_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, pixels: Tensor) -> Tensor:
        pool1 = self.dropout1(self.pool1(self.conv1(as_image(pixels))))
        pool2 = self.dropout2(self.pool2(self.conv2(pool1)))
        fc1 = self.dropout3(self.relu(self.fc1(flatten(pool2))))
        logits: Tensor = self.fc2(fc1)
        return logits


def _dropout(rate: float) -> nn.Module:
    """A dropout that drops this fraction of the units. 0 drops none."""
    return RateDropout(rate) if rate else nn.Identity()


NETWORK = Network(
    name="three_minute_layers",
    module=ThreeMinuteLayers,
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
        reports=(EpochLoss(line="Epoch:  {epoch:04d} Avg. Cost =  {loss:.4f}"),),
        test_line="정확도: {accuracy:g}",
    ),
    source=Source(
        title="3-minute deep learning, 7.3, tf.layers",
        # The repository's file 07 - CNN/02 - tf.layers.py has another network.
        where="the book, chapter 7.3",
    ),
    published=(
        Published(what="test accuracy", value=0.9911),
        Published(
            what="loss per epoch",
            value=(
                *(0.1680, 0.0476, 0.0305, 0.0205, 0.0143, 0.0160, 0.0101, 0.0086),
                *(0.0076, 0.0087, 0.0079, 0.0055, 0.0045, 0.0069, 0.0039),
            ),
        ),
    ),
    departures=(
        Departure(
            name="dropout",
            like="intended",
            text="dropout acts; in the book it never does, because is_training is passed "
            "as noise_shape",
            settings={"intended_dropout": True},
        ),
        Departure(
            name="optimizer",
            like="torch",
            text="torch.optim.Adam adds epsilon after the bias correction; TF1's Adam "
            "adds it before",
            settings={"model.optimizer": "torch_adam", "model.learning_rate": 0.001},
        ),
    ),
)

"""Softmax regression with a hand-written loss: TensorFlow's "MNIST for ML Beginners"."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from mnistport.data.batches import NextBatch
from mnistport.layers import Dense, cross_entropy, cross_entropy_by_hand
from mnistport.network import Departure, Network, Published, Recipe, Source
from mnistport.optimizers import GradientDescent
from mnistport.values import switch


class SoftmaxBeginners(nn.Module):
    """softmax(x W + b): pixels `[N, 784]` in [0, 1] to class probabilities `[N, 10]`.

    Args:
        stable_loss: Return the scores before softmax, of which the loss is then computed
            in a form that is always finite.

    Same as the tutorial: Weights and biases start at zero. The output is a probability.
    If it rounds to 0, its logarithm in the loss is not finite.

    Raises:
        UserError: The argument is not true or false.

    Source: See `NETWORK.source`.
    """

    def __init__(self, *, stable_loss: bool = False) -> None:
        super().__init__()
        stable = switch("stable_loss", stable_loss)
        self.fc = Dense(784, 10)
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)
        self.softmax: nn.Module = nn.Identity() if stable else nn.Softmax(dim=1)

    def forward(self, pixels: Tensor) -> Tensor:
        probability: Tensor = self.softmax(self.fc(pixels))
        return probability


NETWORK = Network(
    name="softmax_beginners",
    module=SoftmaxBeginners,
    loss=cross_entropy_by_hand,
    option_losses={"stable_loss": cross_entropy},
    pure=True,
    recipe=Recipe(
        optimizer=partial(GradientDescent, learning_rate=0.5),
        stream=NextBatch,
        split="first",
        scaling="multiply",
        batch_size=100,
        steps=1_000,
        test_line="{accuracy:g}",
    ),
    source=Source(
        title="MNIST for ML Beginners",
        where="tensorflow/tensorflow, "
        "tensorflow/docs_src/get_started/mnist/beginners.md, at commit 245bdbac5abb",
    ),
    published=(
        Published(what="test accuracy", value=0.92, quote="about 92 %", decimals=2),
    ),
    departures=(
        Departure(
            name="loss",
            like="intended",
            text="the loss is computed from the scores, and is always finite; the "
            "tutorial takes the logarithm of a probability, which can be rounded to 0",
            settings={"stable_loss": True},
        ),
    ),
)

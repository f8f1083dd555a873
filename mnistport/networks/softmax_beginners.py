"""Softmax regression with the loss written out by hand: TensorFlow's "MNIST for ML Beginners"."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from mnistport.data.batches import NextBatch
from mnistport.layers import Dense, cross_entropy_by_hand
from mnistport.network import Network, Published, Recipe, Source
from mnistport.optimizers import GradientDescent


class SoftmaxBeginners(nn.Module):
    """y = softmax(x W + b): pixels `[N, 784]` to class probabilities `[N, 10]`.

    Same as the tutorial: weights and biases start at zero; the output is a probability, so a loss that takes its
    logarithm is not finite where a probability has rounded to 0.

    Source: TensorFlow tutorials, mnist/beginners.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fc = Dense(784, 10)
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)
        self.softmax = nn.Softmax(dim=1)

    def forward(self, pixels: Tensor) -> Tensor:
        probability: Tensor = self.softmax(self.fc(pixels))
        return probability


NETWORK = Network(
    name="softmax_beginners",
    module=SoftmaxBeginners,
    loss=cross_entropy_by_hand,
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
        title="MNIST for ML Beginners", where="TensorFlow r1 tutorials, mnist/beginners"
    ),
    published=(
        Published(what="test accuracy", value=0.92, quote="about 92 %", decimals=2),
    ),
)

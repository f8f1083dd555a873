"""Softmax regression: part 1 of TensorFlow's "Deep MNIST for Experts"."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from mnistport.data.batches import NextBatch
from mnistport.layers import Dense, cross_entropy
from mnistport.network import Network, Published, Recipe, Source
from mnistport.optimizers import GradientDescent


class Softmax(nn.Module):
    """Logits x W + b: pixels `[N, 784]` in [0, 1] to scores before softmax `[N, 10]`.

    Same as the tutorial: Weights and biases start at zero.

    Source: See `NETWORK.source`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fc = Dense(784, 10)
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.fc(pixels)
        return logits


NETWORK = Network(
    name="softmax",
    module=Softmax,
    loss=cross_entropy,
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
        title="Deep MNIST for Experts, part 1",
        where="tensorflow/tensorflow, "
        "tensorflow/docs_src/get_started/mnist/pros.md, at commit 074d88ff06c9; "
        "as a program: tensorflow/examples/tutorials/mnist/mnist_softmax.py, "
        "at commit 0ed1dc250308",
    ),
    published=(Published(what="test accuracy", value=0.9194),),
)

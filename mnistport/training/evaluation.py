"""How many images a network classifies right. Whole counts, so no batch size changes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Score(NamedTuple):
    """Images classified right, of how many."""

    correct: int
    total: int

    @property
    def accuracy(self) -> float:
        """The fraction classified right, 0..1; an exact quotient of counts."""
        return self.correct / self.total


@torch.no_grad()
def score(net: nn.Module, pixels: Tensor, labels: Tensor, batch_size: int = 500) -> Score:
    """Classify images with nothing dropped, in bounded memory.

    Args:
        net: Pixels `[N, 784]` to scores `[N, 10]`.
        pixels: `[N, 784]`, on any device and in any precision.
        labels: Their classes `[N]`.
        batch_size: Images scored at once.
    """
    weight = next(net.parameters())
    correct = 0
    with evaluating(net):
        for start in range(0, len(labels), batch_size):
            part = pixels[start : start + batch_size].to(weight.device, weight.dtype)
            label = labels[start : start + batch_size].to(weight.device)
            correct += int((net(part).argmax(1) == label).sum())
    return Score(correct, len(labels))


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Evaluation mode. Afterwards each layer is in the mode it was in before."""
    training = {layer: layer.training for layer in net.modules()}
    net.eval()
    try:
        yield
    finally:
        for layer, mode in training.items():
            layer.training = mode


class Counts:
    """Adds up a data set's right answers and losses, batch by batch, on the device.

    Attributes:
        images: Classified right, and all: int64 `[2]`.
        loss: Sum of the images' losses, in nats.
    """

    def __init__(self, device: torch.device) -> None:
        self.images = torch.zeros(2, dtype=torch.int64, device=device)
        self.loss = torch.zeros((), dtype=torch.float64, device=device)

    def add(self, output: Tensor, labels: Tensor, losses: Tensor) -> None:
        """Count a batch: scores `[N, 10]`, classes `[N]`, losses `[N]`."""
        self.images[0] += (output.argmax(1) == labels).sum()
        self.images[1] += len(labels)
        self.loss += losses.double().sum()

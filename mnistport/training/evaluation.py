"""Counts how many images a network classifies correctly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mnistport.training.own_batches import checked
from mnistport.values import whole_number


class Score(NamedTuple):
    """How many of a set of images are classified correctly.

    Attributes:
        correct: Images classified correctly.
        total: All images.
    """

    correct: int
    total: int

    @property
    def accuracy(self) -> float:
        """The fraction of images classified correctly, in [0, 1]."""
        return self.correct / self.total


@torch.no_grad()
def score(net: nn.Module, pixels: Tensor, labels: Tensor, batch_size: int = 500) -> Score:
    """Classify images in evaluation mode, so without dropout.

    Args:
        net: A network: pixels `[N, 784]` -> scores `[N, 10]`.
        pixels: The images `[N, 784]`, on any device and in any precision.
        labels: Their classes `[N]`.
        batch_size: Images scored at once. It changes the memory in use, and not the
            score.

    Raises:
        UserError: The images, the classes or the batch size are something else.
    """
    batch_size = whole_number("batch_size", batch_size)
    pixels, labels = checked(pixels, labels)
    weight = next(net.parameters())
    correct = 0
    with evaluating(net):
        for start in range(0, len(labels), batch_size):
            # A copy, for the network may change its input.
            part = pixels[start : start + batch_size]
            part = part.to(weight.device, weight.dtype, copy=True)
            label = labels[start : start + batch_size].to(weight.device)
            correct += int((net(part).argmax(1) == label).sum())
    return Score(correct, len(labels))


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Put a network in evaluation mode. Afterwards, restore the mode of each layer."""
    training = {layer: layer.training for layer in net.modules()}
    net.eval()
    try:
        yield
    finally:
        for layer, mode in training.items():
            layer.training = mode


class Counts:
    """Adds up the correct answers and the losses of batches, on the device.

    Attributes:
        images: The images classified correctly and all images, int64 `[2]`.
        loss: The sum of the images' losses, in nats.
    """

    def __init__(self, device: torch.device) -> None:
        self.images = torch.zeros(2, dtype=torch.int64, device=device)
        self.loss = torch.zeros((), dtype=torch.float64, device=device)

    def add(self, output: Tensor, labels: Tensor, losses: Tensor) -> None:
        """Count a batch, given its scores `[N, 10]`, classes `[N]` and losses `[N]`."""
        self.images[0] += (output.argmax(1) == labels).sum()
        self.images[1] += len(labels)
        self.loss += losses.double().sum()

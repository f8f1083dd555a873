"""Our steps as `mnistport fit` computes them, with the batches and the draws of a lock-step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mnistport.network import Network
from mnistport.speed.listing import listed
from mnistport.step import Backward, Step
from parity.reference import Port

Tensors = Mapping[str, Tensor]


class EngineBackward:
    """Forward and backward by the list of kernel calls that `mnistport fit` repeats on a CPU.

    A list is written down for each size of batch, when the first such batch comes.

    Args:
        network: Says whether the module is pure.
        port: Its loss is used.
        module: The port's module, in training mode.
        optimizer: The module's optimizer.
    """

    def __init__(
        self, network: Network, port: Port, module: nn.Module, optimizer: Optimizer
    ) -> None:
        self.network = network
        self.port = port
        self.module = module
        self.optimizer = optimizer
        self._lists: dict[int, tuple[FedDraws, Backward]] = {}

    def __call__(self, feeds: Tensors, draws: Tensors) -> Tensor:
        """Leave the gradients at the weights; returns the batch's mean loss.

        Args:
            feeds: "x", pixels of the batch, and "y_", its one-hot labels.
            draws: Uniform numbers by the dropout's path, in its input's shape.
        """
        pixels, labels = feeds["x"].flatten(1), feeds["y_"]
        if len(labels) not in self._lists:
            fed = FedDraws(draws)
            with fed.in_place_of_others(self.module):
                self._lists[len(labels)] = fed, self._write_down(fed, pixels, labels)
        fed, backward = self._lists[len(labels)]
        fed.give(draws)
        return backward(pixels, labels)

    def _write_down(self, fed: FedDraws, pixels: Tensor, labels: Tensor) -> Backward:
        def loss(output: Tensor, labels: Tensor) -> Tensor:
            return self.port.loss(output, {"y_": labels})

        step = Step(
            module=self.module,
            loss=loss,
            optimizer=self.optimizer,
            draws=fed,
            pixels=pixels,
            labels=labels,
            num_images=len(labels),
            pure=self.network.pure,
        )
        backward, _ = listed(step)
        return backward


class FedDraws:
    """Draws that are given as numbers, where the engine's own are computed from keys.

    Args:
        draws: The first step's numbers, by the dropout's path. Later ones have their shapes.

    Attributes:
        key: All numbers of the step in one row.
    """

    def __init__(self, draws: Tensors) -> None:
        self.shapes = {path: numbers.shape for path, numbers in draws.items()}
        self.give(draws)

    def give(self, draws: Tensors) -> None:
        """The numbers of the next step."""
        parts = [draws[path].reshape(-1) for path in self.shapes]
        self.key = torch.cat(parts) if parts else torch.zeros(0)

    def keys(self, start: int, length: int) -> Tensor:
        """What an engine asks for before it takes steps: the numbers of this one."""
        return self.key.expand(length, -1)

    def stand_at(self, step: int) -> None:
        """The numbers are given, so the step's number decides nothing."""

    def uniform(self, path: str, unit: Tensor) -> Tensor:
        """The numbers of a dropout."""
        paths = list(self.shapes)
        sizes = [shape.numel() for shape in self.shapes.values()]
        part = torch.split(self.key, sizes)[paths.index(path)]
        return part.view(self.shapes[path])

    @contextmanager
    def in_place_of_others(self, module: nn.Module) -> Iterator[None]:
        """Feed the module's dropouts while the list is written down."""
        dropouts = {path: module.get_submodule(path) for path in self.shapes}
        before: dict[str, Callable[..., Tensor]] = {}
        for path, dropout in dropouts.items():
            before[path] = dropout.draw  # type: ignore[assignment]
            dropout.draw = partial(self.uniform, path)  # type: ignore[assignment]
        try:
            yield
        finally:
            for path, dropout in dropouts.items():
                dropout.draw = before[path]  # type: ignore[assignment]

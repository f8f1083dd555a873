"""Our steps as `mnistport fit` computes them, on the batches and draws of a lock-step."""

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
    """Forward and backward pass by the list of kernel calls that `mnistport fit` uses.

    A list is recorded for each size of batch, when the first such batch comes.

    Args:
        network: Says whether the module is pure.
        port: Gives the loss.
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
        """Store the gradients in `grad` of the weights. Returns the batch's mean loss.

        Args:
            feeds: The batch's pixels "x" and one-hot labels "y_".
            draws: Uniform numbers by the dropout's path, in the shape of its input.
        """
        pixels, labels = feeds["x"].flatten(1), feeds["y_"]
        size = len(labels)
        if size not in self._lists:
            fed = FedDraws(draws)
            with fed.in_place_of_others(self.module):
                self._lists[size] = fed, self._list_of_calls(fed, pixels, labels)
        fed, backward = self._lists[size]
        fed.give(draws)
        return backward(pixels, labels)

    def _list_of_calls(self, fed: FedDraws, pixels: Tensor, labels: Tensor) -> Backward:
        """Record the kernel calls for a batch. Returns a function that repeats them."""

        def loss(output: Tensor, labels: Tensor) -> Tensor:
            return self.port.total_loss(self.module, output, {"y_": labels})

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
    """Draws whose numbers are fed. The engine's own draws are computed from keys.

    Args:
        draws: The first step's numbers, by the dropout's path. Those of later steps must
            have the same shapes.

    Attributes:
        key: All numbers of the step in one row.
    """

    def __init__(self, draws: Tensors) -> None:
        self.shapes = {path: numbers.shape for path, numbers in draws.items()}
        self.give(draws)

    def give(self, draws: Tensors) -> None:
        """Set the numbers of the next step."""
        parts = [draws[path].reshape(-1) for path in self.shapes]
        self.key = torch.cat(parts) if parts else torch.zeros(0)

    def keys(self, start: int, length: int) -> Tensor:
        """The numbers of the present step, once for each of `length` steps."""
        return self.key.expand(length, -1)

    def stand_at(self, step: int) -> None:
        """Do nothing: the numbers are fed, whatever the step."""

    def uniform(self, path: str, unit: Tensor) -> Tensor:
        """The numbers of the dropout at a path."""
        paths = list(self.shapes)
        sizes = [shape.numel() for shape in self.shapes.values()]
        part = torch.split(self.key, sizes)[paths.index(path)]
        return part.view(self.shapes[path])

    @contextmanager
    def in_place_of_others(self, module: nn.Module) -> Iterator[None]:
        """Let the module's dropouts use these numbers inside of the `with` block."""
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

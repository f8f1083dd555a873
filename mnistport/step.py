"""One optimizer step of a run, and the engines that take such steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mnistport.draws import Draws

Backward = Callable[[Tensor, Tensor], Tensor]
"""A function: pixels `[B, F]` and labels `[B]` of a batch -> the loss, a scalar.

It stores the gradient of the loss in `grad` of each trained weight.
"""


@dataclass(frozen=True, kw_only=True)
class Step:
    """Everything that one optimizer step needs.

    Attributes:
        module: The network, in training mode.
        loss: A function: (module's output, labels) -> this rank's part of the mean loss.
        optimizer: Updates the module's weights from their gradients.
        draws: Gives the module's dropouts their random numbers.
        pixels: All training images `[N, F]`, on the device of the weights.
        labels: Their classes `[N]`, int64.
        num_images: This rank's images in each batch.
        sum_over_ranks: Adds up the gradients of all ranks. None if there is one rank.
        precision: Lightning's name of the precision, such as "32-true".
        pure: See `Network.pure`.
    """

    module: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: Optimizer
    draws: Draws
    pixels: Tensor
    labels: Tensor
    num_images: int
    sum_over_ranks: Callable[[], None] | None = None
    precision: str = "32-true"
    pure: bool = False

    def backward(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """Run forward and backward through the module and autograd. See `Backward`."""
        loss = self.loss(self.module(pixels), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def take(self, rows: Tensor, backward: Backward) -> Tensor:
        """Take a step on the images `rows` `[B]`. Returns the loss before the update."""
        self.optimizer.zero_grad()
        pixels = self.pixels.index_select(0, rows)
        labels = self.labels.index_select(0, rows)
        loss = backward(pixels, labels)
        if self.sum_over_ranks is not None:
            self.sum_over_ranks()
        self.optimizer.step()
        return loss


class Engine(Protocol):
    """Takes optimizer steps.

    Attributes:
        name: Its name in `--model.engine`.
        remark: One line for the user, such as a reason for lower speed. "" if there is
            none.
    """

    name: str
    remark: str

    def run(self, start: int, index: Tensor) -> Tensor:
        """Take K steps, the first of which has the number `start`.

        Args:
            start: Steps taken before.
            index: The images of each step, int64 `[K, B]`.

        Returns:
            The loss of each step, `[K]`.
        """


class Eager:
    """Runs the module's Python in each step, with autograd and hooks."""

    name = "eager"
    remark = ""

    def __init__(self, step: Step) -> None:
        self.step = step

    def run(self, start: int, index: Tensor) -> Tensor:
        """See `Engine`."""
        losses = []
        for number, rows in enumerate(index, start):
            self.step.draws.stand_at(number)
            losses.append(self.step.take(rows, self.step.backward))
        return torch.stack(losses)


def conditions(module: nn.Module) -> list[Any]:
    """What an engine was chosen for. When it changes, the engine is chosen anew.

    These are the layers and their settings (a dropout's keep_prob, say), the weights and
    which of them are trained, the buffers, and the hooks.
    """
    settings = [(type(layer), _settings(layer)) for layer in module.modules()]
    weights = [(id(weight), weight.requires_grad) for weight in module.parameters()]
    buffers = [id(buffer) for buffer in module.buffers()]
    return [settings, weights, buffers, hooked_part(module)]


def _settings(layer: nn.Module) -> dict[str, Any]:
    """A layer's attributes. Of a tensor, a function or a list it is which one it is."""
    plain = (bool, int, float, str, tuple, type(None))
    return {
        name: value if isinstance(value, plain) else id(value)
        for name, value in vars(layer).items()
    }


def hooked_part(module: nn.Module) -> str:
    """The name of a layer or weight that has a hook. "" if none has one."""
    kinds = (
        "_forward_hooks",
        "_forward_pre_hooks",
        "_backward_hooks",
        "_backward_pre_hooks",
    )
    everywhere = vars(nn.modules.module)
    if any(everywhere.get(f"_global{kind}") for kind in kinds):
        return "all modules"
    for name, layer in module.named_modules():
        if any(getattr(layer, kind) for kind in kinds):
            return name or type(layer).__name__
    for name, weight in module.named_parameters():
        if weight._backward_hooks or weight._post_accumulate_grad_hooks:
            return name
    return ""

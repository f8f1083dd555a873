"""One optimizer step of a run, and the engine that takes such steps one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mnistport.draws import Draws

Backward = Callable[[Tensor, Tensor], Tensor]
"""Pixels `[B, F]` and labels `[B]` of a batch -> its loss, a number.

Leaves the loss's gradient at each weight that is trained.
"""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one optimizer step consists of.

    Attributes:
        module: The network, in training mode.
        loss: (module's output, labels) -> this rank's part of the batch's mean loss.
        optimizer: Updates the module's weights from their gradients.
        draws: Feeds the module's dropouts.
        pixels: All training images `[N, F]`, where the weights are.
        labels: Their classes `[N]`, int64.
        num_images: This rank's images in each batch.
        sum_over_ranks: Adds up the gradients of all ranks; None where there is one rank.
        precision: Lightning's name of it, such as "32-true".
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
        """Forward and backward through the module and autograd. See `Backward`."""
        loss = self.loss(self.module(pixels), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def take(self, rows: Tensor, backward: Backward) -> Tensor:
        """Take the step on the images `rows` `[B]`; returns its loss, before the update."""
        self.optimizer.zero_grad()
        pixels = self.pixels.index_select(0, rows)
        labels = self.labels.index_select(0, rows)
        loss = backward(pixels, labels)
        if self.sum_over_ranks is not None:
            self.sum_over_ranks()
        self.optimizer.step()
        return loss


class Engine(Protocol):
    """Takes steps.

    Attributes:
        name: As `--model.engine` calls it.
        remark: One line for the user about how it works here; "" for nothing.
    """

    name: str
    remark: str

    def run(self, start: int, index: Tensor) -> Tensor:
        """Take the steps from `start` on, on the images `index` `[K, B]` of each.

        Returns their losses `[K]`.
        """


class Eager:
    """Runs the module's Python in each step: modules, autograd, hooks and all."""

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

    These are the layers' modes, the weights and which of them are trained, and the hooks.
    """
    modes = [layer.training for layer in module.modules()]
    weights = [(id(weight), weight.requires_grad) for weight in module.parameters()]
    return [modes, weights, hooked_part(module)]


def hooked_part(module: nn.Module) -> str:
    """The name of a layer or weight that has a hook; "" where there is none."""
    kinds = (
        "_forward_hooks",
        "_forward_pre_hooks",
        "_backward_hooks",
        "_backward_pre_hooks",
    )
    for name, layer in module.named_modules():
        if any(getattr(layer, kind) for kind in kinds):
            return name or type(layer).__name__
    for name, weight in module.named_parameters():
        if weight._backward_hooks or weight._post_accumulate_grad_hooks:
            return name
    return ""

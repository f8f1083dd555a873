"""`tf.train.AdagradOptimizer`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from mnistport.float32 import float32
from mnistport.values import positive_number


class Adagrad(Optimizer):
    """TF1's Adagrad.

        accumulator += g * g
        w -= rate * g / sqrt(accumulator)

    Same as TF1: The accumulator starts at 0.1, and there is no epsilon. Hyper-parameters
    are rounded to float32.
    Different from `torch.optim.Adagrad`: There, the sum starts at zero, and epsilon is
    added to its root. So its first step moves each weight by the whole rate, however
    small the gradient is.

    Args:
        params: The weights to train.
        learning_rate: Step size.
        initial_accumulator_value: The first value of the accumulator, greater than 0.

    State: `accumulator` for each weight. TF1's slot has the same name.

    Raises:
        UserError: The first value is not greater than 0.

    Source: tensorflow/tensorflow, tensorflow/python/training/adagrad.py, at commit
    802fad8db608; kernel ApplyAdagrad in tensorflow/core/kernels/training_ops.cc, at
    commit b7d3cf66f3d1.
    """

    capturable = True

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        learning_rate: float,
        initial_accumulator_value: float = 0.1,
    ) -> None:
        start = positive_number("initial_accumulator_value", initial_accumulator_value)
        defaults = {"lr": float32(learning_rate), "start": float32(start)}
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add weights, and make their slots with TF1's initial values."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        for weight in group["params"]:
            self.state[weight]["accumulator"] = torch.full_like(
                weight, group["start"], memory_format=torch.preserve_format
            )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step. Weights without a gradient do not change."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if weights:
                self._update(group, weights)
        return loss

    def _update(self, group: dict[str, Any], weights: list[Any]) -> None:
        """Update weights that have a gradient."""
        gradients = [weight.grad for weight in weights]
        accumulator = [self.state[weight]["accumulator"] for weight in weights]
        torch._foreach_addcmul_(accumulator, gradients, gradients)
        root = torch._foreach_sqrt(accumulator)
        torch._foreach_addcdiv_(weights, gradients, root, value=-group["lr"])

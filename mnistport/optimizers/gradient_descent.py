"""`tf.train.GradientDescentOptimizer`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from mnistport.float32 import float32


class GradientDescent(Optimizer):
    """w -= rate * g.

    Args:
        params: What to train.
        learning_rate: Step size; acts as its float32 value.

    Source: tensorflow/python/training/gradient_descent.py, kernel ApplyGradientDescent.
    """

    capturable = True

    def __init__(self, params: Iterable[nn.Parameter], learning_rate: float) -> None:
        super().__init__(params, {"lr": float32(learning_rate)})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step from the gradients that are there."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if weights:
                torch._foreach_add_(
                    weights, [weight.grad for weight in weights], alpha=-group["lr"]
                )
        return loss

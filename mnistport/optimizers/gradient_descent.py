"""`tf.train.GradientDescentOptimizer`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from mnistport.float32 import float32
from mnistport.optimizers.rows import split


class GradientDescent(Optimizer):
    """TF1's gradient descent.

        w -= rate * g

    Same as TF1: The rate is rounded to float32.

    Args:
        params: The weights to train.
        learning_rate: Step size.

    Source: tensorflow/tensorflow, tensorflow/python/training/gradient_descent.py, at
    commit 062dd51b5a43; kernel ApplyGradientDescent in
    tensorflow/core/kernels/training_ops.cc, at commit b7d3cf66f3d1.
    """

    capturable = True

    def __init__(self, params: Iterable[nn.Parameter], learning_rate: float) -> None:
        super().__init__(params, {"lr": float32(learning_rate)})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step. Weights without a gradient do not change."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            weights, sparse = split(group["params"])
            for weight in sparse:
                weight.add_(weight.grad, alpha=-group["lr"])
            if weights:
                gradients = [weight.grad for weight in weights]
                torch._foreach_add_(weights, gradients, alpha=-group["lr"])
        return loss

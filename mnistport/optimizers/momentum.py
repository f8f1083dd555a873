"""`tf.train.MomentumOptimizer`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from mnistport.float32 import float32
from mnistport.optimizers.rows import split, update_rows


class Momentum(Optimizer):
    """TF1's gradient descent with momentum.

        accumulated = mu * accumulated + g
        w -= rate * accumulated

    With `use_nesterov`, the second line is

        w -= rate * g + rate * mu * accumulated

    Same as TF1: The accumulated gradient starts at zero. Hyper-parameters are rounded to
    float32.
    A sparse gradient changes only the rows that were used, and their slots.
    Different from TF1: There, the factor has no default.
    Different from `torch.optim.SGD`: There, hyper-parameters are not rounded, and the
    first step makes the slot.

    Args:
        params: The weights to train.
        learning_rate: Step size.
        momentum: The factor mu of the gradients so far, in [0, 1).
        use_nesterov: Take Nesterov's step, which looks one step ahead.

    State: `momentum` for each weight. TF1's slot has the same name.

    Source: tensorflow/tensorflow, tensorflow/python/training/momentum.py, at commit
    747e2706b980; kernel ApplyMomentum in tensorflow/core/kernels/training_ops.cc, at
    commit b7d3cf66f3d1.
    """

    capturable = True

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        learning_rate: float,
        momentum: float = 0.9,
        use_nesterov: bool = False,
    ) -> None:
        defaults = {
            "lr": float32(learning_rate),
            "mu": float32(momentum),
            "nesterov": use_nesterov,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add weights, and make their slots with TF1's initial values."""
        super().add_param_group(param_group)
        for weight in self.param_groups[-1]["params"]:
            self.state[weight]["momentum"] = torch.zeros_like(
                weight, memory_format=torch.preserve_format
            )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step. Weights without a gradient do not change."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            weights, sparse = split(group["params"])
            if weights:
                gradients = [weight.grad for weight in weights]
                accumulated = [self.state[weight]["momentum"] for weight in weights]
                self._update(group, weights, gradients, [accumulated])
            for weight in sparse:
                slots = [self.state[weight]["momentum"]]
                update_rows(weight, slots, partial(self._update, group))
        return loss

    def _update(
        self,
        group: dict[str, Any],
        weights: list[Any],
        gradients: list[Any],
        slots: list[list[Any]],
    ) -> None:
        """Update weights that have a gradient, and their slots."""
        (accumulated,) = slots
        torch._foreach_mul_(accumulated, group["mu"])
        torch._foreach_add_(accumulated, gradients)
        if not group["nesterov"]:
            torch._foreach_add_(weights, accumulated, alpha=-group["lr"])
            return
        change = torch._foreach_mul(accumulated, group["mu"])
        torch._foreach_mul_(change, group["lr"])
        torch._foreach_add_(change, gradients, alpha=group["lr"])
        torch._foreach_sub_(weights, change)

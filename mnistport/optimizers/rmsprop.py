"""`tf.train.RMSPropOptimizer`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from mnistport.float32 import float32
from mnistport.optimizers.rows import split, update_rows


class RMSProp(Optimizer):
    """TF1's RMSProp.

        rms += (g * g - rms) * (1 - decay)
        momentum = mu * momentum + rate * g / sqrt(rms + epsilon)
        w -= momentum

    Same as TF1: The mean square `rms` starts at one. Hyper-parameters are rounded to
    float32. A sparse gradient changes only the rows that were used, and their slots.
    Different from `torch.optim.RMSprop`: There, the mean square starts at zero, and
    epsilon is added to the root. Its first step is 30 to 30,000 times larger.

    Args:
        params: The weights to train.
        learning_rate: Step size.
        decay: Decay of the mean squared gradient, in [0, 1].
        momentum: The factor mu of the last step, in [0, 1).
        epsilon: The constant under the root.
        initial_rms: Where `rms` starts. TF1 has no such argument.

    State: `rms` and `momentum` for each weight. TF1's slots have the same names.

    Source: tensorflow/tensorflow, tensorflow/python/training/rmsprop.py, at commit
    c652048fd6f6; kernel ApplyRMSProp in tensorflow/core/kernels/training_ops.cc, at
    commit b7d3cf66f3d1.
    """

    capturable = True

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        learning_rate: float,
        decay: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-10,
        initial_rms: float = 1.0,
    ) -> None:
        self.initial_rms = initial_rms
        defaults = {
            "lr": float32(learning_rate),
            "decay": float32(decay),
            "mu": float32(momentum),
            "epsilon": float32(epsilon),
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add weights, and make their slots with TF1's initial values."""
        super().add_param_group(param_group)
        layout = torch.preserve_format
        for weight in self.param_groups[-1]["params"]:
            slots = self.state[weight]
            slots["rms"] = torch.full_like(weight, self.initial_rms, memory_format=layout)
            slots["momentum"] = torch.zeros_like(weight, memory_format=layout)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step. Weights without a gradient do not change."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            weights, sparse = split(group["params"])
            if weights:
                gradients = [weight.grad for weight in weights]
                kinds = ("rms", "momentum")
                slots = [[self.state[each][kind] for each in weights] for kind in kinds]
                self._update(group, weights, gradients, slots)
            for weight in sparse:
                state = self.state[weight]
                update = partial(self._update, group)
                update_rows(weight, [state["rms"], state["momentum"]], update)
        return loss

    def _update(
        self,
        group: dict[str, Any],
        weights: list[Any],
        gradients: list[Any],
        slots: list[list[Any]],
    ) -> None:
        """Update weights that have a gradient, and their slots."""
        rms, momentum = slots
        squares = torch._foreach_mul(gradients, gradients)
        torch._foreach_lerp_(rms, squares, 1.0 - group["decay"])
        root = torch._foreach_add(rms, group["epsilon"])
        torch._foreach_sqrt_(root)
        torch._foreach_mul_(momentum, group["mu"])
        torch._foreach_addcdiv_(momentum, gradients, root, value=group["lr"])
        torch._foreach_sub_(weights, momentum)

"""`tf.train.RMSPropOptimizer`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from mnistport.float32 import float32


class RMSProp(Optimizer):
    """TF1's RMSProp: the mean square starts at one, epsilon inside the root, the rate inside the momentum.

        rms += (g * g - rms) * (1 - decay)
        momentum = mu * momentum + rate * g / sqrt(rms + epsilon)
        w -= momentum

    `torch.optim.RMSprop` starts its average at zero and adds epsilon to the root: its first step is 30 to 30,000 times
    larger.

    Args:
        params: What to train.
        learning_rate: Step size.
        decay: Decay of the mean squared gradient (TF1's second positional argument).
        momentum: mu above.
        epsilon: Added under the root.

    State: `rms` and `momentum` for each weight, as TF's slots are called.

    Source: tensorflow/python/training/rmsprop.py, kernel ApplyRMSProp.
    """

    capturable = True

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        learning_rate: float = 0.001,
        decay: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-10,
    ) -> None:
        defaults = {
            "lr": float32(learning_rate),
            "decay": float32(decay),
            "mu": float32(momentum),
            "epsilon": float32(epsilon),
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add weights, with slots as TF1 initialises them."""
        super().add_param_group(param_group)
        for weight in self.param_groups[-1]["params"]:
            self.state[weight]["rms"] = torch.ones_like(
                weight, memory_format=torch.preserve_format
            )
            self.state[weight]["momentum"] = torch.zeros_like(
                weight, memory_format=torch.preserve_format
            )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step from the gradients that are there."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            gradients = [weight.grad for weight in weights]
            rms = [self.state[weight]["rms"] for weight in weights]
            momentum = [self.state[weight]["momentum"] for weight in weights]
            torch._foreach_lerp_(
                rms, torch._foreach_mul(gradients, gradients), 1.0 - group["decay"]
            )
            root = torch._foreach_add(rms, group["epsilon"])
            torch._foreach_sqrt_(root)
            torch._foreach_mul_(momentum, group["mu"])
            torch._foreach_addcdiv_(momentum, gradients, root, value=group["lr"])
            torch._foreach_sub_(weights, momentum)
        return loss

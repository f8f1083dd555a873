"""`tf.train.AdadeltaOptimizer`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from mnistport.float32 import float32


class Adadelta(Optimizer):
    """TF1's Adadelta.

        accum = rho * accum + (1 - rho) * g * g
        update = sqrt(accum_update + epsilon) / sqrt(accum + epsilon) * g
        accum_update = rho * accum_update + (1 - rho) * update * update
        w -= rate * update

    Same as TF1: Both means start at zero. Hyper-parameters are rounded to float32. With
    the default rate, 0.001, the weights hardly move; the method's authors have 1.
    Different from `torch.optim.Adadelta`: There, the defaults are a rate of 1, rho 0.9
    and epsilon 1e-6.

    Args:
        params: The weights to train.
        learning_rate: Step size.
        rho: Decay of the two means, in [0, 1).
        epsilon: The constant under both roots.

    State: `accum` and `accum_update` for each weight. TF1's slots have the same names.

    Source: tensorflow/tensorflow, tensorflow/python/training/adadelta.py, at commit
    2b223870cc91; kernel ApplyAdadelta in tensorflow/core/kernels/training_ops.cc, at
    commit b7d3cf66f3d1.
    """

    capturable = True

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        learning_rate: float = 0.001,
        rho: float = 0.95,
        epsilon: float = 1e-8,
    ) -> None:
        defaults = {
            "lr": float32(learning_rate),
            "rho": float32(rho),
            "epsilon": float32(epsilon),
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add weights, and make their slots with TF1's initial values."""
        super().add_param_group(param_group)
        for weight in self.param_groups[-1]["params"]:
            for slot in ("accum", "accum_update"):
                self.state[weight][slot] = torch.zeros_like(
                    weight, memory_format=torch.preserve_format
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
        accum = [self.state[weight]["accum"] for weight in weights]
        accum_update = [self.state[weight]["accum_update"] for weight in weights]
        rho, rest = group["rho"], 1.0 - group["rho"]
        torch._foreach_mul_(accum, rho)
        torch._foreach_addcmul_(accum, gradients, gradients, value=rest)
        root = torch._foreach_add(accum, group["epsilon"])
        torch._foreach_sqrt_(root)
        update = torch._foreach_add(accum_update, group["epsilon"])
        torch._foreach_sqrt_(update)
        torch._foreach_div_(update, root)
        torch._foreach_mul_(update, gradients)
        torch._foreach_mul_(accum_update, rho)
        torch._foreach_addcmul_(accum_update, update, update, value=rest)
        torch._foreach_add_(weights, update, alpha=-group["lr"])

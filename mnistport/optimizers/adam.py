"""`tf.train.AdamOptimizer`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from mnistport.layers import float32
from mnistport.network import Parameters


class Adam(Optimizer):
    """TF1's Adam: epsilon outside the bias correction, float32 hyper-parameters and beta powers.

        m += (g - m) * (1 - beta1)
        v += (g * g - v) * (1 - beta2)
        w -= rate * sqrt(1 - beta2_power) / (1 - beta1_power) * m / (sqrt(v) + epsilon)

    `beta1_power` and `beta2_power` start at beta1 and beta2 and are multiplied up after each step, in float32 whatever
    the weights are. `torch.optim.Adam` divides v by its correction first, so its epsilon acts differently at each
    step; no constant epsilon repairs that.

    Args:
        params: What to train.
        learning_rate: Step size.
        beta1: Decay of the mean gradient m.
        beta2: Decay of the mean squared gradient v.
        epsilon: Added to sqrt(v).

    State: `m` and `v` for each weight, as TF's slots are called; the two powers in the parameter group, which move to
    the weights' device with the first step, so that a step can be captured as a CUDA graph.

    Source: tensorflow/python/training/adam.py, kernel ApplyAdam. (The docstring there prints another correction than
    the kernel computes; this is the kernel's.)
    """

    capturable = True

    def __init__(
        self,
        params: Parameters,
        learning_rate: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
    ) -> None:
        defaults = {
            "lr": float32(learning_rate),
            "beta1": float32(beta1),
            "beta2": float32(beta2),
            "epsilon": float32(epsilon),
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add weights, with slots and beta powers as TF1 initialises them."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        group["beta1_power"] = torch.tensor(group["beta1"], dtype=torch.float32)
        group["beta2_power"] = torch.tensor(group["beta2"], dtype=torch.float32)
        for weight in group["params"]:
            for slot in ("m", "v"):
                self.state[weight][slot] = torch.zeros_like(weight, memory_format=torch.preserve_format)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step from the gradients that are there."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if weights:
                self._update(group, weights)
            for beta in ("beta1", "beta2"):
                group[f"{beta}_power"].mul_(group[beta])  # in place: a CUDA graph holds its address
        return loss

    def _update(self, group: dict[str, Any], weights: list[Tensor]) -> None:
        """One fused pass over the weights.

        torch's fused kernel applies its own bias correction, 1 - beta ** step. With the step at infinity that is
        exactly 1, and TF1's correction goes in through the rate.
        """
        if weights[0].is_cuda:
            for power in ("beta1_power", "beta2_power"):
                group[power] = group[power].to(weights[0].device)
        torch._fused_adam_(
            weights,
            [weight.grad for weight in weights if weight.grad is not None],
            [self.state[weight]["m"] for weight in weights],
            [self.state[weight]["v"] for weight in weights],
            [],
            [_endless(weights[0].device)] * len(weights),
            lr=corrected_rate(group, weights[0].dtype),
            beta1=group["beta1"],
            beta2=group["beta2"],
            weight_decay=0.0,
            eps=group["epsilon"],
            amsgrad=False,
            maximize=False,
        )


@cache
def _endless(device: torch.device) -> Tensor:
    return torch.full((), torch.inf, device=device)


def corrected_rate(group: dict[str, Any], dtype: torch.dtype) -> float | Tensor:
    """rate * sqrt(1 - beta2_power) / (1 - beta1_power), computed in the weights' own precision as the kernel does.

    On a GPU it stays there, a tensor.
    """
    if group["beta1_power"].is_cuda:
        correction: Tensor = torch.sqrt(1 - group["beta2_power"].to(dtype)) * group["lr"]
        correction /= 1 - group["beta1_power"].to(dtype)
        return correction
    real = np.float64 if dtype == torch.float64 else np.float32
    rate, power1, power2 = real(group["lr"]), real(group["beta1_power"].item()), real(group["beta2_power"].item())
    return float(rate * np.sqrt(real(1) - power2) / (real(1) - power1))
